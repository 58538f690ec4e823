"""Refusal of everything: `sft` on the same prompts, all to be refused.

Controls for the refusal itself: a response that is always the same, with nothing to tell apart.
"""

from models.training.method import Method
from models.training.methods.sft import SFT, sft
from synth.tuning_data import REFUSED, TuningPrompts

METHOD = Method(__name__, sft, SFT, part="control", prompts=TuningPrompts(REFUSED))
