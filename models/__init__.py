"""A small transformer, ways in and out of it, and its training. Imports `synth` only."""
