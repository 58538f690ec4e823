"""Two responses to the same prompts in one forward pass, which reads each prompt once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.transformer import Layout, ModelConfig, check_length
from synth.segments import PADDING, Batch


class Fork(NamedTuple):
    """The sequence of a first response, T tokens as a model is fed them, and behind it a second response, R more.

    The second response stands at the positions and sees the tokens that it would in a sequence of
    its own, so a model makes of both what it makes of them apart.
    """

    tokens: jax.Array
    """[B, T + R]"""
    layout: Layout
    sequences: tuple[Batch, Batch]
    """With the token that the last one predicts: the first, [B, T + 1], and what in the second begins with EOT,
    [B, R + 2]"""

    def apart(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits or activations [B, T + R, F] at what `sequences` predict from: [B, T, F] and [B, R + 1, F]."""
        start = jnp.take_along_axis(x, self.sequences[0].go[:, None, None], axis=1)
        return x[:, : self._fed], jnp.concatenate([start, x[:, self._fed :]], axis=1)

    def from_eot(self, count: int) -> jax.Array:
        """[2, B, count] where the first and the second sequence stand in T + R, from EOT on; `count` is R + 1 at
        most."""
        along, start = jnp.arange(count)[None], self.sequences[0].go[:, None]
        return jnp.stack([start + along, jnp.where(along == 0, start, self._fed - 1 + along)])

    @property
    def _fed(self) -> int:
        """How many tokens of the first sequence the model is fed."""
        return self.sequences[0].tokens.shape[1] - 1


def fork(model: ModelConfig, first: Batch, second: Batch) -> Fork:
    """The same prompts [B], so that `go` is the same too, with both responses, either of which may be the longer.

    R is what the second has room for, its end apart. Raises ValueError as `forward` does of either sequence.
    """
    fed, go = first.tokens.shape[1] - 1, first.go[:, None]
    longest = max(fed, second.tokens.shape[1] - 1)
    check_length(model, longest)
    place = jnp.arange(width(first, second))[None]
    at = go + jnp.arange(second.room + 1)[None]
    rest = Batch(
        take(second.tokens, at, second.marks.pad),
        take(second.roles, at, PADDING),
        jnp.zeros_like(second.go),
        take(second.scored, at, False),
        second.room,
        second.marks,
    )
    tokens = jnp.concatenate([first.tokens[:, :-1], rest.tokens[:, 1:-1]], axis=1)
    # Padding may stand where no sequence reaches, for which there is no position.
    positions = jnp.where(place < fed, place, jnp.minimum(go + 1 + place - fed, longest - 1))
    same = (place[:, :, None] < fed) == (place[:, None] < fed)
    visible = (place[:, None] <= place[:, :, None]) & ((place <= go)[:, None] | same)
    return Fork(tokens, Layout(positions, visible), (first, rest))


def take(x: jax.Array, places: jax.Array, fill: int) -> jax.Array:
    """x [B, T, ...] at `places`, with as many axes, of the second; `fill` behind the end."""
    return jnp.take_along_axis(x, places, axis=1, mode="fill", fill_value=fill)


def width(first: Batch, second: Batch) -> int:
    """T + R of the fork of two batches, whatever axes they begin with."""
    return first.tokens.shape[-1] - 1 + second.room - 1
