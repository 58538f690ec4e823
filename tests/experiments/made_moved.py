"""Tables in which the truth of the claims on moved weights and on disalignment is known, as in `made_claims.py`."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.edits.disaligned import DISALIGN, DISALIGN_RANDOM
from analysis.edits.landscape import BY_CHANGE, MOVE
from experiments.findings.claims import peng2024
from experiments.findings.claims.begun import ATTACK, attacked
from experiments.findings.table import COLUMNS, NULLABLE
from experiments.settings.names import UNTOUCHED
from tests.experiments.made_claims import Row

SAFETY, PLACEBOS = peng2024.PAPER.conventions.methods, peng2024.PAPER.conventions.placebos
METHODS = (UNTOUCHED, *SAFETY, *PLACEBOS)
ORDER = dict(zip(SAFETY, (-1, 0, 1), strict=True))
"""Which model withstands attacks best"""
ORDERED = ("visage", "visage_whole", "refused")
"""Of which the order of models is read, which noise would make at random where there is none"""
STRENGTHS = (-0.4, -0.2, 0.0, 0.2, 0.4)


def _of(method: str, way: float) -> Iterator[Row]:
    effect, place = way * (method in SAFETY), ORDER.get(method, 0)
    for family, sign in (("unsafe", 1), ("safe", -1)):
        at: Row = {"family": family, "intervention": MOVE}
        yield {"metric": "basin_fall", "value": 0.5 + 0.2 * effect * sign, **at}
        yield {"metric": "basin_width", "value": 0.3 + 0.1 * effect * sign, **at}
    for metric in ("visage", "visage_whole"):
        yield {"metric": metric, "value": 0.5 + 0.1 * way * place, "family": "unsafe", "intervention": MOVE}
    width = 0.3 + 0.1 * effect
    yield {"metric": "basin_width", "value": width - 0.2 * effect, "family": "unsafe", "intervention": BY_CHANGE}
    yield {"metric": "basin_width", "value": 0.3 - 0.1 * effect, "family": "safe", "intervention": BY_CHANGE}
    for strength in STRENGTHS:
        lost = 0.0 if strength == 0 else 0.4
        for family, more in (("safe", 0.0), ("co_task", 0.3 * effect), ("misgen_task", 0.3 * effect)):
            at = {"family": family, "intervention": MOVE, "strength": strength}
            yield {"metric": "complied", "value": 0.8 * (1 - lost - more * (strength != 0)), **at}
        at = {"family": "unsafe", "intervention": MOVE, "strength": strength}
        yield {"metric": "complied", "value": 0.3, **at}
        yield {"metric": "refused", "value": 0.6, **at}
    yield {"metric": "complied", "value": 0.8, "family": "safe"}
    for family in ("co_task", "misgen_task", "misgen_both"):
        yield {"metric": "complied", "value": 0.8, "family": family}
    for kind, strength in ((DISALIGN, 0.0), (DISALIGN, 0.5), (DISALIGN, 1.0), (DISALIGN_RANDOM, 0.5)):
        gain = effect * (kind == DISALIGN and strength > 0)
        at = {"intervention": kind, "strength": strength}
        yield {"metric": "complied", "value": 0.3 + 0.25 * gain, "family": "unsafe", **at}
        yield {"metric": "log_odds", "value": 2.0 + 3 * gain, "family": "unsafe", **at}
        spoilt = 0.3 * (1 - way) / 2 * (method in SAFETY and strength > 0)
        yield {"metric": "complied", "value": 0.8 - spoilt, "family": "safe", **at}


def make(way: float, noise: float = 0.002, seeds: int = 6) -> pd.DataFrame:
    """A results table in which all holds at 1, nothing at 0 and the reverse at -1; `noise` is added."""
    found: list[Row] = []
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        for method in METHODS:
            found += ({"node": method, "method": method, "seed": seed, **row} for row in _of(method, way))
        for method in SAFETY:
            node = {"node": attacked(method), "method": ATTACK, "seed": seed}
            found.append({**node, "metric": "complied", "family": "unsafe", "value": 0.5 - 0.2 * ORDER[method]})
            found.append({**node, "metric": "change_strength", "value": 0.3 + 0.2 * way})
    table = pd.DataFrame(found).assign(world_seed=0, learning_rate=1e-3, n=512)
    table["value"] += noise * rng.standard_normal(len(table)) * ~table["metric"].isin(ORDERED)
    return table.reindex(columns=list(COLUMNS)).astype(NULLABLE)
