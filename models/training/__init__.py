"""Objectives, data and the training loop."""
