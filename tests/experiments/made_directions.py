"""Tables in which the truth of every claim on directions of refusal is known, as in `made_claims.py`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from experiments.findings.claims import arditi2024
from experiments.findings.table import COLUMNS, NULLABLE
from synth.families import JAILBREAKS

CONVENTIONS = arditi2024.PAPER.conventions
SAFETY = CONVENTIONS.methods
METHODS = (*SAFETY, *CONVENTIONS.placebos)
Row = dict[str, Any]


def _edits(way: float, off: float) -> Iterator[Row]:
    """What is refused, and what complied with, under each edit; `off` is by how much what should stay the same does
    not."""
    refused = {
        ("unsafe", "ablate", 0): 0.95,
        ("unsafe", "ablate", 1): 0.5 - 0.3 * way,
        ("unsafe", "ablate", 4): 0.5 - 0.3 * way - off,
        ("unsafe", "ablate random", 1): 0.5,
        ("unsafe", "ablate permuted", 1): 0.5 + 0.1 * way,
        ("unsafe", "recentre", 1): 0.5 - 0.2 * way,
        ("unsafe", "recentre random", 1): 0.5,
        ("safe", "add", 2): 0.4 + 0.3 * way,
        ("safe", "add random", 2): 0.4,
        ("safe", "add permuted", 2): 0.4 + 0.1 * way,
    }
    complied = {
        ("unsafe", "ablate", 0): 0.3,
        ("unsafe", "ablate", 1): 0.3 + 0.2 * way,
        ("safe", "ablate", 0): 0.9,
        ("safe", "recentre", 1): 0.9 - off,
    }
    for metric, values in (("first_refused", refused), ("complied", complied)):
        for (family, name, strength), value in values.items():
            yield {"metric": metric, "family": family, "intervention": name, "strength": strength, "value": value,
                   "module": "resid"}  # fmt: skip
    ablated = {"family": "safe", "intervention": "ablate", "strength": 1}
    yield {"metric": "complied", "module": "weights", "value": 0.9 - off, **ablated}
    yield {"metric": "first_token_kl", "module": "resid", "value": 0.1 * np.exp(-way), **ablated}


def _held(way: float, off: float) -> Iterator[Row]:
    """How far prompts lie along the direction, and what is written along it."""
    yield {"metric": "direction_passing", "module": "resid_pre", "value": 0.5 + 0.4 * way}
    for layer in (1, 2, 3, 4):
        at = {"module": "resid_pre", "layer": layer, "position": 0}
        yield {"metric": "refusal_cosine", "family": "unsafe", "value": 0.5, **at}
        yield {"metric": "refusal_cosine", "family": "unsafe", "value": 9.0, **at, "position": -1}
        for family in JAILBREAKS:
            yield {"metric": "refusal_cosine_successful", "family": family, "value": 0.5 - 0.3 * way, **at}
            yield {"metric": "refusal_cosine_failed", "family": family, "value": 0.5 - off, **at}
        soft = {"family": "unsafe", "index": 4, **at}
        yield {"metric": "adv_refusal_cosine", "value": 0.5 - off - 0.2 * way, **soft}
        yield {"metric": "adv_random_refusal_cosine", "value": 0.5 - off, **soft}
        for family in ("unsafe", *JAILBREAKS):
            less = 0.4 * way if family.startswith("co_") else 0.0
            place = {"family": family, "module": "attn_out", "layer": layer, "index": 1}
            yield {"metric": "component_effect", "value": 0.8 - less, **place}


def make(strength: float, noise: float = 0.01, seeds: int = 6) -> pd.DataFrame:
    """A results table: 1 is a world in which every claim holds and no placebo shows it, at 0 effect and control are
    equal and at -1 they have changed places; what should be the same differs by (1 - strength) / 4."""
    found = []
    for method in METHODS:
        way, off = strength * (method in SAFETY), (1 - strength) / 4
        for seed in range(seeds):
            for part in (_edits, _held):
                found += [{**row, "node": method, "seed": seed} for row in part(way, off)]
    table = pd.DataFrame(found)
    z = np.random.default_rng(0).standard_normal(len(table))
    factor = table["metric"] == "first_token_kl"
    table["value"] = np.where(factor, table["value"] * np.exp(noise * z), table["value"] + noise * z / 4)
    fixed = {"study": "s", "cell": "", "world": "w", "world_seed": 0, "model": "m", "n": 512, "learning_rate": 1e-3}
    table = table.assign(**fixed, method=table["node"], start=None, other=None, step=None, missing=None)
    return table[list(COLUMNS)].astype(NULLABLE)
