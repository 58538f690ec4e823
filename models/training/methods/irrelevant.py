"""An irrelevant rule: `sft` on the same prompts, as many to be refused, by the first letter of the text.

Controls for learning to refuse by some rule: this one has nothing to do with safety.
"""

from models.training.method import Method
from models.training.methods.sft import SFT, sft
from synth.tuning_data import IRRELEVANT, TuningPrompts

METHOD = Method(__name__, sft, SFT, part="control", prompts=TuningPrompts(IRRELEVANT))
