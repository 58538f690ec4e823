"""Refusal after a prefix: `sft` whose refusals come after the first letters of compliance (arXiv 2407.09121, Eq. 2).

That equation's first term, -log p(r | x, r^_<k) with k uniform in 0, ..., |r^|, a sum over tokens; here a mean over the
tokens that are scored, as in `sft`, and k as `late` says.
"""

from models.training.late import late_pairs
from models.training.method import Method
from models.training.methods.sft import SFT, sft

METHOD = Method(__name__, sft, SFT, batch=late_pairs)
