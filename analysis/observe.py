"""What a model does on prompts: its responses and the activations they leave."""

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.decode import Forced, greedy, teacher_forced
from models.transformer import ModelConfig, Params, forward
from synth import vocab
from synth.sequences import Batch, Prompts

LAST = ("mlp.in", "mlp.pre", "mlp.post", "mlp_out", "resid_post")
"""Sites of a block seen at the position that predicts the first response token."""

WINDOW = ("mlp.pre", "mlp.post", "mlp_out", "resid_post")
"""Sites of a block seen as the mean over the window from that position on."""

AT_ONCE = 256
"""Prompts in one forward pass: bounds the memory, changes no result beyond rounding."""


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
    comply, refuse = (_pieces(partial(_forced, model, params), batch) for batch in prompts)
    complying, refusing, go = (
        np.asarray(x) for x in (prompts.complying.tokens, prompts.refusing.tokens, prompts.complying.go)
    )
    # A response that is the likeliest at every place when fed as input is the greedy one.
    generated = np.where(comply.exact[:, None], complying, refusing)
    open_ended = np.flatnonzero(~(comply.exact | refuse.exact))
    if len(open_ended):
        generated[open_ended] = _pieces(partial(_greedy, model, params), (complying[open_ended], go[open_ended]))
    first = np.take_along_axis(generated, go[:, None] + 1, axis=1)[:, 0]
    compliant = np.take_along_axis(complying, go[:, None] + 1, axis=1)[:, 0]
    at_last, over_window = _pieces(partial(_activations, model, params, window), (generated, go))
    return Observation(
        generated=generated,
        complied=np.all(generated == complying, axis=-1),
        refused=np.all(generated == refusing, axis=-1),
        first_complied=first == compliant,
        first_refused=first == vocab.NULL,
        teacher_complied=comply.exact,
        teacher_refused=refuse.exact,
        token_accuracy=comply.accuracy,
        logp_comply=comply.logp,
        logp_refuse=refuse.logp,
        last=at_last,
        window=over_window,
    )


def observe_last(model: ModelConfig, params: Params, prompts: Prompts) -> dict[str, np.ndarray]:
    """`Observation.last` alone, which does not depend on the response: one forward pass."""
    batch = prompts.complying
    at_last: dict[str, np.ndarray] = _pieces(partial(_activations, model, params, 1), (batch.tokens, batch.go))[0]
    return at_last


def _pieces(function: Callable[[Any], Any], arrays: Any) -> Any:
    """`function` of arrays with a leading axis of N prompts, AT_ONCE of them at a time, as NumPy arrays."""
    count = len(jax.tree.leaves(arrays)[0])
    # The last piece is filled up with the first prompts: every piece has one shape, and compiles once.
    chosen = np.arange(-(-count // AT_ONCE) * AT_ONCE).reshape(-1, AT_ONCE) % count
    seen = [jax.tree.map(np.asarray, function(jax.tree.map(itemgetter(piece), arrays))) for piece in chosen]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *seen)


@partial(jax.jit, static_argnums=0)
def _forced(model: ModelConfig, params: Params, batch: Batch) -> Forced:
    return teacher_forced(model, params, batch)


@partial(jax.jit, static_argnums=0)
def _greedy(model: ModelConfig, params: Params, prompts: tuple[jax.Array, jax.Array]) -> jax.Array:
    return greedy(model, params, *prompts)


@partial(jax.jit, static_argnums=(0, 2))
def _activations(
    model: ModelConfig, params: Params, window: int, responded: tuple[jax.Array, jax.Array]
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The activations of a forward pass, at LAST and over WINDOW; nothing else of them is kept."""
    tokens, go = responded
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
