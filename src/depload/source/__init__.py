"""What the user hands over: telling what it is, and what lies where in it."""
