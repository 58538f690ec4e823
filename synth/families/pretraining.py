"""What the model sees before it learns safety."""

import jax
import jax.numpy as jnp
import numpy as np

from synth.coverage import Scope
from synth.derive import derive
from synth.drawing import below, choose, draw, text_of_concept, window
from synth.family import Family
from synth.prompts import Attempt
from synth.world import World, concept_tables, start_tables


def pretraining(world: World, key: jax.Array) -> Attempt:
    """Any text and any tasks, aliases included."""
    config = world.config
    cropped = config.text.cropped_from
    tables = start_tables(world) if cropped else concept_tables(world, "all")
    draws = draw(world, tables, key)
    frequencies = np.ones(world.unsafe.shape[1], np.float32)
    frequencies[config.tasks.count :] = config.tasks.alias_frequency
    tasks = choose(jnp.asarray(frequencies), draws.tasks)
    grammar = below(draws.grammar, len(world.grammars))
    if cropped is None:
        concept = below(draws.concept, len(world.concepts))
        return text_of_concept(world, tables, draws, grammar, concept, tasks)
    whole = derive(tables, grammar, jnp.int32(0), draws.text)
    fits = (whole.length >= cropped[0]) & (whole.length <= cropped[1])
    return Attempt(window(world, draws, grammar, tasks, whole)[0], fits)


def _sample(world: World, scope: Scope, key: jax.Array) -> Attempt:
    return pretraining(world, key)


def _check(world: World, scope: Scope) -> None:
    """Every world has them."""


FAMILY = Family(__name__, "any", _sample, _check)
