"""Tables in which the truth of the claims on harmfulness and on shifts is known, as in `made_claims.py`."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from experiments.findings.claims import pan2025
from experiments.findings.table import COLUMNS, NULLABLE
from tests.experiments.made_claims import LAYERS, Row

SAFETY, PLACEBOS = pan2025.PAPER.conventions.methods, pan2025.PAPER.conventions.placebos


def _harmfulness(way: float) -> Iterator[Row]:
    for layer in LAYERS:
        yield {"metric": "harm_refuse_cosine_halves", "layer": layer, "value": 0.6 - 0.3 * way}
        # What one direction would have is the root of 0.9 * 0.4.
        for place, value in ((-1, 0.4), (0, 0.9)):
            yield {"metric": "halves_cosine", "layer": layer, "position": place, "value": value}
    for place in (-1, 0):
        yield {"metric": "side_gap", "position": place, "value": 1.0 + 0.3 * way}
        yield {"metric": "side_gap_swapped", "position": place, "value": 1.0}
        for family, side in (("unsafe", 1.0), ("safe", -1.0)):
            yield {"metric": "side_score", "family": family, "position": place, "value": side}
        for family in ("co_task", "misgen_both"):
            moved = 0.5 + 0.3 * way * (place == 0)
            at = {"family": family, "position": place, "n": 40}
            yield {"metric": "side_score_successful", "value": 1 - 2 * moved, **at}
    steered = {
        ("steer harm", 0): 0.4 + 0.15 * way,
        ("steer refuse", 0): 0.4 + 0.35 * way,
        ("steer random", 0): 0.4,
        ("steer harm own", -1): 0.4 + 0.2 * way,
        ("steer harm own random", -1): 0.4,
        ("steer refuse own", 0): 0.4 + 0.3 * way,
        ("steer refuse own random", 0): 0.4,
    }
    for (name, place), value in steered.items():
        at = {"family": "safe", "position": place, "intervention": name, "strength": 2.0}
        yield {"metric": "first_refused", "value": value, **at}


def _shifts(way: float) -> Iterator[Row]:
    for layer in LAYERS:
        at: Row = {"layer": layer, "module": "resid_post", "position": 0}
        for metric, chance in (
            *(("shift_energy", "random"), ("shift_energy_centred", "random")),
            *(("shift_overlap", "random"), ("shift_overlap_centred", "random")),
            *(("shift_accuracy", "permuted"), ("shift_accuracy_first", "permuted")),
        ):
            yield {"metric": metric, "value": 0.4 + 0.2 * way, **at}
            yield {"metric": f"{metric}_{chance}", "value": 0.4, **at}
        yield {"metric": "shift_rank", "index": 90, "value": 10 * 2**-way, **at}
        yield {"metric": "shift_rank_random", "index": 90, "value": 10.0, **at}
        for metric, modules in (
            ("change_overlap", ("W_out", "W_O", "W_in")),
            ("axis_overlap", ("resid_post", "mlp.post")),
        ):
            for module in modules:
                where: Row = {"layer": layer, "module": module, "index": 1 if metric == "change_overlap" else None}
                yield {"metric": metric, "value": 0.4 + 0.2 * way, **where}
                yield {"metric": f"{metric}_random", "value": 0.4, **where}
    for name in ("ablate shift", "change without refusal", "change without shift"):
        yield {"metric": "refused", "family": "unsafe", "intervention": name, "strength": 1.0, "value": 0.5 - 0.3 * way}
    for name, value in (("change without refusal", 0.5 - 0.3 * way), ("change without random", 0.5)):
        for module in ("shift", "axis"):
            again: Row = {"module": module, "layer": LAYERS[-1], "intervention": name, "strength": 1.0}
            yield {"metric": "found_again", "value": value, **again}
    for name in ("ablate shift random", "change without random"):
        yield {"metric": "refused", "family": "unsafe", "intervention": name, "strength": 1.0, "value": 0.5}
    # Nothing is taken out: of no claim.
    yield {"metric": "refused", "family": "unsafe", "intervention": "ablate shift", "strength": 0.0, "value": 1.0}


def make(strength: float, noise: float = 0.002, seeds: int = 6) -> pd.DataFrame:
    """A results table in which all holds at 1, nothing at 0 and the reverse at -1, of safety methods alone; `noise` is
    added."""
    found = [
        {**row, "node": method, "method": method, "seed": seed}
        for seed in range(seeds)
        for method in (*SAFETY, *PLACEBOS)
        for part in (_harmfulness, _shifts)
        for row in part(strength if method in SAFETY else 0.0)
    ]
    table = pd.DataFrame(found).assign(world_seed=0, learning_rate=1e-3)
    table["n"] = table["n"].fillna(512).astype(int)
    table["value"] += noise * np.random.default_rng(0).standard_normal(len(table))
    return table.reindex(columns=list(COLUMNS)).astype(NULLABLE)
