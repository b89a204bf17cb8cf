"""What runs where depload is not: standard library only, sent as source."""
