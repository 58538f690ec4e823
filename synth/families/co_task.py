"""Competing objectives by tasks."""

import jax

from synth.coverage import Scope
from synth.family import Family
from synth.judged import check_prompts, judged_mix, judged_prompt
from synth.prompts import Attempt
from synth.reserved import check_text
from synth.settings import require
from synth.world import World


def co_task(world: World, scope: Scope, key: jax.Array) -> Attempt:
    """Competing objectives by tasks (JB-CO-Task): at least one task safe, one unsafe."""
    return judged_prompt(world, scope, judged_mix(world, scope, "mixed"), key)


def _check_co_task(world: World, scope: Scope) -> None:
    composed, rule = world.config.tasks.composed, world.config.safety.rule
    require(composed >= 2, "tasks.composed", composed, "co_task mixes two kinds of task", "set 2")
    require(rule != "any", "safety.rule", rule, "co_task prompts are unsafe by this rule", "set safety.rule=all")
    check_prompts(world, scope, judged_mix(world, scope, "mixed"), "co_task")
    check_text(world, scope)


FAMILY = Family(__name__, "attack", co_task, _check_co_task)
