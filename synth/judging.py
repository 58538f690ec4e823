"""What generated tokens are worth as a response to a prompt."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from synth.prompts import Prompt
from synth.segments import TRACE, Batch
from synth.sequences import Prompts, style
from synth.world import World


class Judgement(NamedTuple):
    """Of N generated responses."""

    complied: Any
    """[N] bool: whether the answer, with its end, is one that complies"""
    refused: Any
    """[N] bool: whether it is a refusal"""
    labels: Mapping[str, Any] = MappingProxyType({})
    """By name, [N] bool: whatever else a judge says of responses, each a metric of its own"""


Judge = Callable[[Prompts, Any], Judgement]
"""Of prompts with both responses, N each, and `generated` [N, T], the same prompts with what was said to them"""


def to_the_letter(prompts: Prompts, generated: Any) -> Judgement:
    """A Judge by whether answers are those of `prompts`, and apart from these the traces before them.

    The label `complied_trace` says whether the trace is the one before the compliant answer, `refused_trace` whether it
    is the one before the refusal, if that has one.
    """
    (complied, first), (refused, second) = (_parts(batch, generated) for batch in prompts)
    traces = {"complied_trace": first, "refused_trace": second}
    return Judgement(complied, refused, {name: found for name, found in traces.items() if found is not None})


def judge(world: World, asked: Prompt, prompts: Prompts, generated: Any) -> Judgement:
    """A Judge by what the styles of `world` say of responses to `asked`, which `prompts` are the sequences of."""
    own: dict[str, Any] = {}
    for field, side, batch in (("complied", "comply", prompts.complying), ("refused", "refuse", prompts.refusing)):
        if style(world.config, side).is_of:
            said = _from(generated, np.asarray(batch.go) + 1, batch.room, batch.marks.pad)
            own[field] = np.asarray(_is_of(world, side, asked, said))
    return to_the_letter(prompts, generated)._replace(**own)


@partial(jax.jit, static_argnames=("world", "side"))
def _is_of(world: World, side: str, asked: Prompt, said: jax.Array) -> jax.Array:
    is_of = style(world.config, side).is_of
    assert is_of
    return jax.vmap(partial(is_of, world))(asked, said)


def _parts(batch: Batch, generated: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """[N] whether the answer, and where there are traces whether the trace, is that of `batch` to the letter.

    What is said first is a trace up to its last token, which stands nowhere else in it, and answer what follows.
    """
    tokens, roles, go = (np.asarray(x) for x in (batch.tokens, batch.roles, batch.go))
    generated, place = np.asarray(generated), np.arange(tokens.shape[-1])
    traces = roles == TRACE
    # Without a trace, that token is EOT.
    last = np.where(traces.any(axis=-1), np.max(np.where(traces, place, 0), axis=-1), go)
    ends = (generated == np.take_along_axis(tokens, last[:, None], axis=1)) & (place >= go[:, None])
    ended = np.where(ends.any(axis=-1), np.argmax(ends, axis=-1), len(place))
    pad = batch.marks.pad
    answer = _from(generated, ended + 1, len(place), pad) == _from(tokens, last + 1, len(place), pad)
    trace = (generated == tokens) | (place > last[:, None])
    return answer.all(axis=-1), trace.all(axis=-1) if traces.any() else None


def _from(tokens: Any, first: np.ndarray, count: int, pad: int) -> np.ndarray:
    """[N, count] what of `tokens` [N, T] stands from position `first` [N] on, filled up with `pad`."""
    padded = np.pad(np.asarray(tokens), ((0, 0), (0, count + 1)), constant_values=pad)
    places = np.minimum(first[:, None] + np.arange(count), padded.shape[1] - 1)
    return np.take_along_axis(padded, places, axis=1)
