"""Mismatched generalisation by text: unsafe, the text by productions that tuning does not cover.

No text is one that tuning's own productions derive, from whatever concept.
"""

from synth.families import unsafe
from synth.reserved import reserving

FAMILY = reserving(__name__, unsafe.FAMILY)
