"""Mismatched generalisation by an alias and by text at once."""

from synth.families import misgen_task
from synth.reserved import reserving

FAMILY = reserving(__name__, misgen_task.FAMILY)
