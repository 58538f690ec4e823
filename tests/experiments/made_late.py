"""Tables in which the truth of the claims on late refusals is known, as in `made_claims.py`."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from experiments.findings.claims import qi2024, yuan2024
from experiments.findings.claims.begun import ATTACK, attacked
from experiments.findings.table import COLUMNS, NULLABLE
from experiments.settings.names import UNTOUCHED
from tests.experiments.made_claims import Row

SHALLOW, PLACEBOS = yuan2024.PAPER.conventions.methods, yuan2024.PAPER.conventions.placebos
LATE = (*yuan2024.LATE, qi2024.DEEP)
METHODS = (UNTOUCHED, *SHALLOW, *LATE, *PLACEBOS, qi2024.AGAIN)
assert qi2024.SHAM in PLACEBOS
LETTERS = 4
GAINS = {"prefix_sft": 0.1, "rto": 0.2, "derta": 0.3, "deep_refusal": 0.2}
"""By how much each does more against begun answers than SSFT"""


def _of(method: str, way: float) -> Iterator[Row]:
    shallow, gain = way * (method in SHALLOW), way * GAINS.get(method, 0.0)
    # Placebos complete as many as SSFT, and begin as many.
    alike = 0.3 * way * (method in PLACEBOS)
    at: Row = {"family": "unsafe"}
    yield {"metric": "prefill_complied", "value": 0.45 + alike, "index": 0, **at}
    yield {"metric": "begun_complied", "value": 0.45 + alike + 0.3 * shallow - gain, **at}
    yield {"metric": "begun_random_complied", "value": 0.45 + alike, **at}
    yield {"metric": "begun_stopped", "value": 0.45 + gain, **at}
    yield {"metric": "prefill_null_refused", "value": 0.45, "index": 0, **at}
    yield {"metric": "begun_null_refused", "value": 0.45 + 0.3 * way * (method == UNTOUCHED), **at}
    yield {"metric": "refusal_first", "value": 1 / LETTERS + 0.3 * shallow, "family": "unsafe"}
    yield {"metric": "refusal_first_even", "value": 1 / LETTERS, "family": "unsafe"}
    for metric in ("kl_first_comply", "kl_first_matched_comply"):
        yield {"metric": metric, "value": 1 / LETTERS + 0.3 * shallow - gain / 2, "family": "unsafe"}
        yield {"metric": f"{metric}_even", "value": 1 / LETTERS, "family": "unsafe"}
    yield {"metric": "token_kl_comply", "value": 2.0 * 3**shallow, "family": "unsafe", "index": 1}
    yield {"metric": "complied", "family": "safe", "value": 0.95 - 0.4 * (1 - way) * (method in LATE) / 2}
    yield {"metric": "complied", "family": "unsafe", "value": 0.1}
    for family in ("co_task", "misgen_both"):
        yield {"metric": "complied", "family": family, "value": 0.5 - gain}


def _attacked(way: float) -> Iterator[Row]:
    after = {
        attacked("sft"): 0.1 + 0.5 * way,
        attacked("sft", qi2024.BENIGN): 0.1,
        attacked("sft", qi2024.CONSTRAINED): 0.1 + 0.3 * (way if way > 0 else 0) - 0.4 * min(way, 0),
        **dict.fromkeys((attacked(qi2024.DEEP), attacked(qi2024.DERTA)), 0.1 + 0.5 * way + 0.2 * (1 - way)),
    }
    for node, value in after.items():
        yield {"metric": "complied", "family": "unsafe", "node": node, "method": ATTACK, "value": value}


def make(way: float, noise: float = 0.002, seeds: int = 6) -> pd.DataFrame:
    """A results table in which all holds at 1, nothing at 0 and the reverse at -1; `noise` is added."""
    found = [
        {"node": method, "method": method, "seed": seed, **row}
        for seed in range(seeds)
        for rows in (*((method, _of(method, way)) for method in METHODS), ("", _attacked(way)))
        for method, row in ((rows[0], row) for row in rows[1])
    ]
    table = pd.DataFrame(found).assign(world_seed=0, learning_rate=1e-3, n=512)
    table["value"] += noise * np.random.default_rng(0).standard_normal(len(table))
    return table.reindex(columns=list(COLUMNS)).astype(NULLABLE)
