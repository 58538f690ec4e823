"""A study from settings to its output folder."""
