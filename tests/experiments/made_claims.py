"""Tables in which the truth of every claim is known: as the paper says, no effect at all, the reverse."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from experiments.findings.claims import jain2024
from experiments.findings.table import COLUMNS, NULLABLE
from experiments.settings.names import UNTOUCHED
from synth.families import JAILBREAKS

SAFETY, PLACEBOS = jain2024.PAPER.conventions.methods, jain2024.PAPER.conventions.placebos
METHODS = (UNTOUCHED, *SAFETY, *PLACEBOS)
TUNED = METHODS[1:]
FAMILIES = ("safe", "unsafe", *JAILBREAKS)
LAYERS = (1, 2, 3, 4)
GROWTH = {"sft": 3.0, "dpo": 9.0, "unlearning": 12.0}
ALPHAS = (0.0, 0.5, 1.0, 1.25, 1.5)
RANKS = ("tau tells success", "alpha, separation", "alpha, angles", "alpha, Lipschitz", "alpha, Fisher")
"""Claims about correlations, which are at random where there is no effect."""

Row = dict[str, Any]


def _activations(method: str, strength: float) -> Iterator[Row]:
    safety = method in SAFETY
    for rate in (2e-3, 1e-3) if method in TUNED else (5e-3,):
        for layer in LAYERS:
            deep, fast = (1.0 if layer > 2 else 0.5), (1.0 if rate > 1e-3 else 0.5)
            grown = GROWTH.get(method, 1.0) ** (strength * deep * fast)
            for module in ("mlp.post", "mlp.post_last"):
                at = {"learning_rate": rate, "layer": layer, "module": module}
                yield {"metric": "separation", "value": 2 * grown, **at}
                yield {"metric": "separation_scaled", "value": 0.4 * grown, **at}
    for layer in LAYERS:
        at = {"layer": layer, "module": "mlp.post"}
        yield {"metric": "kmeans_accuracy", "value": 0.65 + 0.25 * strength * safety, **at}
        for module in ("mlp.post", "mlp.post_last"):
            for family in ("safe", "unsafe"):
                own = 0.3 * strength if family == "unsafe" else 0.2 * (1 - strength)
                where = {"family": family, "layer": layer, "module": module}
                yield {"metric": "spectral_share", "value": 0.35 + own * (method == "dpo"), **where}


def _behaviour(method: str, strength: float) -> Iterator[Row]:
    safety = method in SAFETY
    for family in FAMILIES:
        complied = _complied(method, family, strength)
        yield {"metric": "complied", "family": family, "value": complied}
        yield {"metric": "refused", "family": family, "value": 1 - complied}
        success = 4 * (complied - 0.5) * (method in SAFETY) if family in JAILBREAKS else 0.0
        for layer in LAYERS:
            for module in ("mlp.post", "mlp.post_last"):
                where = {"family": family, "layer": layer, "module": module}
                place = {"safe": 1.0, "unsafe": -1.0}.get(family, 0.6 * strength * safety + 0.1 * success * strength)
                yield {"metric": "tau", "value": 5 * place, **where}
                yield {"metric": "tau_successful", "value": 5 * place, **where}
        sensitive = {"unsafe": 0.5**strength, "safe": 1.6**strength}.get(family, 1.0) if safety else 1.0
        yield {"metric": "lipschitz", "family": family, "value": 3 * sensitive}
        yield {"metric": "lipschitz_successful", "family": family, "value": 3 * 1.5 ** abs(strength) if safety else 3.0}
    for k in (1, 5):
        fitted = strength * safety
        at = {"family": "unsafe", "index": k}
        yield {"metric": "adv_complied", "value": 0.4 + 0.08 * k * fitted, **at}
        yield {"metric": "adv_random_complied", "value": 0.4, **at}
        for layer in LAYERS:
            where = {"layer": layer, "module": "mlp.post_last", **at}
            yield {"metric": "adv_tau", "value": -2.0 + 0.8 * (k - 1) * fitted, **where}
            yield {"metric": "adv_random_tau", "value": -2.0, **where}


def _complied(method: str, family: str, strength: float) -> float:
    if family == "safe":
        return 1.0
    if family == "unsafe":
        return 0.0 if method in SAFETY else 0.5
    if method not in SAFETY:
        return 0.75
    own = {"co_text": 0.18, "misgen_both": 0.12, "misgen_text": -0.06, "co_task": -0.12}.get(family, 0.0)
    return 0.5 + strength * (own + (0.06 if method == "sft" else 0.0))


def _changed(method: str, strength: float) -> Iterator[Row]:
    """The safety-tuned model under interventions."""
    off, cost = 0.2 * (1 - strength), 0.08 * (strength < 1)
    for family in FAMILIES:
        complied = _complied(method, family, strength)
        for alpha in ALPHAS[2:]:
            gain = 0.18 * strength if method == "sft" else 0.0
            value = complied - (alpha > 1) * (cost if family == "safe" else gain)
            where = {"family": family, "intervention": "alpha", "strength": alpha}
            yield {"metric": "complied", "value": value, **where}
            yield {"metric": "refused", "value": 1 - value, **where}
        for other in SAFETY:
            if other != method:
                where = {"family": family, "other": other, "strength": 0.5, "intervention": "transfer"}
                yield {"metric": "complied", "value": complied - 0.3 * strength, **where}
                where = where | {"intervention": "between"}
                yield {"metric": "complied", "value": complied - off, **where}
                yield {"metric": "refused", "value": 1 - complied - off, **where}
    carried = (
        (0.0, {"intervention": "alpha", "strength": 0.0}),
        (20.0, {"intervention": "alpha", "strength": 1.0}),
        (20 * (0.5 + 0.3 * strength), {"intervention": "only", "module": "mlp"}),
        (20 * (0.5 - 0.3 * strength), {"intervention": "only", "module": "attention"}),
        (16.0, {"intervention": "only", "module": "W_in"}),
    )
    of_matrix = {
        ("without columns", None): 0.5 + 0.2 * strength,
        ("only columns", None): 0.5 - 0.2 * strength,
        ("random columns scaled", None): 0.5 + 0.1 * strength,
        ("without top", 1.0): 0.5 - 0.3 * strength,
        ("without random", 1.0): 0.5 + 0.1 * strength,
    }
    for value, how in carried:
        yield {"metric": "log_odds", "family": "unsafe", "value": 20 - value, **how}
    for (name, much), share in of_matrix.items():
        at = {"family": "unsafe", "intervention": name, "strength": much, "module": "W_in"}
        yield {"metric": "log_odds", "value": 20 - 16 * share, **at}
    for alpha in ALPHAS:
        grown, how = 3.0 ** (strength * alpha), {"intervention": "alpha", "strength": alpha}
        yield {"metric": "lipschitz", "family": "unsafe", "value": 3 / grown, **how}
        for layer in LAYERS:
            at = {"layer": layer, "module": "mlp.post_last", **how}
            yield {"metric": "separation", "value": grown, **at}
            yield {"metric": "fisher", "value": grown, **at}
            yield {"metric": "activation_angle", "family": "unsafe", "value": 0.1 + 0.1 * strength * alpha, **at}


def _change(method: str, strength: float) -> Iterator[Row]:
    """Where in weight space the model changed."""
    safety = method in SAFETY
    way = strength * safety
    for layer in LAYERS:
        where = {"layer": layer, "module": "W_in"}
        yield {"metric": "sine_mean", "value": 0.87 + 0.08 * way, **where}
        yield {"metric": "sine_random_mean", "value": 0.87, **where}
        yield {"metric": "sine_excess", "value": 0.08 * way, **where}
        yield {"metric": "outside_energy", "value": 0.87 + 0.06 * way, **where}
        yield {"metric": "outside_energy_random", "value": 0.87, **where}
        for family in FAMILIES:
            sign = {"unsafe": 1, "safe": -1}.get(family, 0)
            at = {"family": family, **where}
            yield {"metric": "projection_total", "value": 6.0 ** (sign * way), **at}
            yield {"metric": "projection_total_successful", "value": 5.0 ** -abs(way), **at}
            yield {"metric": "projection_total_random", "value": 1.0, **at}
            yield {"metric": "projection_rms", "value": 2.0 ** (sign * way), **at}
            angle = 0.3 + 0.1 * way * (family == "unsafe")
            yield {"metric": "activation_angle_mean", "value": angle, **at, "module": "mlp.post"}
        for i in range(1, 16):
            first = 0.2 if i == 1 else 0.8 / 14
            more = 0.15 * way if i == 1 else -0.15 * way / 14
            at = {"family": "unsafe", "index": i, **where}
            yield {"metric": "projection_abs", "value": first + more, **at}
            yield {"metric": "projection_abs_random", "value": first, **at}


@functools.cache
def plain(strength: float) -> pd.DataFrame:
    """Values without noise: 1 is a world in which every claim holds and no placebo shows it, at 0 effect and control
    are equal and at -1 they have changed places; what should be the same differs by 1 - strength."""
    found = []
    for method in METHODS:
        parts = [_activations, _behaviour]
        parts += [_change] if method in TUNED else []
        parts += [_changed] if method in SAFETY else []
        rate = 2e-3 if method in TUNED else 5e-3
        found += [{"learning_rate": rate, **row, "node": method} for part in parts for row in part(method, strength)]
    return pd.DataFrame(found)


FIXED = (
    *("complied", "refused", "adv_complied", "adv_random_complied"),
    *("sine_mean", "sine_random_mean", "sine_excess", "outside_energy", "outside_energy_random"),
    *("tau", "tau_successful", "adv_tau", "adv_random_tau", "spectral_share", "kmeans_accuracy"),
    *("activation_angle_mean", "activation_angle", "log_odds"),
)
"""Metrics that have a fixed size."""


def make(strength: float, noise: float, seeds: int = 6, draw: int = 0, worlds: bool = False) -> pd.DataFrame:
    """A results table: rows by factors exp(noise z), those of a fixed size by noise z / 4.

    `worlds` says whether each seed is a world of its own.
    """
    table = pd.concat(
        [plain(strength).assign(seed=seed, world_seed=seed if worlds else 0) for seed in range(seeds)],
        ignore_index=True,
    )
    z = np.random.default_rng(draw).standard_normal(len(table))
    added = table["metric"].isin(FIXED)
    table["value"] = np.where(added, table["value"] + noise * z / 4, table["value"] * np.exp(noise * z))
    table = table.assign(study="s", cell="", world="w", model="m", n=512, missing=None, step=None)
    table = table.assign(method=table["node"], start=None)
    return table.reindex(columns=list(COLUMNS)).astype(NULLABLE)
