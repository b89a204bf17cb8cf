"""The places where sources and run paths lie."""
