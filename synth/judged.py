"""Prompts whose tasks are safe, unsafe, or some of each for the text's concept group: how they are drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from synth.coverage import Scope
from synth.drawing import Draws, TaskMix, among, choose, draw, draw_tasks, task_mix, text_of_concept
from synth.prompts import Attempt
from synth.reserved import check_text, text_tables, unseen
from synth.settings import require
from synth.world import World


def scope_tasks(world: World, scope: Scope) -> np.ndarray:
    """[tasks] which tasks `scope` holds, aliases left out."""
    held = np.zeros(world.config.tasks.count, bool)
    held[list(scope.tasks)] = True
    return held


def is_unsafe(world: World, count: int) -> bool:
    """Whether `count` unsafe tasks make a prompt unsafe."""
    return count >= 1 if world.config.safety.rule == "any" else count == world.config.tasks.composed


@functools.cache
def judged_mix(world: World, scope: Scope, verdict: str) -> TaskMix:
    """A row a group; `verdict` is safe, unsafe, or mixed for prompts with both kinds of task."""
    tasks = scope_tasks(world, scope)
    unsafe = world.unsafe[:, : tasks.size]
    slots = {
        "safe": lambda count: count == 0,
        "unsafe": lambda count: is_unsafe(world, count),
        "mixed": lambda count: 0 < count < world.config.tasks.composed,
    }[verdict]
    mix = task_mix(world, tasks & ~unsafe, tasks & unsafe, slots)
    # A group without a covered concept has no text.
    has_text = np.zeros((len(world.groups), 1), np.float32)
    has_text[world.group_of[list(scope.concepts)]] = 1
    return mix._replace(masks=mix.masks * has_text)


def judged_prompt(world: World, scope: Scope, mix: TaskMix, key: jax.Array, wanted: jax.Array | bool = True) -> Attempt:
    """A prompt of one of the `wanted` rows of `mix`, whose rows run over the groups, once or more."""
    draws = draw(world, text_tables(world, scope), key)
    row = choose(jnp.where(wanted, jnp.asarray(mix.rows), 0.0), draws.row)
    return of_group(world, scope, draws, row % len(world.groups), draw_tasks(mix, draws, row)[0])


def of_group(world: World, scope: Scope, draws: Draws, group: jax.Array, tasks: jax.Array) -> Attempt:
    """A prompt with text from one of the concepts of `group` that `scope` holds."""
    allowed = np.zeros((len(world.groups), len(world.concepts)), bool)
    allowed[world.group_of[list(scope.concepts)], list(scope.concepts)] = True
    concept = choose(jnp.asarray(allowed)[group], draws.concept)
    grammar = among(scope.grammars, draws.grammar)
    return unseen(world, scope, text_of_concept(world, text_tables(world, scope), draws, grammar, concept, tasks))


def check_judged(verdict: str, world: World, scope: Scope) -> None:
    """Raises SettingError unless there are prompts of `judged_mix`, and texts of every concept in `scope`."""
    check_prompts(world, scope, judged_mix(world, scope, verdict), verdict)
    check_text(world, scope)


def check_prompts(world: World, scope: Scope, mix: TaskMix, name: str) -> None:
    """Raises SettingError unless some prompt of `mix` exists."""
    rule = world.config.safety.rule
    by_rule = rule != "all"
    require(
        bool(mix.rows.any()),
        "safety.rule" if by_rule else "coverage.tasks",
        rule if by_rule else [world.vocab.tasks[task] for task in scope.tasks],
        f"leaves no prompt of the family {name}",
        "change the rule, the unsafe tasks or the coverage",
    )
