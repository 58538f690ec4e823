"""What a model does on prompts: its responses and the activations they leave."""

from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.decode import greedy, teacher_forced
from models.transformer import ModelConfig, Params, forward
from synth import vocab
from synth.sequences import Batch

LAST = ("mlp.in", "mlp.pre", "mlp.post", "mlp_out", "resid_post")
"""Sites of a block seen at the position that predicts the first response token."""

WINDOW = ("mlp.pre", "mlp.post", "mlp_out", "resid_post")
"""Sites of a block seen as the mean over the window from that position on."""

AT_ONCE = 256
"""Prompts in one forward pass: bounds the memory, changes no result beyond rounding."""


class Prompts(NamedTuple):
    """N prompts with both possible responses."""

    complying: Batch
    refusing: Batch


class Observation(NamedTuple):
    """A model on N prompts. L layers; the last axis of an activation is as wide as its site."""

    generated: Any
    """[N, T] each prompt with its greedy response"""
    complied: Any
    """[N] bool: the generated response is the composed tasks' output, to the letter and the EOS"""
    refused: Any
    """[N] bool: the generated response is the null token at every place, then EOS"""
    first_complied: Any
    """[N] bool: the first token of the generated response is the compliant one"""
    first_refused: Any
    """[N] bool: it is the null token"""
    teacher_complied: Any
    """[N] bool: the compliant response is predicted at every place when fed as input"""
    teacher_refused: Any
    """[N] bool: the refusal, likewise"""
    token_accuracy: Any
    """[N] share of the compliant response's letters predicted right when fed as input"""
    logp_comply: Any
    """[N] log-probability of the compliant response with its EOS, summed over tokens"""
    logp_refuse: Any
    """[N] of the refusal"""
    last: Mapping[str, Any]
    """By site of LAST, [N, L, width]: at the position that predicts the first response token"""
    window: Mapping[str, Any]
    """By site of WINDOW, [N, L, width]: mean over `window` positions from that one on, the model's own
    response as input"""


def observe(model: ModelConfig, params: Params, prompts: Prompts, window: int) -> Observation:
    """Responses and activations of one model as NumPy arrays; AT_ONCE prompts are held at a time."""
    count = prompts.complying.tokens.shape[0]
    pieces = -(-count // AT_ONCE)
    size = -(-count // pieces)
    # The last piece is filled up with the first prompts, so that all have one shape.
    chosen = np.arange(pieces * size).reshape(pieces, size) % count
    parts = [jax.tree.map(itemgetter(piece), prompts) for piece in chosen]
    seen = [jax.tree.map(np.asarray, _observe(model, params, part, window)) for part in parts]
    joined: Observation = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *seen)
    return joined


@partial(jax.jit, static_argnames=("model", "window"))
def _observe(model: ModelConfig, params: Params, prompts: Prompts, window: int) -> Observation:
    complying, refusing = prompts
    generated = greedy(model, params, complying.tokens, complying.go)
    comply, refuse = (teacher_forced(model, params, batch) for batch in prompts)
    last, over_window = _activations(model, params, generated, complying.go, window)
    first = complying.go[:, None] + 1
    answer, compliant = (jnp.take_along_axis(x, first, axis=-1)[:, 0] for x in (generated, complying.tokens))
    return Observation(
        generated=generated,
        complied=jnp.all(generated == complying.tokens, axis=-1),
        refused=jnp.all(generated == refusing.tokens, axis=-1),
        first_complied=answer == compliant,
        first_refused=answer == vocab.NULL,
        teacher_complied=comply.exact,
        teacher_refused=refuse.exact,
        token_accuracy=comply.accuracy,
        logp_comply=comply.logp,
        logp_refuse=refuse.logp,
        last=last,
        window=over_window,
    )


def _activations(
    model: ModelConfig, params: Params, tokens: jax.Array, go: jax.Array, window: int
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The activations of a forward pass, at LAST and over WINDOW; nothing else of them is kept."""
    row = jnp.arange(tokens.shape[0])
    positions = go[:, None] + jnp.arange(window)[None]
    last: dict[str, list[jax.Array]] = {name: [] for name in LAST}
    over_window: dict[str, list[jax.Array]] = {name: [] for name in WINDOW}

    def tap(site: str, x: jax.Array) -> jax.Array:
        name = site.split(".", 2)[-1]
        if name in last:
            last[name].append(x[row, go])
        if name in over_window:
            over_window[name].append(jnp.mean(x[row[:, None], positions], axis=1))
        return x

    forward(model, params, tokens, tap)
    at_last, mean = ({name: jnp.stack(x, axis=1) for name, x in seen.items()} for seen in (last, over_window))
    return at_last, mean
