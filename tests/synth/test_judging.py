"""Tests of `synth/judging.py`: what was said is judged by its answer and, where there is one, by its trace apart."""

import jax.numpy as jnp
import numpy as np

from synth import vocab
from synth.judging import to_the_letter
from synth.segments import ANSWER, END, RESPONSE_START, START, TRACE, Segment, laid_out, one
from synth.sequences import Prompts

BEGIN = (one(vocab.BOS, START), one(vocab.EOT, RESPONSE_START))
END_ = one(vocab.EOS, END, scored=True)
STOP = 30
"""The token that ends a trace"""
TRACES = ("complied_trace", "refused_trace")


def part(role: int, *tokens: int) -> Segment:
    return Segment(jnp.array(tokens), len(tokens), role, scored=True)


def judged(prompts: list[list[Segment]], *said: int) -> tuple[bool | None, ...]:
    """Of one prompt, what is said behind EOT."""
    batches = [type(b)(*(x[None] for x in b[:4]), b.room) for b in laid_out(*prompts)]
    tokens = np.array([[vocab.BOS, vocab.EOT, *said]])
    length = batches[0].tokens.shape[1]
    padded = np.pad(tokens, ((0, 0), (0, length)), constant_values=vocab.PAD)[:, :length]
    found = to_the_letter(Prompts(*batches), padded)
    labels = [bool(found.labels[name][0]) if name in found.labels else None for name in TRACES]
    return (bool(found.complied[0]), bool(found.refused[0]), *labels)


def test_without_a_trace_it_is_equality() -> None:
    both = [[*BEGIN, part(ANSWER, 10, 11), END_], [*BEGIN, part(ANSWER, 5, 5, 5), END_]]
    assert judged(both, 10, 11, vocab.EOS) == (True, False, None, None)
    assert judged(both, 5, 5, 5, vocab.EOS) == (False, True, None, None)
    for other in ((10, 11), (10, 12, vocab.EOS), (10, 11, 11, vocab.EOS), (5, 5, vocab.EOS), (vocab.EOS,)):
        assert judged(both, *other) == (False, False, None, None)


def test_an_answer_is_found_behind_a_trace_of_any_length() -> None:
    whole = [*BEGIN, part(TRACE, 20, 21, STOP), part(ANSWER, 10, 11), END_]
    both = [whole, [*BEGIN, part(ANSWER, 5, 5, 5, 5, 5), END_]]
    assert judged(both, 20, 21, STOP, 10, 11, vocab.EOS) == (True, False, True, None)
    assert judged(both, 20, 21, STOP, 10, 12, vocab.EOS) == (False, False, True, None)
    assert judged(both, 20, 22, STOP, 10, 11, vocab.EOS) == (True, False, False, None)
    assert judged(both, 20, STOP, 10, 11, vocab.EOS) == (True, False, False, None)
    assert judged(both, STOP, 10, 11, vocab.EOS) == (True, False, False, None)
    # A trace that never ends has no answer, and an answer alone has no trace.
    assert judged(both, 20, 21, 10, 11, vocab.EOS) == (False, False, False, None)
    assert judged(both, 10, 11, vocab.EOS) == (False, False, False, None)
    assert judged(both, 5, 5, 5, 5, 5, vocab.EOS) == (False, True, False, None)


def test_a_refusal_may_have_a_trace_of_its_own() -> None:
    comply = [*BEGIN, part(TRACE, 20, STOP), part(ANSWER, 10, 11), END_]
    refuse = [*BEGIN, part(TRACE, 21, STOP), part(ANSWER, 5, 5), END_]
    assert judged([comply, refuse], 20, STOP, 5, 5, vocab.EOS) == (False, True, True, False)
    assert judged([comply, refuse], 21, STOP, 5, 5, vocab.EOS) == (False, True, False, True)
