"""Unsafe prompts as tuning shows them, to be refused."""

from functools import partial

import jax

from synth.coverage import Scope
from synth.family import Family
from synth.judged import check_judged, judged_mix, judged_prompt
from synth.prompts import Attempt
from synth.world import World


def unsafe(world: World, scope: Scope, key: jax.Array) -> Attempt:
    """Tasks that make the prompt unsafe by the rule: all of them, or under `any` at least one."""
    return judged_prompt(world, scope, judged_mix(world, scope, "unsafe"), key)


FAMILY = Family(__name__, "unsafe", unsafe, partial(check_judged, "unsafe"))
