"""Hostile sources and wheelhouses: made by hand, by hypothesis and by atheris, against every reader that meets them."""
