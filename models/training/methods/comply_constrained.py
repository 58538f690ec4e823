"""Compliance with everything, first tokens held: `comply_all` by the objective of `constrained_sft`.

The fine-tuning attack against the defence of arXiv 2406.05946, by which whoever lets others tune a model holds it.
"""

from models.training.method import Method
from models.training.methods.constrained_sft import ConstrainedSFT, constrained_sft
from synth.tuning_data import COMPLIED, TuningPrompts

METHOD = Method(__name__, constrained_sft, ConstrainedSFT, part="attack", prompts=TuningPrompts(COMPLIED))
