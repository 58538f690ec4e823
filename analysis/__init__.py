"""Measurements: arrays in, arrays and rows out. No training, no files."""
