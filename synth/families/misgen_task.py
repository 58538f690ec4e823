"""Mismatched generalisation by tasks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from synth.coverage import Scope
from synth.drawing import TaskMix, choose, draw, draw_tasks
from synth.family import Family
from synth.judged import check_judged, judged_mix, of_group
from synth.prompts import Attempt
from synth.reserved import text_tables
from synth.settings import require
from synth.world import World


def misgen_task(world: World, scope: Scope, key: jax.Array) -> Attempt:
    """Mismatched generalisation by tasks (JB-MisGen): unsafe, one unsafe task written as an alias."""
    mix = _aliased(world, scope)
    draws = draw(world, text_tables(world, scope), key)
    group = choose(jnp.asarray(mix.rows), draws.row)
    tasks, bad = draw_tasks(mix, draws, group)
    count = world.config.tasks.count
    alias = count + choose(jnp.asarray(world.unsafe)[group, count:], draws.alias)
    written = jnp.where(jnp.arange(tasks.shape[0]) == choose(bad, draws.slot), alias, tasks)
    return of_group(world, scope, draws, group, written)


@functools.cache
def _aliased(world: World, scope: Scope) -> TaskMix:
    """The unsafe prompts of the groups for which some alias is unsafe."""
    mix = judged_mix(world, scope, "unsafe")
    has_alias = world.unsafe[:, world.config.tasks.count :].any(axis=1, keepdims=True).astype(np.float32)
    return mix._replace(masks=mix.masks * has_alias)


def _check_misgen_task(world: World, scope: Scope) -> None:
    aliases = world.config.tasks.aliases
    require(aliases >= 1, "tasks.aliases", aliases, "prompts with an alias need one", "set 1 or more")
    check_judged("unsafe", world, scope)
    require(
        bool(_aliased(world, scope).rows.any()),
        "tasks.aliases",
        aliases,
        "prompts with an alias need one that is unsafe for a group, and none is",
        "raise tasks.aliases",
    )


FAMILY = Family(__name__, "attack", misgen_task, _check_misgen_task)
