"""Runs the jobs of a bundle on this machine."""
