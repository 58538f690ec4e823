"""Refusals that come late: after the first letters of compliance, which are given and not scored.

So are those of DeRTa (Yuan et al. 2024, arXiv 2407.09121, Eq. 2) and of the augmented data of Qi et al. 2024
(arXiv 2406.05946). In these papers a whole refusal follows what was begun. Here a response has one letter for each of
the text's L letters, so that a refusal after k letters is the null token in place of each of the L - k that are left;
k is L - 1 at most, so that something is left to refuse.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from models.training.method import labelled_pairs
from synth.begun import begun, letters
from synth.keys import batch_keys, fold
from synth.sequences import Pair
from synth.tuning_data import TuningData
from synth.world import World

Draw = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, L) -> k, how many of L letters come before the refusal"""


def uniform(key: jax.Array, most: jax.Array) -> jax.Array:
    """Any of 0, ..., L - 1 letters, each number as likely."""
    return jax.random.randint(key, (), 0, most)


def late_pairs(world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int) -> Pair:
    """`labelled_pairs` whose refusals come after the first k letters of compliance, k `uniform`."""
    return begun_late(uniform, world, data, key, step, size)


def begun_late(draw: Draw, world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int) -> Pair:
    """`labelled_pairs` whose preferred responses, where they are refusals, come after letters of the dispreferred ones.

    How many is drawn by `draw` for each example and step, from keys of its own: prompts and labels are those of
    `labelled_pairs`, and a prompt that comes again is begun anew.
    """
    pair = labelled_pairs(world, data, key, step, size)
    # In styles whose responses differ in length, no more than either has.
    most = jnp.minimum(letters(pair.preferred), letters(pair.dispreferred))
    drawn = jax.vmap(draw)(batch_keys(fold(key, step, "letters before the refusal"), size), most)
    return pair._replace(preferred=begun(pair.preferred, pair.dispreferred, jnp.where(pair.refused, drawn, 0)))
