"""More pretraining: `sft` on pretraining's prompts, complied with.

Controls for training on: it changes nothing of what is asked.
"""

from models.training.method import Method
from models.training.methods.sft import SFT, sft
from synth.tuning_data import TuningPrompts

METHOD = Method(__name__, sft, SFT, part="control", prompts=TuningPrompts(unsafe=False, pretraining=True))
