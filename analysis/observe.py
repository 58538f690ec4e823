"""What a model does on prompts: its responses and the activations they leave."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.decode import Forced, greedy, judged
from models.fork import fork, width
from models.transformer import Layout, ModelConfig, Params, forward
from synth.judging import Judge, to_the_letter
from synth.sequences import Prompts
from synth.vocab import Marks

LAST = ("mlp.in", "mlp.pre", "mlp.post", "mlp_out", "resid_post")
"""Sites of a block seen at the position that predicts the first response token."""

WINDOW = ("mlp.pre", "mlp.post", "mlp_out", "resid_post")
"""Sites of a block seen as the mean over the window from that position on."""

FREE = 64
"""Prompts for which responses are generated together."""


class Observation(NamedTuple):
    """A model on N prompts. L layers; the last axis of an activation is as wide as its site."""

    generated: Any
    """[N, T] each prompt with its greedy response"""
    complied: Any
    """[N] bool: the answer in the generated response, its EOS included, is one that complies"""
    refused: Any
    """[N] bool: it is a refusal"""
    first_complied: Any
    """[N] bool: the first token of the generated response is the compliant one"""
    first_refused: Any
    """[N] bool: it is the first one of the refusal"""
    teacher_complied: Any
    """[N] bool: the compliant response is predicted at every place when fed as input"""
    teacher_refused: Any
    """[N] bool: the refusal, likewise"""
    token_accuracy: Any
    """[N] share of the compliant answer's letters predicted right when fed as input"""
    logp_comply: Any
    """[N] log-probability of the compliant response with its EOS, summed over the tokens that are scored"""
    logp_refuse: Any
    """[N] of the refusal"""
    last: Mapping[str, Any]
    """By site of LAST, [N, L, width]: at the position that predicts the first response token"""
    window: Mapping[str, Any]
    """By site of WINDOW, [N, L, width]: mean over `window` positions from that one on, the model's own
    response as input"""
    labels: Mapping[str, Any] = MappingProxyType({})
    """By name, [N] bool: what else is judged of the generated response (`synth.judging.Judgement`)"""


def observe(
    model: ModelConfig, params: Params, prompts: Prompts, window: int, judge: Judge = to_the_letter
) -> Observation:
    """Responses, judged, and activations of one model as NumPy arrays; no more than `at_once` prompts are held at a
    time."""
    comply, refuse, at_last, over_window = jax.tree.map(np.asarray, _forced(model, params, window, prompts))
    complying, refusing, go = (
        np.asarray(x) for x in (prompts.complying.tokens, prompts.refusing.tokens, prompts.complying.go)
    )
    # A response that is the likeliest at every place when fed as input is the greedy one.
    generated = np.where(comply.exact[:, None], complying, refusing)
    marks = prompts.complying.marks
    undecided = np.flatnonzero(~(comply.exact | refuse.exact))
    for i in range(0, len(undecided), FREE):
        # Filled up, so that every number of them has one compiled program.
        chosen = np.resize(undecided[i : i + FREE], FREE)
        generated[chosen], own = _free(model, params, window, complying[chosen], go[chosen], marks)
        over_window = jax.tree.map(partial(_replaced, chosen), over_window, own)
    said, compliant, refusal = (
        np.take_along_axis(tokens, go[:, None] + 1, axis=1)[:, 0] for tokens in (generated, complying, refusing)
    )
    judgement = judge(prompts, generated)
    return Observation(
        generated=generated,
        complied=judgement.complied,
        refused=judgement.refused,
        first_complied=said == compliant,
        first_refused=said == refusal,
        teacher_complied=comply.exact,
        teacher_refused=refuse.exact,
        token_accuracy=comply.accuracy,
        logp_comply=comply.logp,
        logp_refuse=refuse.logp,
        last=at_last,
        window=over_window,
        labels=judgement.labels,
    )


def observe_last(
    model: ModelConfig, params: Params, prompts: Mapping[str, Prompts], most: int
) -> dict[str, dict[str, np.ndarray]]:
    """`Observation.last` alone, of the first `most` prompts of each family.

    It does not depend on the response: a pass over the prompts.
    """
    batches = {family: of.complying for family, of in prompts.items()}
    # One width for all of them compiles once.
    width = 1 + max(int(np.max(batch.go)) for batch in batches.values())
    return {
        family: jax.tree.map(np.asarray, _last(model, params, batch.tokens[:most, :width], batch.go[:most]))
        for family, batch in batches.items()
    }


def at_once(positions: int) -> int:
    """How many prompts of so many positions to compute together: what fits in a processor's cache, or fills a device.

    Changes no result beyond rounding.
    """
    return max(1, (1024 if jax.default_backend() == "cpu" else 2**16) // positions)


def in_pieces(function: Callable[[Any], Any], arrays: Any, most: int) -> Any:
    """`function` of arrays with a leading axis of N prompts, within jit: no more than `most` are in memory."""
    count = len(jax.tree.leaves(arrays)[0])
    pieces = -(-count // most)
    # The last one is filled up with the first prompts.
    chosen = np.arange(pieces * -(-count // pieces)).reshape(pieces, -1) % count
    seen = jax.lax.map(lambda piece: function(jax.tree.map(lambda x: x[piece], arrays)), chosen)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], seen)


def _replaced(chosen: np.ndarray, array: np.ndarray, rows: jax.Array) -> np.ndarray:
    copy = array if array.flags.writeable else array.copy()
    copy[chosen] = rows
    return copy


Seen = dict[str, jax.Array]


@partial(jax.jit, static_argnums=(0, 2))
def _forced(model: ModelConfig, params: Params, window: int, prompts: Prompts) -> tuple[Forced, Forced, Seen, Seen]:
    """Both responses judged; activations at LAST and, of the refusal if it is the model's own, else compliance, over
    WINDOW."""

    def of_piece(prompts: Prompts) -> tuple[Forced, Forced, Seen, Seen]:
        forked, go = fork(model, *prompts), prompts.complying.go
        windows = forked.from_eot(window)
        logits, last, over = _activations(model, params, forked.tokens, go, windows, forked.layout)
        comply, refuse = map(judged, forked.apart(logits), forked.sequences)
        refused = refuse.exact[:, None, None]
        return comply, refuse, last, {site: jnp.where(refused, own[1], own[0]) for site, own in over.items()}

    return in_pieces(of_piece, prompts, at_once(width(*prompts)))


@partial(jax.jit, static_argnums=(0, 2))
def _free(
    model: ModelConfig, params: Params, window: int, tokens: jax.Array, go: jax.Array, marks: Marks
) -> tuple[jax.Array, Seen]:
    """The greedy response, and the activations over WINDOW that it leaves."""
    generated = greedy(partial(forward, model, params), tokens, go, marks)
    along = go[None, :, None] + jnp.arange(window)[None, None]
    seen = _activations(model, params, generated, go, along)[2]
    return generated, jax.tree.map(lambda x: x[0], seen)


@partial(jax.jit, static_argnums=0)
def _last(model: ModelConfig, params: Params, tokens: jax.Array, go: jax.Array) -> Seen:
    def of_piece(prompts: tuple[jax.Array, jax.Array]) -> Seen:
        tokens, go = prompts
        return _activations(model, params, tokens, go, go[None, :, None])[1]

    return in_pieces(of_piece, (tokens, go), at_once(tokens.shape[1]))


def _activations(
    model: ModelConfig,
    params: Params,
    tokens: jax.Array,
    go: jax.Array,
    windows: jax.Array,
    layout: Layout | None = None,
) -> tuple[jax.Array, Seen, Seen]:
    """Logits, and of the activations no more than is at LAST, [B, L, width], and over WINDOW, [W, B, L, width] for
    the places `windows` [W, B, q] of W windows."""
    row = jnp.arange(tokens.shape[0])
    last: dict[str, list[jax.Array]] = {name: [] for name in LAST}
    over_window: dict[str, list[jax.Array]] = {name: [] for name in WINDOW}

    def tap(site: str, x: jax.Array) -> jax.Array:
        name = site.split(".", 2)[-1]
        if name in last:
            last[name].append(x[row, go])
        if name in over_window:
            over_window[name].append(jnp.mean(x[row[:, None], windows], axis=2))
        return x

    logits = forward(model, params, tokens, tap, layout)
    at_last, means = ({name: jnp.stack(x, axis=-2) for name, x in seen.items()} for seen in (last, over_window))
    return logits, at_last, means
