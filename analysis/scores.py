"""How a changed model answers given prompts: both responses by teacher forcing, without generating."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.observe import at_once, in_pieces
from analysis.rows import Result, Row, Samples
from models.decode import judged
from models.fork import Fork, fork, width
from models.transformer import ModelConfig, Params, forward
from synth.sequences import Prompts


class Scores(NamedTuple):
    """How a model answers prompts [...], by teacher forcing."""

    complied: Any
    """[...] bool: every token of the compliant response and its EOS predicted, as greedy generation would"""
    refused: Any
    """[...] bool: the refusal, likewise"""
    log_odds: Any
    """[...] log p(compliant response) - log p(refusal)"""


@partial(jax.jit, static_argnames="model")
def scores(model: ModelConfig, params: Params, prompts: Prompts) -> Scores:
    """The model on `prompts` with leading axes [families, N]."""

    def of_piece(prompts: Prompts) -> Scores:
        forked = fork(model, *prompts)
        return judge(forward(model, params, forked.tokens, layout=forked.layout), forked)

    return few_at_once(of_piece, prompts, prompts)


def few_at_once(function: Callable[[Any], Any], prompts: Prompts, arrays: Any) -> Any:
    """`function` of arrays [n, ...], prompts among them, for `arrays` with leading axes [families, N]."""
    leading = prompts.complying.go.shape
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), arrays)
    found = in_pieces(function, flat, at_once(width(*prompts)))
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), found)


def judge(logits: jax.Array, forked: Fork) -> Scores:
    comply, refuse = map(judged, forked.apart(logits), forked.sequences)
    return Scores(comply.exact, refuse.exact, comply.logp - refuse.logp)


def stacked(prompts: Mapping[str, Prompts], most: int, families: Sequence[str] | None = None) -> Prompts:
    """The first prompts of each of `families`, or of all, with leading axes [families, N].

    N is `most`, or what the family with the fewest prompts has, be it one of `families` or not.
    """
    count = min(most, *(len(of.complying.go) for of in prompts.values()))
    chosen = [prompts[name] for name in (prompts if families is None else families)]
    whole: Prompts = jax.tree.map(lambda *arrays: jnp.stack([array[:count] for array in arrays]), *chosen)
    return whole


def results_of(families: Sequence[str], draws: Sequence[Scores], **where: Any) -> list[Result]:
    """The mean over `draws` of scores [families, N]: each metric of each family."""
    results: list[Result] = []
    for metric, values in zip(Scores._fields, zip(*draws, strict=True), strict=True):
        mean = np.mean([np.asarray(value, float) for value in values], axis=0)
        for family, of_family in zip(families, mean, strict=True):
            results.append(_result(metric, of_family, {"family": family, **where}))
    return results


def _result(metric: str, values: np.ndarray, where: dict[str, Any]) -> Result:
    if np.isfinite(values).all():
        return Samples(metric, values, **where)
    return Row(metric, np.nan, len(values), **where, missing="log-probabilities that are not finite")
