"""What tells unsafe from safe prompts at the last token of the text, and what does so at EOT: harmfulness and refusal
(Zhao et al. 2025, arXiv 2507.11878).

The paper reads harmfulness at the last token of an instruction and refusal at the last token of the prompt. Both are
differences of the means of the same prompts, unsafe ones that are refused and safe ones that are not.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.chance import random_units
from analysis.edit import Fed
from analysis.refusal import adding, at_eot, at_layer, refusal_log_odds, stream
from analysis.selection import Material, differences
from analysis.subspaces import unit
from models.transformer import ModelConfig, Params
from synth.keys import fold
from synth.settings import require_above_zero, require_positive

PLACES = {"harm": -1, "refuse": 0}
"""By what is read there, the position counted from EOT: the last token of the text, and EOT"""


@dataclass(unsafe_hash=True)
class HarmfulnessConfig:
    """Settings of the measurement of harmfulness beside refusal."""

    coefficient: float = 2.0
    """How many times a difference of means is added to safe prompts."""
    draws: int = 4
    """Random directions in the place of each."""

    def __post_init__(self) -> None:
        require_above_zero(self, "coefficient")
        require_positive(self, "draws")


class Contrast(NamedTuple):
    """What was found of one model, of L layers; places are in the order of PLACES."""

    of: Material
    seen: np.ndarray
    """[N, L, 2, D] the stream of the training prompts, as each layer reads it, at both places"""
    vectors: np.ndarray
    """[L, 2, D] differences of means, unsafe less safe: v_harm and v_refuse"""
    apart: np.ndarray
    """[L] bool: the layers where both differ by more than rounding"""

    @property
    def means(self) -> np.ndarray:
        """[2, L, 2, D] of what was seen, over unsafe and over safe prompts, at both places."""
        return np.stack([self.seen[side].mean(axis=0) for side in self.of.train.sides])


class Steered(NamedTuple):
    """Something that is added to a prompt."""

    name: str
    """As an intervention"""
    strength: float
    """How many times a difference of means it is"""
    vector: np.ndarray
    """[D]"""
    layer: int
    """That reads the stream there, from 0"""
    last: int
    """The position, counted from EOT, up to which it is added, from the first token on"""


def places(model: ModelConfig, params: Params, fed: Fed) -> np.ndarray:
    """[B, L, 2, D] the stream as each layer reads it at both PLACES; what is behind EOT changes nothing."""
    nothing = jnp.zeros((1, model.width))
    return np.asarray(stream(model, params, fed, nothing, tuple(PLACES.values())), float)


def contrast(of: Material) -> Contrast:
    """Both differences of means, on the training prompts that the filter keeps."""
    seen = places(of.model, of.params, of.train.fed)
    vectors = differences(seen, of.train.sides)
    # Where all prompts leave the same, as the embedding of EOT, what differs is rounding.
    least = 1e-5 * np.sqrt(np.mean(np.square(seen)) * of.model.width)
    return Contrast(of, seen, vectors, (np.linalg.norm(vectors, axis=-1) > least).all(axis=-1))


def halves(sides: tuple[np.ndarray, np.ndarray], key: jax.Array) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """`sides` [N] bool of two random halves, which share no prompt and have as many of each side, or one less."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    first = []
    for side in sides:
        chosen = rng.permutation(np.flatnonzero(side))[: int(side.sum()) // 2]
        first.append(np.isin(np.arange(len(side)), chosen))
    return (first[0], first[1]), (sides[0] & ~first[0], sides[1] & ~first[1])


def leaning(seen: np.ndarray, means: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """[B, 2] the paper's s: cos(h, mu_unsafe) - cos(h, mu_safe), the mean over `layers` [L] bool, at both places.

    `seen` [B, L, 2, D] are the h, `means` [2, L, 2, D] the mu of unsafe and of safe prompts.
    """
    cosines = np.einsum("blpd,slpd->sblp", unit(seen), unit(means))
    return np.asarray((cosines[0] - cosines[1])[:, layers].mean(axis=1))


@partial(jax.jit, static_argnames="model")
def induced(
    model: ModelConfig,
    params: Params,
    fed: Fed,
    among: jax.Array,
    refusal: jax.Array,
    vectors: jax.Array,
    layers: jax.Array,
    last: jax.Array,
) -> jax.Array:
    """[C] the log-odds of refusal, over the prompts `among` [B], with each of `vectors` [C, D] added at its layer of
    `layers` [C] and up to its position of `last` [C]."""
    behind = jnp.arange(fed.tokens.shape[1])[None] - fed.go[:, None]

    def of_one(one: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        vector, layer, last = one
        taps = adding(model, at_layer(model, vector, layer), behind <= last)
        return jnp.mean(refusal_log_odds(at_eot(model, params, fed, taps), refusal), where=among)

    found: jax.Array = jax.lax.map(of_one, (vectors, layers, last))
    return found


def steered(found: Contrast, config: HarmfulnessConfig, key: jax.Array) -> list[Steered]:
    """What is added to safe prompts, each with the random directions of the same length that stand in its place, all
    at the layer where validation prompts say that it makes safe prompts refused most:

    steer harm, steer refuse          of equal length, their geometric mean, at one layer for both and up to one
                                      position: EOT, and once more the last token of the text
    steer harm own, steer refuse own  as in the paper: each of its own length, at a layer of its own and up to the
                                      position that it was read at
    """
    of, at = found.of, np.flatnonzero(found.apart)
    own = config.coefficient * found.vectors[at]
    norms = np.linalg.norm(own, axis=-1, keepdims=True)
    equal = own / norms * np.sqrt(norms.prod(axis=1, keepdims=True))
    # [layer, which, span, D]: the span of each direction's own place, and for equal ones both.
    every = np.stack([equal, equal, own], axis=2)
    spans = np.broadcast_to(np.array([[-1, 0, -1], [-1, 0, 0]]), every.shape[:-1])
    scores = np.asarray(
        induced(
            of.model,
            of.params,
            of.validation.fed,
            of.validation.sides[1],
            of.refusal,
            jnp.asarray(every.reshape(-1, of.model.width), jnp.float32),
            jnp.asarray(np.broadcast_to(at[:, None, None], spans.shape).reshape(-1)),
            jnp.asarray(spans.reshape(-1)),
        )
    ).reshape(spans.shape)
    chosen: list[Steered] = []
    for i, last in enumerate(PLACES.values()):
        best = int(scores[:, :, i].mean(axis=1).argmax())
        both = [
            Steered(f"steer {name}", config.coefficient, equal[best, j], int(at[best]), last)
            for j, name in enumerate(PLACES)
        ]
        chosen += [*both, *_random(both[0]._replace(name="steer"), config, fold(key, i))]
    for j, (name, last) in enumerate(PLACES.items()):
        best = int(scores[:, j, 2].argmax())
        one = Steered(f"steer {name} own", config.coefficient, own[best, j], int(at[best]), last)
        chosen += [one, *_random(one, config, fold(key, name))]
    return chosen


def _random(one: Steered, config: HarmfulnessConfig, key: jax.Array) -> list[Steered]:
    units = random_units(len(one.vector), config.draws, key) * np.linalg.norm(one.vector)
    return [one._replace(name=f"{one.name} random", vector=vector) for vector in units]
