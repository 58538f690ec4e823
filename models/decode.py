"""Greedy generation, and how likely a given response is."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.transformer import ModelConfig, Params, forward
from synth.segments import ANSWER, Batch, of_response
from synth.vocab import Marks


def greedy(logits: Callable[[jax.Array], jax.Array], tokens: jax.Array, go: jax.Array, marks: Marks) -> jax.Array:
    """Greedy continuation of each prompt `tokens[b, : go[b] + 1]`, to EOS or the end of `tokens` [B, T].

    `marks` are those of the vocabulary that the tokens are of.

    `logits` maps tokens [B, T - 1] to [B, T - 1, V] as a model does: row t predicts token t + 1 and depends on no
    token behind t.

    What `tokens` holds behind the prompt is only a first guess. All positions are predicted
    at once and put back as the next guess until nothing changes: the fixed point is unique
    and is the greedy continuation, since position t is final once those before it are. A
    guess that was right costs one forward pass instead of one for every token.

    Returns [B, T]: the prompt, its continuation, EOS, padding.
    """
    position = jnp.arange(tokens.shape[-1])
    free = position[None] > go[:, None]

    def finish(guess: jax.Array) -> jax.Array:
        ended = free & (guess == marks.eos)
        after = jnp.cumsum(ended, axis=-1) > ended.astype(jnp.int32)
        return jnp.where(after, marks.pad, guess)

    def improve(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        guess = state[0]
        predicted = jnp.argmax(logits(guess[:, :-1]), axis=-1).astype(guess.dtype)
        better = finish(jnp.where(free, jnp.pad(predicted, ((0, 0), (1, 0))), guess))
        return better, jnp.any(better != guess)

    first = finish(tokens), jnp.bool_(True)
    return jax.lax.while_loop(lambda state: state[1], improve, first)[0]


class Forced(NamedTuple):
    """N given responses, each fed as input (teacher forcing)."""

    exact: jax.Array
    """[N] bool: every token of it, scored or not and EOS included, is the likeliest; then greedy generation gives it"""
    accuracy: jax.Array
    """[N] share of its answer's tokens, EOS apart, that are the likeliest"""
    logp: jax.Array
    """[N] its log-probability, summed over the tokens that are scored, EOS among them"""


def teacher_forced(config: ModelConfig, params: Params, batch: Batch) -> Forced:
    """What the model makes of the responses in `batch`."""
    return judged(forward(config, params, batch.tokens[:, :-1]), batch)


def judged(logits: jax.Array, batch: Batch) -> Forced:
    """The same of `logits` [N, T - 1, V], of the tokens of `batch` but the last."""
    following, roles = batch.tokens[:, 1:], batch.roles[:, 1:]
    right = jnp.argmax(logits, axis=-1) == following
    logprobs = jax.nn.log_softmax(logits.astype(jnp.float32))
    logprobs = jnp.take_along_axis(logprobs, following[..., None], axis=-1)[..., 0]
    return Forced(
        jnp.all(right | ~of_response(roles), axis=-1),
        jnp.mean(right, axis=-1, where=roles == ANSWER),
        jnp.sum(jnp.where(batch.scored[:, 1:], logprobs, 0.0), axis=-1),
    )
