"""Tables that are built once hold numbers, whoever asks for them first: also a function that is being compiled."""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
import synth
from models.training import pretraining, tuning
from models.training.method import labelled_pairs
from models.training.methods import METHODS
from models.training.pretraining import PretrainConfig
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig
from synth import evaluation, judged, notation, reserved, tuning_data, world
from synth.coverage import CoverageConfig
from synth.families import co_text, misgen_task
from synth.notation import to_yaml
from synth.random_grammar import GrammarConfig
from synth.world import TextConfig, WorldConfig, build_world

MODEL = ModelConfig(layers=1, heads=1, width=4)


def fresh(seed: int, cropped: bool = False, covered: float = 1.0) -> WorldConfig:
    """A world that nothing has asked for yet."""
    grammar = GrammarConfig(branching=((2, 3), (3, 3)))
    text = TextConfig(cropped_from=(8, 18)) if cropped else TextConfig()
    return WorldConfig(
        name="never asked for",
        seed=10_000 + seed,
        grammar=grammar,
        text=text,
        coverage=CoverageConfig(productions=covered),
    )


def built(seed: int, **settings: Any) -> world.World:
    return build_world(fresh(seed, **settings))


def own_grammar(seed: int) -> Any:
    source = "letters: [x, y]\ngroups: {A: p, B: q}\nrules: {p: [x y x, y x y], q: [y y y, x x x]}\n"
    return notation.parse_grammars(f"# {seed}\n{source}")


BUILDERS: dict[Callable[..., Any], Callable[[int], Any]] = {
    build_world: built,
    world.concept_tables: lambda seed: world.concept_tables(built(seed), "covered"),
    world.start_tables: lambda seed: world.start_tables(built(seed, cropped=True)),
    world.ancestor_tables: lambda seed: world.ancestor_tables(built(seed), "all"),
    world.without_safety: lambda seed: world.without_safety(fresh(seed)),
    notation.parse_grammars: own_grammar,
    judged.judged_mix: lambda seed: judged.judged_mix(built(seed), built(seed).covered, "safe"),
    co_text._competing: lambda seed: co_text._competing(built(seed), built(seed).covered),
    misgen_task._aliased: lambda seed: misgen_task._aliased(built(seed), built(seed).covered),
    reserved.check_unseen: lambda seed: reserved.check_unseen(
        built(seed, covered=0.8), built(seed, covered=0.8).covered
    ),
    evaluation.drawn: lambda seed: evaluation.drawn(fresh(seed), "safe", 3),
    evaluation._block: lambda seed: evaluation._block(fresh(seed), "safe"),
    tuning_data.flagged_letters: lambda seed: tuning_data.flagged_letters(built(seed)),
    tuning_data._codes: lambda seed: tuning_data._codes(built(seed), 2, 4, False),
    pretraining._batches: lambda seed: pretraining._batches(PretrainConfig(), fresh(seed)),
    pretraining._program: lambda seed: pretraining.program(PretrainConfig(), MODEL, fresh(seed)),
    tuning._batches: lambda seed: tuning._batches(labelled_pairs, 4, fresh(seed), False),
    tuning._program: lambda seed: tuning.program(TuningConfig(batch_size=4), METHODS["sft"], MODEL, fresh(seed)),
}


def test_every_cached_builder_is_tried_here() -> None:
    found = set()
    for package in (synth, models):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, functools._lru_cache_wrapper):
                    found.add(value)
    # The shapes of a model's weights are asked for inside compiled programs alone.
    names = {f"{value.__module__}.{value.__name__}" for value in found}
    tried = {f"{builder.__module__}.{builder.__name__}" for builder in BUILDERS}  # type: ignore[attr-defined]
    assert names - {"models.transformer._graph"} == tried


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_what_is_asked_for_first_inside_a_trace_holds_numbers(builder: Callable[..., Any]) -> None:
    number, kept = list(BUILDERS).index(builder), []

    @jax.jit
    def asks(x: jax.Array) -> jax.Array:
        kept.append(BUILDERS[builder](number))
        return x

    jax.vmap(asks)(jnp.ones(2))
    assert kept
    leaves = jax.tree.leaves([vars(one) if hasattr(one, "__dict__") else one for one in kept])
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def test_a_world_built_inside_a_trace_is_the_one_built_outside() -> None:
    inside = {}

    @jax.jit
    def asks(x: jax.Array) -> jax.Array:
        inside["world"] = build_world(replace(fresh(100), name="inside"))
        return x

    asks(jnp.ones(()))
    outside = build_world(replace(fresh(100), name="outside"))
    np.testing.assert_array_equal(inside["world"].bijections, outside.bijections)
    np.testing.assert_array_equal(inside["world"].unsafe, outside.unsafe)
    assert [to_yaml(g) for g in inside["world"].grammars] == [to_yaml(g) for g in outside.grammars]
