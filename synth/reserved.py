"""Texts by the productions that tuning covers, or by those that it leaves out and that no covered one derives."""

import functools
import itertools
from dataclasses import replace

import jax
import numpy as np

from synth.coverage import Scope
from synth.derive import Tables
from synth.family import Family
from synth.prompts import Attempt
from synth.settings import naming, require
from synth.trees import TREES, sample_tree
from synth.world import World, check_lengths, concept_tables, is_covered_text


def reserving(module: str, family: Family) -> Family:
    """`family` as an attack defined in `module`: its texts are by the productions that tuning leaves out."""

    def sample(world: World, scope: Scope, key: jax.Array) -> Attempt:
        return family.sample(world, replace(scope, reserved=True), key)

    def check(world: World, scope: Scope) -> None:
        family.check(world, replace(scope, reserved=True))

    return Family(module, "attack", sample, check)


def productions(scope: Scope) -> str:
    """Which productions texts are written with, as `World.grammars_of` names them."""
    return "reserved" if scope.reserved else "covered"


def text_tables(world: World, scope: Scope) -> Tables:
    """What texts of concepts are derived by."""
    return concept_tables(world, productions(scope))


def unseen(world: World, scope: Scope, attempt: Attempt) -> Attempt:
    """Where `scope` reserves productions, accepted only if tuning's productions do not derive the text too."""
    if not scope.reserved:
        return attempt
    prompt, accepted = attempt
    return Attempt(prompt, accepted & ~is_covered_text(world, prompt.text, prompt.length))


def check_text(world: World, scope: Scope) -> None:
    """Raises SettingError unless every concept in `scope` has texts of the allowed lengths."""
    if scope.reserved:
        check_reserved(world)
    if world.config.text.length is not None:
        made = [world.grammars_of(productions(scope))[number] for number in scope.grammars]
        with naming("text"):
            check_lengths("length", world.config.text.length, made, [world.concepts[i] for i in scope.concepts])
    if scope.reserved:
        check_unseen(world, scope)


def check_reserved(world: World) -> None:
    """Raises SettingError unless tuning leaves out a production of every concept."""
    pairs = zip(world.covered_grammars, world.grammars, strict=True)
    require(
        all(len(part.rules[c]) < len(whole.rules[c]) for part, whole in pairs for c in world.concepts),
        "coverage.productions",
        world.config.coverage.productions,
        "leaves some concept no production that tuning does not cover",
        "lower it, to 0.8 say, or raise grammar.productions",
    )


@functools.cache
def check_unseen(world: World, scope: Scope) -> None:
    """Raises SettingError if a group has no text by reserved productions that covered ones do not derive too.

    As far as seen in derivations from each of its concepts.
    """
    numbers = {letter: i for i, letter in enumerate(world.vocab.letters)}
    rng = np.random.default_rng(world.config.seed)
    low, high = world.text_lengths

    def is_unseen(grammar: int, concept: str) -> bool:
        tree = sample_tree(world.reserved_grammars[grammar], concept, rng)
        text = np.array([numbers[letter] for letter, _ in tree.letters()])
        fits = low <= text.size <= high
        return fits and not is_covered_text(world, np.pad(text, (0, world.max_text - text.size)), text.size)

    for group, name in enumerate(world.groups):
        concepts = [world.concepts[i] for i in scope.concepts if world.group_of[i] == group]
        tries = itertools.product(range(TREES), scope.grammars, concepts)
        require(
            not concepts or any(is_unseen(grammar, concept) for _, grammar, concept in tries),
            "coverage.productions",
            world.config.coverage.productions,
            f"leaves group {name} no text that the productions which tuning covers do not derive as well",
            "change it, or raise grammar.symbols or grammar.branching for fewer productions in common",
        )
