"""The fault harness, `make faults`: what is killed, cut off, full or crowded, and what is true of the base then."""
