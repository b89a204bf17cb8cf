"""A Spark of this machine, and the examples taken through the whole job on it."""
