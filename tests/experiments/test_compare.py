"""Tests of `experiments/compare.py` and `comparison.py`: on made-up studies whose differences are known."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from scipy import stats

from experiments.compare import LEAST, _outcomes, main
from experiments.findings import comparison
from experiments.findings.comparison import Finished, outcomes, settings, verdicts
from experiments.settings.schema import SIDE_SETTINGS

SEEDS = 4
CLAIM = {"claim": "separation", "source": "Fig. 3", "sentence": "they separate", "verdict": "supported"}


def finished(
    values: dict[tuple[str, str, str], list[float]], weights: str = "1", cells: dict[str, Any] | None = None
) -> Finished:
    """Values a seed by cell, statistic and model; the untouched model is the artifact pretrain-`weights`."""
    rows = [
        {"cell": cell, "statistic": statistic, "node": method, "seed": seed, "value": value, "resolution": 0.0}
        for (cell, statistic, method), of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]
    untouched = {"weights": f"pretrain-{weights}", "measured": f"measure-{weights}"}
    models = {cell: {"untouched": untouched} for cell, _, _ in values}
    return Finished({}, cells or {}, pd.DataFrame(rows), models, {})


def draw(seed: int, n: int = SEEDS) -> list[float]:
    return np.random.default_rng(seed).normal(0.5, 0.1, n).tolist()


def test_nodes_that_one_study_has_are_said_once_each() -> None:
    base = finished({("", "refused", "sft"): draw(0)})
    a, b = (base._replace(settings=one) for one in ({"nodes.x.method": "dpo"}, {"nodes": {}}))
    assert [(one.name, one.a, one.b) for one in settings(a, b)] == [("nodes.x.method", "dpo", None)]
    assert [(one.name, one.a, one.b) for one in settings(b, a)] == [("nodes.x.method", None, "dpo")]


def test_names_of_models_are_printed_whole() -> None:
    name = "pretraining_more+pretraining_more"
    values = (
        {("", "sine of the change of weights", name): draw(0)},
        {("", "sine of the change of weights", name): draw(1)},
    )
    compared = outcomes(*map(finished, values))
    written = io.StringIO()
    Console(width=LEAST, file=written).print(_outcomes(compared))
    said = written.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in said
    column = said.index("model") - said.rindex("\n", 0, said.index("model")) - 1
    cells = [line[column : column + len(name)].split("  ")[0].strip() for line in said.splitlines()]
    assert name in "".join(cells)


def test_studies_of_one_pretraining_are_compared_within_seeds() -> None:
    a, b = (finished({("", "refused", "sft"): draw(seed)}) for seed in (0, 1))
    row = outcomes(a, b).iloc[0]
    test = stats.ttest_rel(draw(1), draw(0))
    interval = test.confidence_interval()
    assert row["paired"]
    assert (row["n_a"], row["n_b"]) == (SEEDS, SEEDS)
    found = row[["a", "b", "difference", "low", "high", "p", "p_holm"]].astype(float)
    difference = np.mean(draw(1)) - np.mean(draw(0))
    expected = [np.mean(draw(0)), np.mean(draw(1)), difference, interval.low, interval.high, test.pvalue, test.pvalue]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_studies_of_two_pretrainings_are_two_samples() -> None:
    a = finished({("", "refused", "sft"): draw(0)})
    b = finished({("", "refused", "sft"): draw(1, 6)}, weights="2")
    row = outcomes(a, b).iloc[0]
    test = stats.ttest_ind(draw(1, 6), draw(0), equal_var=False)
    assert not row["paired"]
    assert (row["n_a"], row["n_b"]) == (SEEDS, 6)
    np.testing.assert_allclose(
        row[["low", "high", "p"]].astype(float), [*test.confidence_interval(), test.pvalue], rtol=1e-9
    )


def test_pairs_are_of_the_seeds_that_both_have() -> None:
    a = finished({("", "refused", "sft"): [0.1, np.nan, 0.3, 0.4]})
    b = finished({("", "refused", "sft"): [0.2, 0.9, 0.5]})
    row = outcomes(a, b).iloc[0]
    assert (row["n_a"], row["a"], row["b"]) == (2, pytest.approx(0.2), pytest.approx(0.35))
    assert row["difference"] == pytest.approx(0.15)


def test_one_seed_has_a_difference_without_an_interval() -> None:
    a, b = (finished({("", "refused", "sft"): [value]}) for value in (0.25, 0.75))
    row = outcomes(a, b).iloc[0]
    assert row["difference"] == 0.5
    assert row[["low", "high", "p", "p_holm"]].isna().all()


@pytest.mark.parametrize("weights", ["1", "2"])
def test_shares_that_agree_in_every_seed_are_known_to_one_prompt(weights: str) -> None:
    a, b = finished({("", "refused", "sft"): [0.0] * 3}), finished({("", "refused", "sft"): [1.0] * 3}, weights)
    assert np.isnan(outcomes(a, b).iloc[0]["p"])
    a, b = (study._replace(outcomes=study.outcomes.assign(resolution=1 / 512)) for study in (a, b))
    row = outcomes(a, b).iloc[0]
    assert row["low"] < 1 < row["high"]
    assert row["p"] < 1e-4


def test_a_model_that_both_share_is_not_compared() -> None:
    values = {("", "refused", "untouched"): draw(0), ("", "refused", "sft"): draw(1)}
    assert outcomes(finished(values), finished(values))["node"].tolist() == ["sft"]
    other = finished(values, weights="2")
    assert outcomes(finished(values), other)["node"].tolist() == ["untouched", "sft"]


def test_cells_of_one_name_are_compared_and_stand_together() -> None:
    cells = ["0.5", "0.25", "1.0"]
    values = {(cell, statistic, "sft"): draw(0) for cell in cells for statistic in ("refused", "complied")}
    other = {key: draw(1) for key in values if key[0] != "1.0"}
    found = outcomes(finished(values), finished(other))
    pairs = list(zip(found["statistic"], found["cell"], strict=True))
    assert pairs == [(statistic, cell) for statistic in ("refused", "complied") for cell in cells[:2]]


def test_p_is_corrected_over_all_that_is_compared() -> None:
    names = [("", name, "sft") for name in "abcde"]
    a = finished({name: draw(i) for i, name in enumerate(names)})
    b = finished({name: draw(i + 9) for i, name in enumerate(names)})
    found = outcomes(a, b).sort_values("p")
    expected = np.minimum(np.maximum.accumulate(found["p"].to_numpy() * np.arange(5, 0, -1)), 1)
    np.testing.assert_allclose(found["p_holm"], expected)


def test_settings_that_differ_are_named_and_side_settings_are_not() -> None:
    a = finished({("x", "refused", "sft"): draw(0)}, cells={"x": {"tuning.steps": 1}, "only": {}})
    b = a._replace(
        settings={"seeds": 3, "new": None, **{f"{name}.part": 1 for name in SIDE_SETTINGS}},
        cells={"x": {"tuning.steps": 2}},
    )
    a = a._replace(settings={"seeds": 5, "old": "here"})
    found = [(one.cell, one.name, one.a, one.b) for one in settings(a, b)]
    assert found == [("", "seeds", 5, 3), ("", "old", "here", None), ("x", "tuning.steps", 1, 2)]


def test_verdicts_that_changed() -> None:
    a = finished({})._replace(claims={("", "p", "one"): CLAIM, ("", "p", "two"): CLAIM, ("x", "p", "one"): CLAIM})
    b = a._replace(claims={("", "p", "one"): CLAIM, ("", "p", "two"): {**CLAIM, "verdict": "undecided"}})
    assert verdicts(a, b) == [comparison.Changed("", "two", "supported", "undecided", "Fig. 3: they separate", "p")]


def test_verdicts_are_compared_within_a_paper() -> None:
    other = {**CLAIM, "verdict": "opposite"}
    a = finished({})._replace(claims={("", "p", "one"): CLAIM, ("", "q", "one"): other})
    b = a._replace(claims={("", "q", "one"): {**other, "verdict": "undecided"}, ("", "r", "one"): other})
    assert [(one.paper, one.a, one.b) for one in verdicts(a, b)] == [("q", "opposite", "undecided")]


def study(folder: Path, value: float, weights: str = "1", method: str = "sft", cell: str = "") -> Path:
    """The output folder of a finished study: refusal of `method` is `value` and a little more in each seed."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"tuning": {"steps": int(100 * value)}, "store_dir": "x"}))
    (folder / "cells.json").write_text(json.dumps([{"cell": cell, "settings": {}, "status": "done", "error": None}]))
    places = {"weights": f"/store/tune-{weights}{value}", "measured": f"/store/measure-{weights}{value}"}
    untouched = {"weights": f"/store/pretrain-{weights}", "measured": f"/store/measure-{weights}"}
    (folder / "models.json").write_text(json.dumps({cell: {"untouched": untouched, method: places}}))
    verdict = "supported" if value > 0.5 else "opposite"
    (folder / "claims.json").write_text(json.dumps([{"cell": cell, **CLAIM, "verdict": verdict}]))
    rows = [
        {"seed": seed, "family": family, "metric": metric, "value": value * (1 + 0.2 * seed)}
        for seed in range(3)
        for metric, family in (("refused", "unsafe"), ("complied", "safe"))
    ]
    table = pd.DataFrame(rows).assign(cell=cell, node=method, layer=1, module=None, intervention=None, n=8)
    table = table.assign(strength=None, other=None, step=None)
    table.assign(world_seed=0, start="untouched", method=method).to_parquet(folder / "results.parquet", index=False)
    (folder / "DONE").write_text("")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    return [str(study(tmp_path / "a", 0.25)), str(study(tmp_path / "b", 0.75))]


def test_the_command_shows_all_that_differs(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(pair) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"A  {pair[0]}\nB  {pair[1]}\n")
    lines = [line.split() for line in out.splitlines()]
    assert ["tuning.steps", "25", "75"] in lines
    assert "store_dir" not in out
    assert next(line for line in lines if line[:2] == ["unsafe", "refused"])[2:6] == ["sft", "0.30", "0.90", "+0.60"]
    assert "Claims: 1 of 1 have another verdict" in out
    assert ["Fig.", "3:", "they", "separate", "opposite", "supported"] in lines


@pytest.mark.parametrize("name", ["numbers.csv", "there/numbers.json"])
def test_the_numbers_as_a_file(name: str, pair: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    assert main([*pair, f"out={path}"]) == 0
    if path.suffix == ".csv":
        table = pd.read_csv(path)
    else:
        content = json.loads(path.read_text())
        assert [one["name"] for one in content["settings"]] == ["tuning.steps"]
        assert [one["name"] for one in content["claims"]] == ["separation"]
        table = pd.DataFrame(content["outcomes"])
    assert table["difference"].tolist() == pytest.approx([0.6, 0.6])
    assert table["paired"].all()


def test_two_studies_that_agree_say_so(pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = study(tmp_path / "c", 0.25, weights="2")
    assert main([pair[0], str(other)]) == 0
    out = capsys.readouterr().out
    assert "no setting differs" in out
    assert "Claims: 0 of 1 have another verdict" in out
    assert "3 and 3" in out


def test_claims_of_several_papers_are_shown_apart(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for folder, verdict in zip(pair, ("opposite", "supported"), strict=True):
        both = [{"cell": "", "paper": name, **CLAIM, "verdict": verdict} for name in ("jain2024", "other")]
        (Path(folder) / "claims.json").write_text(json.dumps(both))
    assert main(pair) == 0
    out = capsys.readouterr().out
    assert "Claims: 2 of 2 have another verdict" in out
    lines = [line.split() for line in out.splitlines()]
    for name in ("jain2024", "other"):
        assert [name, "Fig.", "3:", "they", "separate", "opposite", "supported"] in lines


def test_verdicts_that_name_no_paper_are_those_of_the_first_one(
    pair: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    named = [{"cell": "", "paper": "jain2024", **CLAIM, "verdict": "supported"}]
    (Path(pair[1]) / "claims.json").write_text(json.dumps(named))
    assert main(pair) == 0
    assert "Claims: 1 of 1 have another verdict" in capsys.readouterr().out


def harmed(kind: str, folder: Path) -> None:
    if kind == "unfinished":
        (folder / "DONE").unlink()
    elif kind == "damaged table":
        (folder / "results.parquet").write_bytes(b"no table")
    elif kind == "damaged verdicts":
        (folder / "claims.json").write_text("[")
    elif kind == "no models":
        (folder / "models.json").unlink()


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("unfinished", "b={b}: the study is not finished; python -m experiments.run resume={b} goes on with it"),
        ("damaged verdicts", "b={b}: claims.json: damaged; run the study again"),
        (
            "damaged table",
            "b={b}: there is no results.parquet that can be read; name a study's output folder, or run it again",
        ),
        ("no models", "b={b}: there is no finished study; name its output folder"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    kind: str, line: str, pair: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    harmed(kind, Path(pair[1]))
    assert main(pair) == 2
    assert capsys.readouterr().err == f"error: {line.format(b=pair[1])}\n"


def test_what_cannot_be_compared_is_one_line(
    pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = pair[0]
    dpo, sweep = study(tmp_path / "dpo", 0.5, method="dpo"), study(tmp_path / "sweep", 0.5, cell="0.5")
    same = study(tmp_path / "same", 0.25)
    expected = {
        str(tmp_path): "no study's output folder (config.yaml is not there); name one",
        f"{a}/../a": "is the same folder as a; name two studies",
        str(dpo): "shares no model with a: a has sft, b has dpo; name studies that do",
        str(sweep): "shares no cell with a: a has none, b has 0.5; name studies that do",
        str(same): "every model that is in both is the same one, so that there is nothing to compare",
    }
    for b, reason in expected.items():
        assert main([a, b]) == 2
        assert capsys.readouterr().err == f"error: b={b}: {reason}\n"
    for arguments in ([], [a], [a, a, a], [*pair, "out=numbers.txt"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1
