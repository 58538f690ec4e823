"""Continued fine-tuning: `sft` on safe prompts alone, complied with.

Controls for tuning as such: further training on a part of the tasks, without a refusal.
"""

from models.training.method import Method
from models.training.methods.sft import SFT, sft
from synth.tuning_data import TuningPrompts

METHOD = Method(__name__, sft, SFT, part="control", prompts=TuningPrompts(unsafe=False))
