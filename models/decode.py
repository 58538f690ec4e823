"""Greedy generation."""

import jax
import jax.numpy as jnp

from models.transformer import ModelConfig, Params, forward
from synth import vocab


def greedy(config: ModelConfig, params: Params, tokens: jax.Array, go: jax.Array) -> jax.Array:
    """Greedy continuation of each prompt `tokens[b, : go[b] + 1]`, to EOS or the end of `tokens` [B, T].

    What `tokens` holds behind the prompt is only a first guess. All positions are predicted
    at once and put back as the next guess until nothing changes: the fixed point is unique
    and is the greedy continuation, since position t is final once those before it are. A
    guess that was right costs one forward pass instead of one for every token.

    Returns [B, T]: the prompt, its continuation, EOS, padding.
    """
    position = jnp.arange(tokens.shape[-1])
    free = position[None] > go[:, None]

    def finish(guess: jax.Array) -> jax.Array:
        ended = free & (guess == vocab.EOS)
        after = jnp.cumsum(ended, axis=-1) > ended.astype(jnp.int32)
        return jnp.where(after, vocab.PAD, guess)

    def improve(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        guess = state[0]
        predicted = jnp.argmax(forward(config, params, guess[:, :-1]), axis=-1).astype(guess.dtype)
        better = finish(jnp.where(free, jnp.pad(predicted, ((0, 0), (1, 0))), guess))
        return better, jnp.any(better != guess)

    first = finish(tokens), jnp.bool_(True)
    return jax.lax.while_loop(lambda state: state[1], improve, first)[0]
