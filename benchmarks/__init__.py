"""Measures depload side by side with other ways of bringing packages to Python processes: ``python -m benchmarks``."""
