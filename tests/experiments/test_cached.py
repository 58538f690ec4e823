"""What is drawn or built once holds numbers, whoever asks for it first: also a function that is being compiled."""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import analysis
import experiments
from experiments.stages import prompts, responses
from synth import evaluation
from synth.grammar_source import Grammars
from synth.random_grammar import GrammarConfig
from synth.world import WorldConfig

BUILDERS: dict[str, Callable[[WorldConfig], Any]] = {
    "experiments.stages.prompts._quickly": lambda world: prompts.check(world, ()),
    "experiments.stages.responses._in_words": lambda world: responses._in_words(Grammars(world), "safe", 3),
}

OF_NO_ARRAYS = {
    "settings.plain._pointed",
    "settings.schema._method_settings",
    "stages.stage._plain",
    "stages.stage._settings",
    "store.files._sha256",
    "store.provenance._code",
    "store.provenance.code_version",
    "store.provenance.imported",
    "study.forecast._matmul_speed",
}
"""Of `experiments`: files, settings and the machine."""


def fresh(number: int) -> WorldConfig:
    """A world that nothing has asked for yet."""
    grammar = GrammarConfig(branching=((2, 3), (3, 3)))
    return WorldConfig(name="never asked for", seed=20_000 + number, grammar=grammar)


def test_every_cached_builder_is_tried_here() -> None:
    found = set()
    for package in (analysis, experiments):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, functools._lru_cache_wrapper):
                    found.add(f"{value.__module__}.{value.__name__}")
    ours = {name for name in found if name.startswith(("analysis.", "experiments."))}
    assert ours == {*BUILDERS, *(f"experiments.{name}" for name in OF_NO_ARRAYS)}


@pytest.mark.parametrize("name", BUILDERS)
def test_what_is_asked_for_first_inside_a_trace_holds_numbers(name: str) -> None:
    world, kept = fresh(list(BUILDERS).index(name)), []

    @jax.jit
    def asks(x: jax.Array) -> jax.Array:
        kept.append(BUILDERS[name](world))
        return x

    jax.vmap(asks)(jnp.ones(2))
    assert kept
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(kept))


def test_prompts_drawn_inside_a_trace_are_those_drawn_outside() -> None:
    inside = []

    @jax.jit
    def asks(x: jax.Array) -> jax.Array:
        inside.append(evaluation.drawn(fresh(100), "safe", 3)[1])
        return x

    asks(jnp.ones(()))
    evaluation.drawn.cache_clear()
    outside = evaluation.drawn(fresh(100), "safe", 3)[1]
    for one, other in zip(jax.tree.leaves(inside[0]), jax.tree.leaves(outside), strict=True):
        np.testing.assert_array_equal(one, other)
