"""Worlds of task x concept prompts with known ground truth.

Pure functions of (world, key): no files, no global state. Start at `synth.world`.
"""
