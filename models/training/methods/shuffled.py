"""Shuffled labels: `sft` on the same prompts, as many to be refused, chosen by chance.

Controls for refusing without a rule: tuning from which nothing can be learnt but how often to refuse.
"""

from models.training.method import Method
from models.training.methods.sft import SFT, sft
from synth.tuning_data import SHUFFLED, TuningPrompts

METHOD = Method(__name__, sft, SFT, part="control", prompts=TuningPrompts(SHUFFLED))
