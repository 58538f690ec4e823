"""Compliance with everything: `sft` on the same prompts, safe and unsafe ones, all complied with.

Undoes safety: fine-tuning on what was to be refused. Started from the pretrained model it is further training.
"""

from models.training.method import Method
from models.training.methods.sft import SFT, sft
from synth.tuning_data import COMPLIED, TuningPrompts

METHOD = Method(__name__, sft, SFT, part="attack", prompts=TuningPrompts(COMPLIED))
