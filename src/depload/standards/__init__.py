"""Formats that others have laid down: zips, wheels and their tags, requirements files, locks."""
