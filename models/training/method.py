"""What a method of tuning is, and how the batch is made that most of them see: labelled pairs."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from models.training.loop import Terms
from models.transformer import ModelConfig, Params
from synth import sequences, tuning_data
from synth.prompts import Prompt
from synth.sequences import Pair, Prompts
from synth.tuning_data import TuningData, TuningPrompts
from synth.world import World

Objective = Callable[[ModelConfig, Params, Params, Any, Any], Terms]
"""(model, params, reference, batch, coefficients) -> Terms, values for each example; their mean is minimised"""

DrawBatch = Callable[[World, TuningData, jax.Array, int | jax.Array, int], Any]
"""(world, data, the run's key, step, size) -> batch, a pytree of arrays with a leading axis of `size` examples

Its prompts are those that `tuning_data.draw` gives for the same arguments."""

Part = Literal["safety", "control", "attack", "repair"]
"""What a method does in a study: teach safety; teach none, to say what any tuning changes; undo safety; restore it"""


def labelled_pairs(world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int) -> Pair:
    """`size` labelled prompts (`tuning_data.draw`) with both responses to each.

    Preferred is refusal where the label says to refuse, else compliance; dispreferred the
    other way round.
    """
    return pairs_of(sequences.answer, world, data, key, step, size)


def pairs_of(
    answer: Callable[[World, Prompt], Prompts],
    world: World,
    data: TuningData,
    key: jax.Array,
    step: int | jax.Array,
    size: int,
) -> Pair:
    """The same with what `answer` gives as both responses."""

    def pair(prompt: Prompt, refused: jax.Array) -> Pair:
        comply, refuse = answer(world, prompt)
        return Pair(
            jax.tree.map(lambda c, r: jnp.where(refused, r, c), comply, refuse),
            jax.tree.map(lambda c, r: jnp.where(refused, c, r), comply, refuse),
            refused,
        )

    labelled = tuning_data.draw(world, data, key, step, size)
    return jax.vmap(pair)(labelled.prompts, labelled.refuse)


class Method(NamedTuple):
    """How a model is tuned: what is minimised, on what, and what for. Each is METHOD of a module of its own."""

    module: str
    """Where it is defined, `__name__` there: what its models depend on is what that module imports"""
    objective: Objective
    hyper: type
    """Dataclass of its coefficients, registered as a pytree"""
    part: Part = "safety"
    prompts: TuningPrompts = TuningPrompts()
    """Which prompts it is tuned on, and what their labels go by"""
    batch: DrawBatch = labelled_pairs
