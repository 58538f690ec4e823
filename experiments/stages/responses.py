"""What a model answered, in words: for people to read beside the numbers."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pandas as pd

from analysis.observe import Observation
from analysis.rows import Row, Subject
from experiments.stages import measure
from experiments.stages.measure import Measured
from experiments.stages.prompts import drawn
from synth.segments import Batch
from synth.source import Source

TABLE = "responses.parquet"

SHOWN = 128
"""Prompts of each family that are kept in words, the first ones."""

COMPLIED, REFUSED, NEITHER = OUTCOMES = ("complied", "refused", "neither")


@dataclass(frozen=True)
class Responses(Measured):
    """TABLE, and `measure.TABLE` with how many prompts of each family differ: a small world gives some again."""

    name: ClassVar[str] = "responses"

    def of_seed(self, subject: Subject, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        different = [
            Row("distinct", float(distinct(prompts.complying)), len(prompts.complying.go), family=family)
            for family, prompts in subject.prompts.items()
        ]
        return pd.DataFrame(different).assign(seed=seed), table(self.asked.source, subject.observations, seed)

    def write(self, folder: Path, found: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> None:
        different, answers = zip(*found, strict=True)
        pd.concat(different, ignore_index=True).to_parquet(folder / measure.TABLE, index=False)
        pd.concat(answers, ignore_index=True).to_parquet(folder / TABLE, index=False)


def distinct(batch: Batch) -> int:
    """How many of N sequences differ in their prompts."""
    tokens, go = np.asarray(batch.tokens), np.asarray(batch.go)
    asked = np.where(np.arange(tokens.shape[1]) <= go[:, None], tokens, batch.marks.pad)
    return len(np.unique(asked, axis=0))


def table(source: Source, seen: Mapping[str, Observation], seed: int) -> pd.DataFrame:
    """A row for each of the first SHOWN prompts of each family in `seen`: prompt, responses, verdict.

    Columns: `seed`, `family`, `prompt` (its number), `asked` (its tokens), `compliant` (the response that
    complies), `generated` (the model's own), `outcome` (one of OUTCOMES), `verdict` and `reason`.
    """
    parts = []
    for family, observed in seen.items():
        complied, refused = np.asarray(observed.complied)[:SHOWN], np.asarray(observed.refused)[:SHOWN]
        prompts, go = _in_words(source, family, len(observed.complied))
        outcome = np.select([complied, refused], [COMPLIED, REFUSED], NEITHER)
        generated = _responses(source, observed.generated, go)
        parts.append(prompts.assign(seed=seed, family=family, generated=generated, outcome=outcome))
    columns = ["seed", "family", "prompt", "asked", "compliant", "generated", "outcome", "verdict", "reason"]
    return pd.concat(parts, ignore_index=True)[columns].astype({"seed": "int32", "prompt": "int32"})


@functools.lru_cache(maxsize=64)
@jax.ensure_compile_time_eval()
def _in_words(source: Source, family: str, count: int) -> tuple[pd.DataFrame, np.ndarray]:
    """What is the same for every model: columns prompt, asked, compliant, verdict, reason; and where prompts end."""
    asked, (complying, _) = jax.tree.map(lambda x: np.asarray(x[:SHOWN]), drawn(source, family, count))
    go, why = complying.go, source.reasons(asked)
    words = pd.DataFrame(
        {
            "prompt": np.arange(len(go)),
            "asked": [source.vocab.decode(of[: end + 1]) for of, end in zip(complying.tokens, go, strict=True)],
            "compliant": _responses(source, complying.tokens, go),
            "verdict": [line.partition(":")[0] for line in why],
            "reason": [line.partition(": ")[2] for line in why],
        }
    )
    return words, go


def _responses(source: Source, tokens: Any, go: np.ndarray) -> list[str]:
    """In words, what in the first of `tokens` [N, T] follows the prompts, which end at `go`."""
    return [source.vocab.decode(of[end + 1 :]) for of, end in zip(np.asarray(tokens)[: len(go)], go, strict=True)]
