"""Competing objectives by text."""

import functools
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from synth.coverage import Scope
from synth.derive import derive
from synth.drawing import TaskMix, among, below, choose, draw, draw_tasks, task_mix, window
from synth.family import Family
from synth.judged import check_prompts, is_unsafe, scope_tasks
from synth.prompts import Attempt
from synth.reserved import check_reserved, productions, unseen
from synth.settings import require
from synth.trees import TREES, sample_tree
from synth.world import World, ancestor_tables


def co_text(world: World, scope: Scope, key: jax.Array) -> Attempt:
    """Competing objectives by text (JB-CO-Text): a prompt safe for one group, unsafe for another.

    The text is a window, of the length of any other text, of a derivation from the groups'
    lowest common ancestor; it holds letters of both groups.
    """
    mix, pairs = _competing(world, scope)
    tables = ancestor_tables(world, productions(scope))
    draws = draw(world, tables, key)
    row = choose(jnp.asarray(mix.rows), draws.row)
    tasks, _ = draw_tasks(mix, draws, row)
    grammar = among(scope.grammars, draws.grammar)
    text = derive(tables, grammar, below(draws.concept, len(world.ancestors)), draws.text)
    prompt, concepts = window(world, draws, grammar, tasks, text)
    outside = [concept not in scope.concepts for concept in range(len(world.concepts))]
    fits = ~jnp.any(concepts & jnp.array(outside)) & (prompt.length >= world.text_lengths[0])
    return unseen(world, scope, Attempt(prompt, fits & jnp.all(prompt.groups[jnp.asarray(pairs)[row]])))


def _check_co_text(world: World, scope: Scope) -> None:
    require(
        len(world.ancestors) > 0,
        "grammar.concept_level",
        "no symbol is above concepts of two groups",
        "co_text derives text from one",
        "set concept_level to 2 or more, or give your grammar a start",
    )
    if scope.reserved:
        check_reserved(world)
    check_prompts(world, scope, _competing(world, scope)[0], "co_text")


@functools.cache
def _competing(world: World, scope: Scope) -> tuple[TaskMix, np.ndarray]:
    """A row for each ordered pair [rows, 2] of groups: safe for the first, unsafe for the second."""
    numbers = range(len(world.groups))
    pairs = np.array([(one, other) for one in numbers for other in numbers if one != other])
    tasks = scope_tasks(world, scope)
    first, second = (world.unsafe[pairs[:, side], : tasks.size] for side in (0, 1))
    harmless = tasks & ~first
    mix = task_mix(world, harmless & ~second, harmless & second, partial(is_unsafe, world))
    meet = _meeting(world, scope)[pairs[:, 0], pairs[:, 1]]
    return mix._replace(masks=mix.masks * meet[:, None]), pairs


def _meeting(world: World, scope: Scope) -> np.ndarray:
    """[groups, groups] 1 where letters of both stand within a text of one another, as far as seen.

    Seen in derivations from the groups' lowest common ancestors; letters of concepts that
    `scope` does not hold part them.
    """
    meet = np.zeros((len(world.groups), len(world.groups)), np.float32)
    owners = {concept: int(group) for concept, group in zip(world.concepts, world.group_of, strict=True)}
    held = {world.concepts[concept] for concept in scope.concepts}
    rng = np.random.default_rng(world.config.seed)
    grammars = [world.grammars_of(productions(scope))[number] for number in scope.grammars]
    for grammar, ancestor in itertools.product(grammars, world.ancestors):
        for _ in range(TREES):
            seen: dict[int, int] = {}
            for place, (_, concept) in enumerate(sample_tree(grammar, ancestor, rng).letters(owners)):
                if concept is not None and concept not in held:
                    seen = {}
                elif concept is not None:
                    seen[owners[concept]] = place
                    near = [group for group, last in seen.items() if place - last < world.max_text]
                    meet[owners[concept], near] = meet[near, owners[concept]] = 1
    np.fill_diagonal(meet, 0)
    return meet


FAMILY = Family(__name__, "attack", co_text, _check_co_text)
