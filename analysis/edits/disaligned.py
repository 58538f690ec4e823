"""Emulated disalignment: what tuning added to log-probabilities, taken from them (Zhou et al. 2024, arXiv
2402.12343)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from analysis.edit import Fed, Kind, Label, Made
from analysis.edits.landscape import LandscapeConfig, change, random_like
from analysis.rows import Subject
from models.transformer import ModelConfig, Params, forward
from synth.keys import fold

DISALIGN, DISALIGN_RANDOM = "disalign", "disalign random"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Disaligned:
    """(1 + a) log p of the base - a log p of the aligned model, at every token; renormalised by whoever reads it.

    It is made of logits, which differ from log-probabilities by a number that does not depend on the token: with a = 0
    they are those of the base to the bit.
    """

    base: Params
    aligned: Params
    weight: jax.Array | np.float32
    """a"""
    model: ModelConfig = field(metadata={"static": True})

    def logits(self, fed: Fed) -> jax.Array:
        base, aligned = (
            forward(self.model, params, fed.tokens, layout=fed.layout).astype(jnp.float32)
            for params in (self.base, self.aligned)
        )
        return (1 + self.weight) * base - self.weight * aligned


@jax.jit
def changed_at_random(untuned: Params, tuned: Params, key: jax.Array) -> Params:
    """`untuned` with a random change of every array, of the norm that its change to `tuned` has."""

    def of_norm(own: jax.Array, random: jax.Array, changed: jax.Array) -> jax.Array:
        return own + random * (jnp.linalg.norm(changed) / jnp.linalg.norm(random))

    found: Params = jax.tree.map(of_norm, untuned, random_like(untuned, key), change(untuned, tuned))
    return found


def edits(subject: Subject, config: LandscapeConfig) -> Iterator[Made[Disaligned]]:
    """disalign         with a as strength, 0 being the base, which is what the tuning started from
    disalign random  with as large a random change of the base in the aligned model's place
    """
    if subject.untouched:
        return
    base, own, key = subject.reference, subject.params, fold(subject.key, "disaligned")
    for weight in (0.0, *config.disalign):
        yield Made(Label(DISALIGN, weight), partial(Disaligned, base, own, np.float32(weight), subject.model))
    for draw in range(config.draws):
        other = changed_at_random(base, own, fold(key, draw))
        for weight in config.disalign:
            made = partial(Disaligned, base, other, np.float32(weight), subject.model)
            yield Made(Label(DISALIGN_RANDOM, weight), made)


KIND = Kind(__name__, "landscape", edits, controls={DISALIGN: DISALIGN_RANDOM})
