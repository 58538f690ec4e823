"""The claims on cones, on tables in which their truth is known; and their figure."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.figures import cones as figure
from experiments.findings.claims.wollschlaeger2025 import CLAIMS, PAPER
from experiments.findings.results import select
from experiments.findings.scorecard import scorecard
from experiments.findings.table import COLUMNS, NULLABLE
from experiments.findings.verdicts import NO_EFFECT, OPPOSITE, SUPPORTED, UNSPECIFIC, UNTESTABLE
from tests.experiments.drawn import figure_of, style
from tests.experiments.made_results import results

__all__ = ["style"]

SAFETY, PLACEBOS = PAPER.conventions.methods, PAPER.conventions.placebos
DIMS = (1, 2, 3)
RATIOS = ("first_token_kl", "cross_effect", "cross_effect_random")

Row = dict[str, Any]


def _of_model(way: float) -> Iterator[Row]:
    """1 is a model in which every claim holds, at 0 each effect is as its control, at -1 they have changed places."""
    for dim in DIMS:
        for what, own in (("cone", way), ("cone random", 0.0)):
            at = {"family": "unsafe", "intervention": f"ablate {what}", "strength": dim}
            yield {"metric": "first_refused", "value": 0.5 - 0.3 * own, **at}
            yield {"metric": "highest_first_refused", "value": 0.6 - 0.2 * own, **at}
            yield {"metric": "complied", "value": 0.4 + 0.2 * own, **at}
            fallen = 0.05 * (dim - 1) * own
            yield {"metric": "lowest_complied", "value": 0.4 + 0.2 * abs(own) * np.sign(own) - fallen, **at}
            at = {"family": "safe", "intervention": f"add {what}", "strength": dim}
            yield {"metric": "first_refused", "value": 0.5 + 0.3 * own, **at}
    single = {"strength": 1}
    for what, own in (("cone", way), ("means", 0.0)):
        at = {"family": "safe", "intervention": f"ablate {what}", **single}
        yield {"metric": "first_token_kl", "value": 2.0 * 3.0**-own, **at}
        yield {"metric": "complied", "value": 0.5 + 0.3 * own, **at}
    yield {"metric": "complied", "family": "unsafe", "intervention": "ablate means", "value": 0.4, **single}
    at = {"family": "unsafe", "intervention": "ablate independent", **single}
    yield {"metric": "first_refused", "value": 0.5 - 0.3 * way, **at}
    for intervention, dim, sign in (("basis", 2, 1), ("means, independent", 1, -1)):
        at = {"intervention": intervention, "strength": dim}
        yield {"metric": "cross_effect", "value": 0.1 * 2.0 ** (sign * way), **at}
        yield {"metric": "cross_effect_random", "value": 0.1, **at}
    yield {"metric": "swapped", "intervention": "ablate cone", "value": 0.5, **single}
    yield {"metric": "swapped", "intervention": "ablate arbitrary", "value": 0.5 - 0.3 * way, **single}


def made(way: float, placebos: float = 0.0, seeds: int = 6) -> pd.DataFrame:
    found = [
        {**row, "node": method, "seed": seed}
        for method in (*SAFETY, *PLACEBOS)
        for seed in range(seeds)
        for row in _of_model(way if method in SAFETY else placebos)
    ]
    table = pd.DataFrame(found)
    z = np.random.default_rng(0).standard_normal(len(table))
    by_factors = table["metric"].isin(RATIOS)
    table["value"] = np.where(by_factors, table["value"] * np.exp(0.01 * z), table["value"] + 0.0025 * z)
    fixed = {"study": "s", "cell": "", "world": "w", "model": "m", "n": 512, "world_seed": 0, "learning_rate": 2e-3}
    table = table.assign(method=table["node"], module="resid", **fixed)
    return table.reindex(columns=list(COLUMNS)).astype(NULLABLE)


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {one.claim: one.verdict for one in scorecard(table, PAPER)}


@pytest.mark.parametrize(("way", "expected"), [(1, SUPPORTED), (0, NO_EFFECT), (-1, OPPOSITE)])
def test_claims_are_told_from_none_and_from_the_reverse(way: float, expected: str) -> None:
    found = verdicts(made(way))
    assert found == dict.fromkeys(CLAIMS, expected)


def test_what_models_without_safety_show_too_is_not_supported() -> None:
    assert set(verdicts(made(1, placebos=1)).values()) == {UNSPECIFIC}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_reads_the_rows_it_is_about(name: str) -> None:
    """Taken to their controls in these rows alone, it fails and those that read others stay."""
    rows = {
        "removes refusal": [("ablate cone", 1, "first_refused", "unsafe", 0.5)],
        "attacks": [("ablate cone", 1, "complied", "unsafe", 0.4)],
        "attacks better": [("ablate cone", 1, "complied", "unsafe", 0.4)],
        "less side effect": [("ablate cone", 1, "first_token_kl", "safe", 2.0)],
        "keeps safe answers": [("ablate cone", 1, "complied", "safe", 0.5)],
        "induces refusal": [("add cone", 1, "first_refused", "safe", 0.5)],
        "cone of two": [("ablate cone", 2, "first_refused", "unsafe", 0.5)],
        "worst of two": [("ablate cone", 2, "highest_first_refused", "unsafe", 0.6)],
        "worst of two attacks": [("ablate cone", 2, "lowest_complied", "unsafe", 0.4)],
        "falls with dimension": [("ablate cone", 3, "lowest_complied", "unsafe", 0.6)],
        "orthogonal, not independent": [("basis", 2, "cross_effect", None, 0.1)],
        "independent": [("means, independent", 1, "cross_effect", None, 0.1)],
        "independent removes": [("ablate independent", 1, "first_refused", "unsafe", 0.5)],
        "not any behaviour": [("ablate arbitrary", 1, "swapped", None, 0.5)],
    }[name]
    table = made(1)
    for intervention, strength, metric, family, value in rows:
        which = (table["intervention"] == intervention) & (table["strength"] == strength) & (table["metric"] == metric)
        which &= table["family"].isna() if family is None else table["family"] == family
        assert which.any()
        noise = np.exp(0.001 * np.random.default_rng(1).standard_normal(which.sum()))
        table.loc[which, "value"] = value * noise
    found = verdicts(table)
    both = {"attacks", "attacks better"}
    assert {claim for claim, verdict in found.items() if verdict != SUPPORTED} == (both if name in both else {name})


def test_without_a_cone_of_two_dimensions_what_is_about_it_is_untestable() -> None:
    table = made(1)
    found = verdicts(table[table["strength"] < 2])
    about = {"cone of two", "worst of two", "worst of two attacks", "falls with dimension"}
    assert {name for name, verdict in found.items() if verdict == UNTESTABLE} == {*about, "orthogonal, not independent"}


def test_the_figure_shows_means_and_the_direction_that_does_least() -> None:
    table = results()
    shown = figure_of(table, "cones")
    panel = next(axis for axis in shown.axes if axis.get_title(loc="left") == "sft")
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert {"cone", "cone, least effect", "random cone", "difference of means", "independent of it"} <= set(lines)
    here = select(table, node="sft", family="unsafe", intervention="ablate cone")
    for metric, label in (("first_refused", "cone"), ("highest_first_refused", "cone, least effect")):
        mean = select(here, metric=metric).groupby("strength")["value"].mean()
        np.testing.assert_allclose(np.asarray(lines[label].get_ydata(), float), mean)
        np.testing.assert_array_equal(lines[label].get_xdata(), [0, 1, 2, 3])
    np.testing.assert_array_equal(lines["random cone"].get_xdata(), [0, 1, 2, 3])
    assert figure.rows(table[table["metric"] != "lowest_complied"]).empty
