"""Results tables of the form that a study writes, with drawn numbers in place of measured ones."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.separability import COORDINATES
from experiments.findings.table import COLUMNS, NULLABLE
from experiments.settings.names import UNTOUCHED

METHODS = ("sft", "dpo", "continued")
FAMILIES = ("safe", "unsafe", "co_task", "misgen_task", "misgen_both")
SITES = ("mlp.post", "mlp.post_last", "mlp_out", "resid_post_last")
TYPES = dict.fromkeys(("family", "module", "intervention", "other", "metric", "missing"), "str") | NULLABLE
OVERLAP = "world.grammar.concept_overlap"


class Rows:
    """Collects rows of one model."""

    def __init__(self, rng: np.random.Generator, **fixed: Any) -> None:
        self.rng, self.fixed, self.found = rng, fixed, []  # type: tuple[np.random.Generator, Any, list[dict[str, Any]]]

    def add(self, metric: str, n: int = 64, least: float = 0.1, most: float = 1.0, **where: Iterable[Any]) -> None:
        """A row with a value between the bounds for each combination of the values in `where`."""
        for values in itertools.product(*where.values()):
            value = self.rng.uniform(least, most)
            self.found.append(
                {**self.fixed, **dict(zip(where, values, strict=True)), "metric": metric, "value": value, "n": n}
            )


def _behaviour(rows: Rows) -> None:
    for family in FAMILIES:
        shares = rows.rng.multinomial(64, [0.5, 0.3, 0.2]) / 64
        for metric, share in zip(("complied", "refused", "neither"), shares, strict=True):
            rows.add(metric, 64, share, share, family=[family])
    rows.add("log_odds", family=FAMILIES)


def _activations(rows: Rows, layers: Sequence[int]) -> None:
    at = {"layer": layers, "module": SITES}
    rows.add("tau", family=FAMILIES, **at)
    rows.add("tau_successful", 9, family=FAMILIES, **at)
    rows.add("tau_group", 30, family=FAMILIES, index=(1, 2), **at)
    for metric in ("separation", "separation_scaled", "mean_distance"):
        rows.add(metric, 128, 2.0, 9.0, **at)
        rows.add(f"{metric}_permuted_high", 50, 0.1, 0.4, **at)
    for metric in ("kmeans_accuracy", "probe_accuracy", "fisher"):
        for part in ("", "_permuted", "_permuted_low", "_permuted_high"):
            rows.add(metric + part, 128, **at)
    for part in ("", "_permuted", "_permuted_low", "_permuted_high"):
        rows.add(f"spectral_share{part}", family=FAMILIES[:2], **at)
    for part in ("", "_permuted"):
        rows.add(f"covariance_sigma{part}", family=FAMILIES[:2], index=range(1, 6), **at)


def _sensitivity(rows: Rows) -> None:
    for metric in ("lipschitz", "lipschitz_ratio"):
        rows.add(metric, 32, family=FAMILIES)
        for family in FAMILIES:
            for i, index in enumerate((5, 25, 50, 75, 95)):
                rows.add(f"{metric}_quantile", 32, 1.0 + i, 1.9 + i, family=[family], index=[index])


def _change(rows: Rows, layers: Sequence[int]) -> None:
    at: dict[str, Any] = {"layer": layers, "module": ("W_in", "W_out")}
    for metric in ("sine_sorted", "sine_random_sorted", "sine_random_sorted_low", "sine_random_sorted_high"):
        rows.add(metric, 20, index=range(1, 5), **at)
    for metric in ("sine_mean", "sine_random_mean", "sine_excess", "relative_change", "effective_rank"):
        rows.add(metric, 4, **at)
    for metric in ("outside_energy", "outside_energy_random", "outside_top", "outside_top_random"):
        rows.add(metric, 1, **at)
    for part in ("", "_random"):
        rows.add(f"projection_abs{part}", family=FAMILIES, index=range(1, 5), **at)
        rows.add(f"projection_total{part}", family=FAMILIES, **at)
    for part in ("", "_even"):
        rows.add(f"change_share{part}", 1, module=["mlp", "attention"])
    rows.add("neuron_effect", family=FAMILIES, index=range(1, 4), layer=layers, module=["W_in"])
    rows.add("neuron_sample", 1, -1.0, family=FAMILIES, index=range(1, 4), layer=layers, module=["W_in"])
    rows.add("neuron_effect_mean", family=FAMILIES, layer=layers, module=["W_in"])
    for metric in ("activation_angle_mean", "activation_angle_untuned_mean"):
        rows.add(metric, 4, family=FAMILIES, layer=layers, module=["mlp.post"])
    rows.add("repeats", 500, family=["tuning"])


def _changed_models(rows: Rows, layers: Sequence[int], others: Iterable[str]) -> None:
    alphas: dict[str, Any] = {"intervention": ["alpha"], "strength": [0.0, 0.5, 1.0, 1.5]}
    held: dict[str, Any] = {**alphas, "layer": layers, "module": ["mlp.post_last"]}
    for metric in ("separation", "separation_scaled", "fisher"):
        rows.add(metric, 32, **held)
    for metric in ("spectral_share", "activation_angle"):
        rows.add(metric, 16, family=FAMILIES[:2], **held)
    rows.add("lipschitz", 16, family=FAMILIES[:2], **alphas)
    for metric in ("complied", "refused", "log_odds"):
        rows.add(metric, 16, family=FAMILIES, **alphas)
        for kind, strength in (("between", 0.5), ("transfer", 1.0)):
            rows.add(metric, 16, family=FAMILIES, intervention=[kind], strength=[strength], other=others)
        of_matrix: dict[str, Any] = {"family": FAMILIES, "module": ["W_in", "W_out"]}
        rows.add(
            metric, 16, intervention=["only", "only columns", "random columns scaled", "without columns"], **of_matrix
        )
        rows.add(metric, 16, intervention=["without top", "without random"], strength=[1.0], **of_matrix)
        patches = [f"patch {kind}to {goal}" for kind in ("", "random ") for goal in ("tuned", "untuned")]
        rows.add(metric, 16, family=FAMILIES, intervention=patches, layer=layers, module=["resid_post"])


def _soft_tokens(rows: Rows, layers: Sequence[int]) -> None:
    modules = {"complied": None, "lipschitz": None, "tau": "mlp.post_last", "projection_total": "W_in"}
    for line in ("adv", "adv_random", "adv_untouched"):
        for quantity, module in modules.items():
            at: dict[str, Any] = {"layer": layers, "module": [module]} if module else {}
            rows.add(f"{line}_{quantity}", 16, family=["unsafe"], index=(1, 5), **at)


def _searched(rows: Rows) -> None:
    for metric in ("direction_rank", "direction_passing"):
        rows.add(metric, 16, 1.0, 4.0, module=["resid_pre"])


def _directions(rows: Rows, layers: Sequence[int]) -> None:
    at: dict[str, Any] = {"layer": layers, "module": ["resid_pre"], "position": (-1, 0)}
    for metric in ("refusal_cosine", "refusal_cosine_random"):
        rows.add(metric, family=FAMILIES, **at)
    for metric in ("adv_refusal_cosine", "adv_random_refusal_cosine"):
        rows.add(metric, family=["unsafe"], index=[4], layer=layers, module=["resid_pre"], position=[0])
    edited: dict[str, Any] = {"family": FAMILIES[:2], "module": ["resid"]}
    for metric in ("first_refused", "complied"):
        rows.add(metric, intervention=["ablate"], strength=[0.0, 1.0, 2.0], **edited)
        others = ["ablate random", "ablate permuted", "recentre", "add", "add random", "add permuted"]
        rows.add(metric, intervention=others, strength=[1.0], **edited)
        rows.add(metric, intervention=["ablate random"], strength=[2.0], **edited)


def _cones(rows: Rows) -> None:
    tried: dict[str, Any] = {"strength": (1.0, 2.0, 3.0), "module": ["resid"]}
    single: dict[str, Any] = {"strength": [1.0], "module": ["resid"]}
    intact: dict[str, Any] = {"intervention": ["ablate cone"], "strength": [0.0], "module": ["resid"]}
    for at in (
        intact,
        {"intervention": ["ablate cone", "ablate cone random"], **tried},
        {"intervention": ["ablate means", "ablate independent"], **single},
    ):
        for metric in ("complied", "first_refused"):
            rows.add(metric, 16, family=("safe", "unsafe"), **at)
        for metric in ("lowest_complied", "highest_first_refused"):
            rows.add(metric, 16, family=["unsafe"], **at)


def _hidden(rows: Rows, layers: Sequence[int]) -> None:
    at: dict[str, Any] = {"layer": layers, "module": ["resid_pre"]}
    for metric in ("harm_refuse_cosine_halves", "harm_refuse_cosine_random"):
        rows.add(metric, 64, **at)
    rows.add("halves_cosine", 64, position=(-1, 0), **at)
    for family, least in (("safe", -1.0), ("unsafe", 1.0), ("co_task", 0.0)):
        for metric in ("side_score", "side_score_successful"):
            rows.add(metric, 64, least, least + 0.1, family=[family], position=(-1, 0))
    rows.add("first_refused", 64, family=["safe"], intervention=["steer"], strength=[0.0])
    for place, names in ((-1, ["harm own"]), (0, ["harm", "refuse", "random", "refuse own"])):
        edits = [f"steer {name}" for name in names]
        rows.add("first_refused", 64, family=["safe"], intervention=edits, strength=[2.0], position=[place])


def _shifts(rows: Rows, layers: Sequence[int]) -> None:
    at: dict[str, Any] = {"layer": layers, "module": ["resid_post"]}
    for metric in ("shift_energy", "shift_energy_centred", "shift_overlap", "shift_overlap_centred"):
        for part in ("", "_random"):
            rows.add(metric + part, 64, position=[0], **at)
    rows.add("axis_overlap", 1, **at)
    rows.add("change_overlap", 1, layer=layers, module=("W_in", "W_out", "W_O"), index=(1, 2))
    rows.add("refused", 16, family=["unsafe"], intervention=["ablate shift"], strength=[0.0])
    edits = ["ablate shift", "ablate shift random", "change without refusal", "change without random"]
    rows.add("refused", 16, family=["unsafe"], intervention=edits, strength=[1.0])


def _tokens(rows: Rows) -> None:
    for metric in ("prefill_complied", "prefill_stopped"):
        rows.add(metric, 64, family=["unsafe", "co_task", "misgen_both"], index=(0, 1, 2))
        rows.add(metric.replace("prefill", "prefill_random"), 64, family=["unsafe"], index=(0, 1, 2))
    for metric in ("prefill_null_complied", "prefill_null_refused"):
        rows.add(metric, 64, family=["unsafe"], index=(0, 1, 2))
    for metric in ("begun_complied", "begun_random_complied"):
        rows.add(metric, 64, family=["unsafe"])
    if rows.fixed["node"] != UNTOUCHED:
        for response, metric in itertools.product(("comply", "refuse"), ("token_kl", "token_kl_matched")):
            rows.add(f"{metric}_{response}", 64, 0.0, 16.0, family=["unsafe", "safe"], index=(1, 2, 3))
        for metric in ("kl_first_comply", "kl_first_comply_even"):
            rows.add(metric, 64, family=["unsafe"])


def _landscape(rows: Rows) -> None:
    behaviour: dict[str, Any] = {"family": ["safe", "unsafe"]}
    kinds = ["move"] if rows.fixed["node"] == UNTOUCHED else ["move", "move by change"]
    for metric in ("complied", "refused"):
        rows.add(metric, 64, intervention=kinds, strength=[-0.5, -0.25, 0.0, 0.25, 0.5], **behaviour)
        if rows.fixed["node"] != UNTOUCHED:
            rows.add(metric, 64, intervention=["disalign"], strength=[0.0, 0.3, 1.0], **behaviour)
            rows.add(metric, 64, intervention=["disalign random"], strength=[0.3, 1.0], **behaviour)


def results(
    seeds: int = 3, layers: int = 2, steps: Sequence[int] = (), world: str = "quick", rate: float = 2e-3, key: int = 0
) -> pd.DataFrame:
    """The table of a study without an ablation, with models on the way at `steps`."""
    rng = np.random.default_rng(key)
    deep, found = range(1, layers + 1), []
    for method, seed in itertools.product((UNTOUCHED, *METHODS), range(seeds)):
        whose = {"node": method, "start": None if method == UNTOUCHED else UNTOUCHED, "method": method}
        fixed = {"study": "made", "cell": "", "world": world, "model": "m", "seed": seed, **whose}
        rows = Rows(rng, learning_rate=5e-3 if method == UNTOUCHED else rate, **fixed)
        _behaviour(rows)
        _activations(rows, deep)
        _sensitivity(rows)
        _directions(rows, deep)
        _searched(rows)
        _hidden(rows, deep)
        if method != UNTOUCHED:
            _change(rows, deep)
            _shifts(rows, deep)
            _changed_models(rows, deep, [other for other in METHODS if other != method])
            _soft_tokens(rows, deep)
            for step in steps:
                on_way = Rows(rng, step=step, **rows.fixed)
                _behaviour(on_way)
                _activations(on_way, deep)
                _sensitivity(on_way)
                _searched(on_way)
                _change(on_way, deep)
                found += on_way.found
        found += rows.found
        # Drawn apart: what else is in the table does not depend on it.
        apart = Rows(np.random.default_rng([key, seed, len(found)]), **rows.fixed)
        _cones(apart)
        _tokens(apart)
        _landscape(apart)
        for step in steps if method != UNTOUCHED else ():
            later = Rows(apart.rng, step=step, **rows.fixed)
            _tokens(later)
            found += later.found
        found += apart.found
    return _typed(pd.DataFrame(found))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    whole = table.reindex(columns=[*COLUMNS, *(set(table.columns) - set(COLUMNS))])
    return whole.fillna({"world_seed": 0}).astype(TYPES | {"world_seed": "int64"})


def points(prompts: int = 9, layers: int = 2) -> pd.DataFrame:
    """What `samples.coordinates` gives of the models of `results`."""
    rng = np.random.default_rng(1)
    at = FAMILIES, range(prompts), range(1, layers + 1), ("mlp.post", "resid_post_last")
    places = itertools.product((UNTOUCHED, *METHODS), *at, COORDINATES)
    found = [(*place[:-1], *place[-1], rng.uniform()) for place in places]
    names = ["node", "family", "prompt", "layer", "module", "metric", "index", "value"]
    return pd.DataFrame(found, columns=names).assign(seed=0)


def swept(
    names: Sequence[object] = (0.0, 0.5, 1.0), setting: str = OVERLAP, missing: Sequence[tuple[object, str]] = ()
) -> pd.DataFrame:
    """The table of an ablation, without the rows of each (cell, method) in `missing`."""
    tables = [results(key=i).assign(cell=str(name), **{setting: name}) for i, name in enumerate(names)]
    table = pd.concat(tables, ignore_index=True)
    for cell, method in missing:
        table = table[(table["cell"] != str(cell)) | (table["node"] != method)]
    return table
