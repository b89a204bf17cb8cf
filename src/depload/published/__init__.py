"""The one file, the run paths it lies under, and the stores that hold them."""
