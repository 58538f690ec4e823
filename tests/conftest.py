"""Strict JAX and the small things most tests share."""

import os
from collections.abc import Iterator

# Tests compile far more than they compute; this must be said before JAX starts.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
# Kept programs are then known by what they compute, not by the folder they are kept in: a study in a new store has
# those of the studies before it.
os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"

import jax
import pytest

from models.transformer import ModelConfig, Params, init
from synth import sequences
from synth.coverage import CoverageConfig
from synth.keys import fold
from synth.random_grammar import GrammarConfig
from synth.safety import SafetyConfig
from synth.tasks import TasksConfig
from synth.world import World, WorldConfig, build_world

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Tests compile far more than they compute.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module")
def with_optax() -> Iterator[None]:
    """For modules that train: optax raises Adam's decay to an integer power, which is no strict promotion."""
    # For all threads: a study trains in several.
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def key() -> jax.Array:
    return jax.random.key(7)


@pytest.fixture(scope="session")
def world() -> World:
    """Small, with every complication: lengths that vary, a level above the concepts, three groups,
    shared symbols, two grammars, uneven probabilities, parts that tuning does not cover."""
    grammar = GrammarConfig(
        count=2,
        shared_leaves=0.5,
        alphabet=5,
        levels=4,
        concept_level=2,
        groups=3,
        concepts=2,
        symbols=(4,),
        productions=(2,),
        branching=((2, 3), (1, 2), (1, 2)),
        leaf_length=(1, 2),
        concept_overlap=0.25,
        dirichlet=3.0,
    )
    return build_world(
        WorldConfig(
            held_out=0.25,
            grammar=grammar,
            tasks=TasksConfig(count=4),
            safety=SafetyConfig(unsafe_tasks=(1, 2, 3)),
            coverage=CoverageConfig(grammars=(0,), productions=0.5),
        )
    )


@pytest.fixture(scope="session")
def model(world: World) -> ModelConfig:
    return ModelConfig(layers=2, heads=2, width=8, context=sequences.size(world).whole)


@pytest.fixture(scope="session")
def params(world: World, model: ModelConfig, key: jax.Array) -> Params:
    """Weights large enough that nothing cancels or vanishes."""
    fresh = init(model, world.vocab.size, key)
    leaves, tree = jax.tree.flatten(fresh)
    noisy = [leaf + 0.3 * jax.random.normal(fold(key, i), leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, noisy)
