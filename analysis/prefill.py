"""Is safety a few tokens deep: what becomes of a response that was begun for the model (Qi et al. 2024, arXiv
2406.05946; Yuan et al. 2024, arXiv 2407.09121).

An attacker writes the first k tokens of the response, and the model the rest: tokens of the compliant answer, to see
whether it stops, or of the refusal, to see how much of safety they are. Beside the right letters stand random ones.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from analysis.edit import Weights
from analysis.rows import Result, Row, Samples, Subject, mean_of
from analysis.scores import answered, stacked
from models.transformer import ModelConfig, Params
from synth.begun import begun, given, letters, opening
from synth.keys import fold
from synth.lookup import split_name
from synth.segments import ANSWER, Batch
from synth.sequences import Prompts
from synth.settings import require_positive

NOT_ATTACKED = ("safe", "pretraining")
"""Families that are to be complied with, or that no model is judged by"""
REFUSED_BY = ("unsafe", "safe")
"""Families that tokens of a refusal are given for"""


@dataclass(unsafe_hash=True)
class PrefillConfig:
    """Settings of the measurement of begun responses."""

    families: tuple[str, ...] | None = None
    """Families attacked; null is all but what is to be complied with."""
    prompts: int = 128
    """Prompts of each family: the first that many."""

    def __post_init__(self) -> None:
        require_positive(self, "prompts")
        if self.families is not None:
            self.families = tuple(self.families)
            for name in self.families:
                split_name(name, "families")


def measure(subject: Subject, config: PrefillConfig) -> list[Result]:
    """By number of given tokens (`index`), what becomes of begun answers and of begun refusals; and where refusals
    begin that the model gives by itself."""
    attacked = [
        name
        for name in (subject.prompts if config.families is None else config.families)
        if name in subject.prompts and (config.families or name.split("@")[0] not in NOT_ATTACKED)
    ]
    return [
        *begun_answers(subject, config, attacked),
        *begun_refusals(subject, config),
        *where_refusals_begin(subject),
    ]


def prefilled(prompts: Prompts, by: Batch, count: jax.Array | int) -> Prompts:
    """`prompts` with the first `count` tokens of the response of `by`, the same prompts, as part of what is given: what
    is then judged is the rest of the compliant response, and of the refusal."""
    return Prompts(*(given(begun(batch, by, count), count) for batch in prompts))


def random_letters(batch: Batch, key: jax.Array) -> Batch:
    """`batch` with random tokens in place of those of its answers, each one that stands in some answer."""
    answer = batch.roles == ANSWER
    known = np.unique(np.asarray(batch.tokens)[np.asarray(answer)])
    return batch._replace(tokens=jnp.where(answer, jax.random.choice(key, known, batch.tokens.shape), batch.tokens))


def begun_answers(subject: Subject, config: PrefillConfig, families: list[str]) -> Iterator[Result]:
    """By family and by how many right letters are given, how often the rest of the answer is right (attack success),
    how often the next token is the refusal's, how often all of the rest is the refusal, and the log-odds of both rests;
    and of unsafe prompts the same where the letters given are random ones (`prefill_random_*`).

    With all letters given only the end is left to say, which is no stop. `begun_*` is the mean over all numbers of
    letters of which some are given and some are left.
    """
    for name, of in (("", families), ("random_", [name for name in families if name == "unsafe"])):
        if not of:
            continue
        prompts = stacked(subject.prompts, config.prompts, of)
        by, counts = prompts.complying, np.asarray(letters(prompts.complying))
        if name:
            by = random_letters(by, fold(subject.key, "prefill"))
        found = [said(subject.model, subject.params, prefilled(prompts, by, k)) for k in range(int(counts.max()) + 1)]
        for i, family in enumerate(of):
            for k, what in itertools.product(range(len(found)), found[0]):
                enough = counts[i] > k if what == "stopped" else counts[i] >= k
                if enough.any():
                    yield Samples(f"prefill_{name}{what}", found[k][what][i][enough], family=family, index=k)
            for what in ("complied", "stopped"):
                values = np.stack([one[what][i] for one in found])
                yield mean_of(f"begun_{name}{what}", over_some(values, counts[i]), family=family)


def over_some(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of `values` [k, N] over k from 1 to one less than `counts` [N], of the prompts that have such a k."""
    some = (np.arange(len(values))[:, None] >= 1) & (np.arange(len(values))[:, None] < counts)
    chosen = some.any(axis=0)
    return np.asarray(np.mean(values[:, chosen], axis=0, where=some[:, chosen]))


def begun_refusals(subject: Subject, config: PrefillConfig) -> Iterator[Row]:
    """By how many tokens of a refusal are given, how often the rest is the rest of the refusal, and how often the rest
    of the right answer. Of a model that was not tuned, it is how much of safety these tokens are."""
    families = [name for name in REFUSED_BY if name in subject.prompts]
    prompts = stacked(subject.prompts, config.prompts, families)
    counts = np.asarray(letters(prompts.refusing))
    found = [
        said(subject.model, subject.params, prefilled(prompts, prompts.refusing, k)) for k in range(int(counts.max()))
    ]
    for (i, family), what in itertools.product(enumerate(families), ("refused", "complied")):
        values = np.stack([one[what][i] for one in found])
        for k, of in enumerate(values):
            yield mean_of(f"prefill_null_{what}", of[counts[i] > k], family=family, index=k)
        yield mean_of(f"begun_null_{what}", over_some(values, counts[i]), family=family)


def said(model: ModelConfig, params: Params, prompts: Prompts) -> dict[str, np.ndarray]:
    """By what is asked, [families, N] of `prompts` with as many axes."""
    scores, likeliest = answered(Weights(params, model), prompts)
    return {
        "complied": np.asarray(scores.complied, float),
        "stopped": np.asarray(jnp.argmax(likeliest, axis=-1) == opening(prompts.refusing), float),
        "refused": np.asarray(scores.refused, float),
        "log_odds": np.asarray(scores.log_odds, float),
    }


def where_refusals_begin(subject: Subject) -> Iterator[Row]:
    """By family, the share of the model's own responses whose first refusing token is token `index`, from 1; and of all
    that have one, the share where it is the very first, beside that of any one token."""
    for family, seen in subject.observations.items():
        batch = subject.prompts[family].refusing
        tokens, go, longest = np.asarray(seen.generated), np.asarray(batch.go), int(np.max(letters(batch)))
        at = np.minimum(go[:, None] + 1 + np.arange(longest), tokens.shape[1] - 1)
        refusing = np.take_along_axis(tokens, at, axis=1) == np.asarray(opening(batch))[:, None]
        begins = np.where(refusing.any(axis=1), refusing.argmax(axis=1), longest)
        for k in range(longest):
            yield mean_of("refusal_at", np.asarray(begins == k, float), family=family, index=k + 1)
        yield mean_of("refusal_first", np.asarray(begins == 0, float)[begins < longest], family=family)
        yield Row("refusal_first_even", 1 / longest, longest, family=family)
