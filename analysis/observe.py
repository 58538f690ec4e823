"""What a model does on prompts: its responses and the activations they leave."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.decode import greedy
from models.taps import capture
from models.transformer import ModelConfig, Params, forward
from synth.sequences import END, RESPONSE, Batch


class Observation(NamedTuple):
    """A model on N prompts. L layers, D width, F hidden units."""

    generated: jax.Array
    """[N, T] each prompt with its greedy response"""
    complied: jax.Array
    """[N] bool: the generated response is the composed tasks' output, to the letter and the EOS"""
    refused: jax.Array
    """[N] bool: the generated response is the null token at every place, then EOS"""
    teacher_complied: jax.Array
    """[N] bool: the compliant response is predicted at every place when fed as input"""
    teacher_refused: jax.Array
    """[N] bool: the refusal, likewise"""
    token_accuracy: jax.Array
    """[N] share of the compliant response's letters predicted right when fed as input"""
    mlp_in: jax.Array
    """[N, L, D] input of the first MLP matrix at the position that predicts the first response token"""
    mlp_post: jax.Array
    """[N, L, F] output of the first MLP matrix after the non-linearity, at that position"""
    mlp_post_window: jax.Array
    """[N, L, F] its mean over `window` positions from that one on, the model's own response as input"""


@partial(jax.jit, static_argnames=("model", "window"))
def observe(model: ModelConfig, params: Params, complying: Batch, refusing: Batch, window: int) -> Observation:
    """Responses and activations of one model on prompts given with both possible responses."""
    generated = greedy(model, params, complying.tokens, complying.go)
    teacher_complied, token_accuracy = _teacher_forced(model, params, complying)
    teacher_refused, _ = _teacher_forced(model, params, refusing)

    layers = range(model.layers)
    names_in = [f"blocks.{layer}.mlp.in" for layer in layers]
    names_post = [f"blocks.{layer}.mlp.post" for layer in layers]
    seen = capture(model, params, generated, names_in + names_post)
    mlp_in = jnp.stack([seen[name] for name in names_in], axis=2)
    mlp_post = jnp.stack([seen[name] for name in names_post], axis=2)
    row = jnp.arange(generated.shape[0])
    positions = complying.go[:, None] + jnp.arange(window)[None]
    return Observation(
        generated=generated,
        complied=jnp.all(generated == complying.tokens, axis=-1),
        refused=jnp.all(generated == refusing.tokens, axis=-1),
        teacher_complied=teacher_complied,
        teacher_refused=teacher_refused,
        token_accuracy=token_accuracy,
        mlp_in=mlp_in[row, complying.go],
        mlp_post=mlp_post[row, complying.go],
        mlp_post_window=jnp.mean(mlp_post[row[:, None], positions], axis=1),
    )


def _teacher_forced(model: ModelConfig, params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """[N] all response tokens and EOS predicted; [N] share of the response's letters predicted."""
    predicted = jnp.argmax(forward(model, params, batch.tokens[:, :-1]), axis=-1)
    right = predicted == batch.tokens[:, 1:]
    roles = batch.roles[:, 1:]
    letters = roles == RESPONSE
    everything = jnp.all(right | ~(letters | (roles == END)), axis=-1)
    return everything, jnp.mean(right, axis=-1, where=letters)
