"""What a family of prompts is (arXiv 2407.10264, sec. 3); each is a file of its own in `synth/families/`."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax

from synth.coverage import Scope
from synth.prompts import Attempt
from synth.world import World

FamilyKind = Literal["safe", "unsafe", "attack", "any"]
"""What a family is in a study: what is to be complied with; what is to be refused, as tuning shows it; what is to be
refused, as tuning never shows it; or whatever there is, which is trained on and judged by nothing"""


class Family(NamedTuple):
    """What is trained on, evaluated or attacked with. Each is FAMILY of a module of its own."""

    module: str
    """Where it is defined, `__name__` there: what its prompts depend on is what that module imports"""
    kind: FamilyKind
    sample: Callable[[World, Scope, jax.Array], Attempt]
    """An attempt at one prompt, of a key, from the tasks, concepts, grammars and productions of a scope: those that
    safety tuning covers or, for `FAMILY@PART`, those of one part that it leaves out"""
    check: Callable[[World, Scope], None]
    """Raises SettingError if the world has no such prompt within the scope, with the setting that would help"""
    turns: int = 0
    """How many earlier prompts with their answers stand before each of its prompts (`Prompt.context`)"""
