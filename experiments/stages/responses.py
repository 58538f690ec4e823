"""What a model answered, in words: for people to read beside the numbers."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pandas as pd

from analysis.observe import Observation
from analysis.rows import Row, Subject
from experiments.stages import measure
from experiments.stages.measure import Measured
from experiments.stages.prompts import drawn
from synth.describe import reason
from synth.prompts import distinct
from synth.world import WorldConfig, build_world

TABLE = "responses.parquet"

SHOWN = 128
"""Prompts of each family that are kept in words, the first ones."""

COMPLIED, REFUSED, NEITHER = OUTCOMES = ("complied", "refused", "neither")


@dataclass(frozen=True)
class Responses(Measured):
    """TABLE, and `measure.TABLE` with how many prompts of each family differ: a small world gives some again."""

    name: ClassVar[str] = "responses"

    def of_seed(self, subject: Subject, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        world, count = self.asked.world, self.asked.prompts
        different = [
            Row("distinct", float(distinct(drawn(world, family, count)[0])), count, family=family)
            for family in self.asked.families
        ]
        return pd.DataFrame(different).assign(seed=seed), table(world, subject.observations, seed)

    def write(self, folder: Path, found: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> None:
        different, answers = zip(*found, strict=True)
        pd.concat(different, ignore_index=True).to_parquet(folder / measure.TABLE, index=False)
        pd.concat(answers, ignore_index=True).to_parquet(folder / TABLE, index=False)


def table(world: WorldConfig, seen: Mapping[str, Observation], seed: int) -> pd.DataFrame:
    """A row for each of the first SHOWN prompts of each family in `seen`: prompt, responses, verdict.

    Columns: `seed`, `family`, `prompt` (its number), `asked` (its tokens), `compliant` (the response that
    complies), `generated` (the model's own), `outcome` (one of OUTCOMES), `verdict` and `reason`.
    """
    parts = []
    for family, observed in seen.items():
        complied, refused = np.asarray(observed.complied)[:SHOWN], np.asarray(observed.refused)[:SHOWN]
        prompts = _in_words(world, family, len(observed.complied))
        outcome = np.select([complied, refused], [COMPLIED, REFUSED], NEITHER)
        generated = [_response(world, tokens) for tokens in np.asarray(observed.generated)[:SHOWN]]
        parts.append(prompts.assign(seed=seed, family=family, generated=generated, outcome=outcome))
    columns = ["seed", "family", "prompt", "asked", "compliant", "generated", "outcome", "verdict", "reason"]
    return pd.concat(parts, ignore_index=True)[columns].astype({"seed": "int32", "prompt": "int32"})


@functools.lru_cache(maxsize=64)
@jax.ensure_compile_time_eval()
def _in_words(world: WorldConfig, family: str, count: int) -> pd.DataFrame:
    """What is the same for every model: columns prompt, asked, compliant, verdict, reason."""
    tables = build_world(world)
    prompts, (complying, _) = jax.tree.map(lambda x: np.asarray(x[:SHOWN]), drawn(world, family, count))
    go = complying.go
    why = [reason(tables, jax.tree.map(lambda x, i=i: x[i], prompts)) for i in range(len(go))]
    return pd.DataFrame(
        {
            "prompt": np.arange(len(go)),
            "asked": [tables.vocab.decode(tokens[: end + 1]) for tokens, end in zip(complying.tokens, go, strict=True)],
            "compliant": [_response(world, tokens) for tokens in complying.tokens],
            "verdict": [line.partition(":")[0] for line in why],
            "reason": [line.partition(": ")[2] for line in why],
        }
    )


def _response(world: WorldConfig, tokens: np.ndarray) -> str:
    """The names of all that follows `<go>`."""
    return build_world(world).vocab.decode(tokens).partition("<go> ")[2]
