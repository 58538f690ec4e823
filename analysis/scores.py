"""How a model or an edit of models answers prompts: given responses by teacher forcing, and its own, generated."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.edit import Edit, Fed, Label, Made, Reads
from analysis.observe import at_once, in_pieces
from analysis.rows import Result, Row, Samples
from models.decode import greedy, judged
from models.fork import Fork, fork, width
from synth.segments import Batch
from synth.sequences import Prompts


class Scores(NamedTuple):
    """How a model answers prompts [...], by teacher forcing."""

    complied: Any
    """[...] bool: every token of the compliant response and its EOS predicted, as greedy generation would"""
    refused: Any
    """[...] bool: the refusal, likewise"""
    log_odds: Any
    """[...] log p(compliant response) - log p(refusal)"""


def scores(edit: Edit, prompts: Prompts, seen: Any = None) -> Scores:
    """The edit on `prompts` with leading axes [families, N]; `seen` is `read` of what it reads, if that is known."""
    return _scores(edit, prompts, seen)


# A default left out would be compiled apart from one that is given.
@jax.jit
def _scores(edit: Edit, prompts: Prompts, seen: Any) -> Scores:
    def of_piece(piece: tuple[Prompts, Any]) -> Scores:
        prompts, seen = piece
        forked, fed = _both(edit, prompts)
        return judge(edit.logits(fed._replace(seen=seen)), forked)

    return few_at_once(of_piece, prompts, (prompts, seen))


@jax.jit
def read(reads: Reads, prompts: Prompts) -> Any:
    """What `reads` gives of `prompts` with both responses as a `Fork`, with leading axes [families, N]."""
    return few_at_once(lambda prompts: reads(_both(reads, prompts)[1]), prompts, prompts)


def _both(edit: Edit | Reads, prompts: Prompts) -> tuple[Fork, Fed]:
    forked = fork(edit.model, *prompts)
    return forked, Fed(forked.tokens, prompts.complying.go, forked.layout)


@jax.jit
def generated(edit: Edit, prompts: Prompts) -> jax.Array:
    """[families, N, T] each of `prompts` with the greedy response that the edit itself gives, token after token."""

    def of_piece(batch: Batch) -> jax.Array:
        return greedy(lambda tokens: edit.logits(Fed(tokens, batch.go)), batch.tokens, batch.go, batch.marks)

    found: jax.Array = few_at_once(of_piece, prompts, prompts.complying)
    return found


Answered = tuple[Scores, jax.Array]
"""Of prompts [families, N], and [families, N, V] the log-probabilities of the first token of the response"""


@jax.jit
def answered(edit: Edit, prompts: Prompts) -> Answered:
    """What an edit makes of `prompts` with leading axes [families, N], in one pass."""

    def of_piece(prompts: Prompts) -> Answered:
        forked, fed = _both(edit, prompts)
        logits = edit.logits(fed)
        first = logits[jnp.arange(len(fed.go)), fed.go].astype(jnp.float32)
        return judge(logits, forked), jax.nn.log_softmax(first)

    found: Answered = few_at_once(of_piece, prompts, prompts)
    return found


Known = dict[tuple[str, Label], list[Scores]]
"""By method and label, what was found before"""


def tried(edits: Iterable[Made[Any]], prompts: Prompts, known: Known | None = None) -> dict[Label, list[Scores]]:
    """Scores of each edit, by its label one per draw.

    What several edits read that follow one another is read once, and an edit that is the same as one of `known` is
    not tried again.
    """
    found: dict[Label, list[Scores]] = {}
    last: Reads | None = None
    seen = None
    for one in edits:
        draws = found.setdefault(one.label, [])
        if known and one.same in known:
            draws += known[one.same]
            continue
        if last is not one.reads:
            last = one.reads
            seen = None if last is None else read(last, prompts)
        draws.append(scores(one.make(), prompts, seen))
    return found


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

    N is `most`, or how many prompts the family with the fewest has, be it one that is asked for or not.
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
