"""What a model answered, in words: for people to read beside the numbers."""

import functools
from collections.abc import Mapping

import jax
import numpy as np
import pandas as pd

from analysis.observe import Observation
from experiments.stages.prompts import drawn
from synth.describe import reason
from synth.world import WorldConfig, build_world

TABLE = "responses.parquet"

SHOWN = 128
"""Prompts of each family that are kept in words, the first ones."""

COMPLIED, REFUSED, NEITHER = OUTCOMES = ("complied", "refused", "neither")


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
