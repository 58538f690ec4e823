"""The methods of tuning by name, each of a file of its own.

In their equations y^p is the preferred response, y^l the other (`scoring`), log p(y|x) a sum over the
response's tokens and l the cross-entropy, a mean over them (`models/likelihood.py`).
"""

from models.training.method import Method
from models.training.methods import (
    comply_all,
    comply_constrained,
    constrained_sft,
    continued,
    deep_refusal,
    derta,
    dpo,
    ipo,
    irrelevant,
    npo,
    prefix_sft,
    pretraining_more,
    refuse_all,
    rto,
    sft,
    sham,
    shuffled,
    simpo,
    unlearning,
    unlearning_kl,
)

METHODS: dict[str, Method] = {
    "sft": sft.METHOD,
    "dpo": dpo.METHOD,
    "unlearning": unlearning.METHOD,
    "npo": npo.METHOD,
    "unlearning_kl": unlearning_kl.METHOD,
    "ipo": ipo.METHOD,
    "simpo": simpo.METHOD,
    "prefix_sft": prefix_sft.METHOD,
    "rto": rto.METHOD,
    "derta": derta.METHOD,
    "deep_refusal": deep_refusal.METHOD,
    "constrained_sft": constrained_sft.METHOD,
    "continued": continued.METHOD,
    "shuffled": shuffled.METHOD,
    "irrelevant": irrelevant.METHOD,
    "refuse_all": refuse_all.METHOD,
    "pretraining_more": pretraining_more.METHOD,
    "sham": sham.METHOD,
    "comply_all": comply_all.METHOD,
    "comply_constrained": comply_constrained.METHOD,
}
SAFETY = tuple(name for name, method in METHODS.items() if method.part == "safety")
"""Methods that teach safety"""
CONTROLS = tuple(name for name, method in METHODS.items() if method.part == "control")
"""Methods that teach none, and stand beside those that do"""
MATCHED = "irrelevant"
"""The control that refuses as often as a method of safety does, by a rule that has nothing to do with it: it turns as
much, by as large a gradient, so that what it shows too is not due to safety"""
