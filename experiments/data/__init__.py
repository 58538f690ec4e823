"""Prompts of a world, to export or to look at."""
