"""A whole study, small: what it writes, what it never makes again, and that it says the same twice."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.metric import with_nulls
from analysis.metrics import METRICS, cones, directions, hidden, landscape, tokens
from experiments import figures
from experiments.figures import INDEX
from experiments.figures.registry import FIGURES
from experiments.findings import samples, summary
from experiments.findings.table import COLUMNS
from experiments.run import main
from experiments.settings.config import load
from experiments.stages import paths, prompts, stage
from experiments.stages.measure import SAMPLES
from experiments.stages.runs import DivergedError, Runner
from experiments.store import provenance
from experiments.store.artifacts import Store
from experiments.store.manifest import Artifact, verify
from experiments.study import forecast, output
from experiments.study import run as study
from experiments.study.cells import cells
from experiments.study.engine import Failure
from experiments.study.output import Results
from experiments.study.plan import Job, jobs, plan
from synth.evaluation import drawn
from tests.experiments.conftest import BY_DEFAULT, FEW, KEYS
from tests.experiments.said import Said

pytestmark = pytest.mark.usefixtures("with_optax", "few_figures")

TINY = [
    "worlds=1",
    "seeds=2",
    "methods=[sft,continued]",
    "model.layers=2",
    "model.width=8",
    "model.heads=2",
    "pretrain.steps=4",
    "pretrain.batch_size=8",
    "tuning.steps=4",
    "tuning.batch_size=8",
    "analysis.prompts=16",
    "analysis.clusters.permutations=5",
    "analysis.nullspace.draws=5",
    "analysis.nullspace.directions=3",
    "analysis.sensitivity.prompts=8",
    "analysis.interventions.prompts=4",
    "analysis.interventions.alphas=[0,1]",
    "analysis.interventions.top=[1]",
    "paths.prompts=4",
    "paths.between=[0.5]",
    "paths.transfer=[1]",
    "pretrain.watch.prompts=8",
    "tuning.watch.prompts=8",
    "world.grammar.branching=[[2,2]]",
]


OFF = {
    *("attacks", "spectra_by_step", "sines_by_step", "projections_by_step"),
    *("refusal_edits", "refusal_rank", "refusal_cosine", "cones", "harmfulness", "shifts", "prefill", "depth"),
    "landscape",
}
"""Figures of what is not measured unless it is asked for"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def run(root: Path, *overrides: str) -> tuple[Results, list[str]]:
    reporter = Said()
    config = load([*TINY, f"output_dir={root}/outputs", f"store_dir={root}/store", *overrides])
    return study.run(config, reporter), reporter.lines


@pytest.fixture(scope="module")
def done(with_optax: None, few_figures: None, root: Path) -> Results:
    return run(root)[0]


@pytest.fixture(scope="module")
def all_figures(done: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every figure of it."""
    folder = tmp_path_factory.mktemp("figures")
    points = samples.coordinates(json.loads((done.folder / "models.json").read_text())[""])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "FIGURES", FIGURES)
        figures.draw_all(done.table, folder, points=points)
    return folder


def artifacts(root: Path) -> dict[str, int]:
    """When each artifact was last written."""
    return {path.name: path.stat().st_mtime_ns for path in (root / "store" / "artifacts").iterdir()}


def contents(folder: Path) -> dict[Path, bytes]:
    """Of every file of an output folder but those that have the commit, which may change while tests run."""
    dated = ("env.json", "report.html", "DONE")
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in dated}


def kinds(names: set[str]) -> list[str]:
    return sorted(name.split("-")[0] for name in names)


def test_the_output_folder_has_all_that_was_promised(done: Results) -> None:
    names = {path.name for path in done.folder.iterdir()}
    assert names == {
        "config.yaml",
        "env.json",
        "models.json",
        "cells.json",
        "results.parquet",
        "claims.json",
        "figures",
        "report.html",
        "DONE",
    }
    assert yaml.safe_load((done.folder / "config.yaml").read_text())["seeds"] == 2
    assert "git" in json.loads((done.folder / "env.json").read_text())
    assert done.folder.name.startswith("quick-")


def test_there_are_all_figures_and_nothing_else(done: Results, all_figures: Path) -> None:
    for folder, names in ((all_figures, FIGURES.keys() - OFF), (done.folder / "figures", set(FEW))):
        index = json.loads((folder / INDEX).read_text())
        listed = {file for one in index.values() for file in one["files"]}
        assert {path.name for path in folder.iterdir()} == {INDEX, *listed}
        assert names <= {name.partition("-")[0] for name in index}
        assert all(path.stat().st_size > 100 for path in folder.iterdir())


def test_other_papers_make_no_artifact(done: Results, root: Path) -> None:
    assert {one["paper"] for one in json.loads((done.folder / "claims.json").read_text())} == {"jain2024"}
    before = artifacts(root)
    none, _ = run(root, "papers=[]")
    assert none.folder != done.folder
    assert json.loads((none.folder / "claims.json").read_text()) == []
    pd.testing.assert_frame_equal(none.table, done.table)
    assert artifacts(root) == before


def test_every_metric_has_a_row_of_the_registry_and_the_other_way_round(done: Results) -> None:
    """But for those of what is off, of which `tests/analysis/` has tests of their own."""
    off = with_nulls({**directions.ROWS, **cones.ROWS, **hidden.ROWS, **tokens.ROWS, **landscape.ROWS})
    assert set(done.table["metric"]) == {name for name in METRICS.keys() - off if not name.startswith("adv_")}
    places = json.loads((done.folder / "models.json").read_text())[""]
    for folder in places["sft"]["measured"].values():
        if (Path(folder) / SAMPLES).exists():
            assert set(pd.read_parquet(Path(folder) / SAMPLES, columns=["metric"])["metric"]) <= METRICS.keys()


def test_the_table_is_tidy_and_complete(done: Results) -> None:
    table = done.table
    assert tuple(table.columns) == tuple(COLUMNS)
    assert set(table["node"]) == {"untouched", "sft", "continued", "random"}
    assert set(table["seed"]) == {0, 1}
    assert (table["value"].map(math.isfinite) == table["missing"].isna()).all()
    assert ((table["n"] > 0) | table["missing"].notna()).all()
    assert not table.duplicated(KEYS).any()
    whole = table[table["intervention"].isna()]
    shares = whole[whole["metric"].isin(["complied", "refused", "neither"])]
    assert (shares.groupby(["node", "seed", "family"])["value"].sum() - 1).abs().max() < 1e-12
    for metric in ("tau", "separation", "separation_scaled", "separation_permuted"):
        assert set(table.loc[table["metric"] == metric, "layer"]) == {1, 2}
    changed = set(table.loc[table["metric"].isin(["sine", "sine_random_sorted", "projection"]), "node"])
    assert changed == {"sft", "continued"}


def test_different_prompts_are_counted_and_said(done: Results) -> None:
    rows = done.table[done.table["metric"] == "distinct"]
    world = load(TINY).world
    for family, of in rows.groupby("family"):
        prompts = [np.asarray(part).tolist() for part in drawn(world, str(family), 16)[0][:3]]
        texts = {(*tasks, "in", *text[:length]) for tasks, text, length in zip(*prompts, strict=True)}
        assert set(of["value"]) == {len(texts)}
        assert set(of["n"]) == {16}
    assert set(rows["family"]) == set(done.table.loc[done.table["metric"] == "complied", "family"])
    few, many = int(rows["value"].min()), int(rows["value"].max())
    note = f"({few}-{many} different)" if few < many else f"({few} different)"
    title = str(summary.render(done.table).title)
    assert title.startswith(f"Mean over 2 seeds, n = 16 prompts each {note};")
    # Tables of before, without the count.
    assert "different" not in str(summary.render(done.table[done.table["metric"] != "distinct"]).title)


def test_the_guard_leaves_alone_who_is_taught_to_refuse_safe_prompts(root: Path, done: Results) -> None:
    # No model of four steps complies.
    config = load([*TINY, "tuning.watch.guard=stop"])
    store = Store(root / "store")
    runner = Runner(Said(), 0.0)
    refusing = ("shuffled", "irrelevant", "refuse_all", "sham")
    for method in (*refusing, "continued", "pretraining_more", "sft", "comply_all"):
        guarded = plan(dataclasses.replace(config, methods=(method,))).tuned[method]
        if method in refusing:
            stage.make([guarded], store, runner)
        else:
            with pytest.raises(DivergedError, match="complies with 0% of safe prompts"):
                stage.make([guarded], store, runner)


OF_PROMPTS = {name for name, drawing in FIGURES.items() if drawing.of_prompts}


@pytest.mark.parametrize("name", sorted((FIGURES.keys() | {"jailbreaks-sft"}) - OFF - OF_PROMPTS - {"jailbreaks"}))
def test_a_figure_draws_rows_of_the_table_and_keeps_them(name: str, done: Results, all_figures: Path) -> None:
    # Columns without a value come back from CSV without a type.
    kept = pd.read_csv(all_figures / f"{name}.csv").astype(done.table.dtypes.to_dict())
    both = kept[[*KEYS, "value", "n"]].merge(done.table, on=KEYS, suffixes=("", "_table"))
    assert len(both) == len(kept) > 0
    assert (both["value"] - both["value_table"]).abs().max() < 1e-12
    assert (both["n"] == both["n_table"]).all()
    assert set(kept["seed"]) == {0, 1}


@pytest.mark.parametrize("name", sorted(OF_PROMPTS))
def test_a_figure_of_prompts_draws_what_was_measured_of_them(name: str, done: Results, all_figures: Path) -> None:
    kept = pd.read_csv(all_figures / f"{name}.csv")
    keys = ["seed", "family", "prompt", "metric", "layer", "module", "index"]
    assert set(kept["node"]) == set(done.table["node"]) - {"random"}
    for method, folders in json.loads((done.folder / "models.json").read_text())[""].items():
        if method == "random":
            continue
        mine = kept[kept["node"] == method]
        measured = pd.read_parquet(samples.folder(folders, samples.MEASUREMENT) / "samples.parquet")
        both = mine.merge(
            measured.astype({"family": str, "metric": str, "module": str}), on=keys, suffixes=("", "_kept")
        )
        assert len(both) == len(mine) > 0
        assert (both["value"] - both["value_kept"]).abs().max() < 1e-6


def test_a_second_run_makes_nothing_and_gives_the_same_bytes(root: Path, done: Results) -> None:
    before, content = artifacts(root), (done.folder / "results.parquet").read_bytes()
    stamp = (done.folder / "results.parquet").stat().st_mtime_ns
    again, lines = run(root)
    assert artifacts(root) == before
    assert lines == []
    assert again.folder == done.folder
    assert (again.folder / "results.parquet").stat().st_mtime_ns == stamp
    pd.testing.assert_frame_equal(again.table, done.table)
    (done.folder / "claims.json").unlink()
    rewritten, _ = run(root)
    assert (rewritten.folder / "claims.json").exists()
    assert (rewritten.folder / "results.parquet").read_bytes() == content
    assert (rewritten.folder / "DONE").exists()


def test_what_is_not_as_it_was_written_is_set_aside_and_made_again(root: Path, done: Results) -> None:
    folder, whole = done.folder, contents(done.folder)
    flipped = ["claims.json", "env.json", "report.html", "figures/tau.png", "figures/tau.csv"]
    for name in flipped:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    (folder / "cells.json").unlink()
    (folder / "cells.json").mkdir()
    (folder / "results.parquet").unlink()
    (folder / "results.parquet").symlink_to("results.parquet")
    _, lines = run(root)
    aside = {path.name.rpartition("-")[0] for path in (folder / "damaged").iterdir()}
    assert aside == {"cells.json", "results.parquet", *(Path(name).name for name in flipped)}
    assert [line for line in lines if "claims.json" in line and "set aside" in line]
    assert {path: path.read_bytes() for path in whole} == whole
    shutil.rmtree(folder / "damaged")
    assert run(root)[1] == []


def test_nothing_in_the_place_of_a_file_is_in_the_way_for_ever(root: Path, done: Results) -> None:
    folder, whole = done.folder, contents(done.folder)
    for name in ("config.yaml", "models.json", "DONE"):
        (folder / name).unlink()
        (folder / name).mkdir()
        (folder / name / "something").write_text("x")
    shutil.rmtree(folder / "figures")
    (folder / "figures").write_text("x")
    run(root)
    assert {path: path.read_bytes() for path in whole} == whole
    assert len(list((folder / "damaged").iterdir())) == 4
    shutil.rmtree(folder / "damaged")


def test_new_code_draws_the_figures_again(root: Path, done: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = done.folder / "figures" / "tau.png"
    stamp = figure.stat().st_mtime_ns
    version = provenance.code_version
    monkeypatch.setattr(output.provenance, "code_version", lambda name: version(name) + "x" * ("figures" in name))
    run(root)
    assert figure.stat().st_mtime_ns > stamp
    monkeypatch.undo()
    run(root)


def test_an_analysis_setting_makes_that_measurement_again_and_nothing_else(root: Path, done: Results) -> None:
    before = artifacts(root)
    other, _ = run(root, "analysis.clusters.permutations=4")
    assert kinds(set(artifacts(root)) - set(before)) == ["measure"] * 4
    assert other.folder != done.folder
    unchanged = ~other.table["metric"].str.contains("permuted")
    assert (other.table["value"] == done.table["value"])[unchanged & done.table["value"].notna()].all()


def test_a_methods_setting_does_not_pretrain_again(root: Path, done: Results) -> None:
    before = artifacts(root)
    run(root, "tuning.learning_rate=1e-4", "methods=[sft]")
    assert kinds(set(artifacts(root)) - set(before)) == ["measure"] * len(BY_DEFAULT) + ["responses", "tune"]


def test_names_and_side_settings_make_nothing_new(root: Path, done: Results) -> None:
    before = artifacts(root)
    renamed, _ = run(root, "world.name=mine", "checkpoint_seconds=3")
    assert artifacts(root) == before
    assert set(renamed.table["world"]) == {"mine"}


def test_from_an_empty_store_the_numbers_are_the_same(done: Results, tmp_path: Path) -> None:
    again, lines = run(tmp_path)
    assert (again.folder / "results.parquet").read_bytes() == (done.folder / "results.parquet").read_bytes()
    assert any(line.startswith("pretrain: step 4/4") for line in lines)


def test_a_damaged_artifact_is_made_again_with_a_warning(root: Path, done: Results) -> None:
    needed = plan(load(TINY))
    key = needed.tuned["sft"].recipe.key
    path = root / "store" / "artifacts" / f"tune-{key}"
    weights = path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    # A measurement too, which is made again after the table is first written.
    measured = root / "store" / "artifacts" / needed.measured["continued"][0].recipe.name / "rows.parquet"
    measured.write_bytes(measured.read_bytes()[:1000])
    (done.folder / "DONE").unlink()
    again, lines = run(root)
    assert lines[0] == "[1/2] tune sft"
    damaged = f"warning: tune-{key} is damaged (weights.safetensors is not what was written)"
    assert any(line.startswith(damaged) for line in lines)
    verify(path)
    verify(measured.parent)
    pd.testing.assert_frame_equal(again.table, done.table)


def test_all_models_of_a_plan_that_agree_share_one_pretraining() -> None:
    plans = [plan(load([*TINY, override])) for override in ("tuning.steps=4", "tuning.steps=5")]
    assert plans[0].weights["untouched"] == plans[1].weights["untouched"]
    assert plans[0].tuned["sft"].recipe.key != plans[1].tuned["sft"].recipe.key
    assert plans[0].tuned["sft"].recipe.key != plans[0].tuned["continued"].recipe.key


def test_tunings_that_may_be_stopped_are_not_made_together() -> None:
    sweep = [*TINY, "ablation.name=rate", "ablation.setting=tuning.learning_rate", "ablation.values=[1e-3,2e-3]"]

    def tuned_together(*settings: str) -> list[int]:
        found = jobs([(cell, plan(cell.config)) for cell in cells(load([*sweep, *settings]))])
        return [len(job.recipes) for job in found if job.stage == "tune"]

    assert tuned_together() == [2, 2]
    assert tuned_together("tuning.watch.guard=stop") == [1, 1, 1, 1]


def test_models_of_which_no_seed_is_left_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"a": [1.0, math.nan], "b": [math.nan, 1.0], "untouched": [0.0, 0.0]}
    needed = plan(load(TINY))
    assert needed.paths
    names = {one.recipe.key: name for one, name in zip(needed.paths.parents, weights, strict=True)}
    monkeypatch.setattr(Store, "get", lambda self, recipe: Artifact(recipe.key, tmp_path))
    monkeypatch.setattr(
        paths.files, "load_weights", lambda artifact: {"W_E": np.array(weights[names[artifact.key]])[:, None]}
    )
    with pytest.raises(DivergedError, match="nothing to compare"):
        stage.make([needed.paths], Store(tmp_path), Runner(Said(), 0.0))


def test_what_failed_is_known_after_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(missing: list[Job], *rest: Any) -> None:
        rest[-1]({missing[0].recipes[0].key: Failure("pretrain: seed 0 diverged")})
        raise KeyboardInterrupt

    monkeypatch.setattr(study.engine, "do", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    [told] = [json.loads(path.read_text()) for path in (tmp_path / "outputs").glob("*/cells.json")]
    assert told[0] == {"cell": "", "settings": {}, "status": "failed", "error": "pretrain: seed 0 diverged"}


def test_the_summary_gives_mean_and_range_of_every_model(done: Results) -> None:
    cells = summary.cells(done.table)
    assert set(cells["node"]) == {"untouched", "sft", "continued", "random"}
    one = cells[(cells["node"] == "sft") & (cells["statistic"] == "safe complied")]
    table = done.table[done.table["intervention"].isna()]
    rows = table[(table["node"] == "sft") & (table["metric"] == "complied") & (table["family"] == "safe")]
    assert one["value"].tolist() == rows["value"].tolist()
    rendered = summary.render(done.table)
    assert rendered.row_count == cells["statistic"].nunique() == 11
    assert [column.header for column in rendered.columns] == ["", "untouched", "sft", "continued"]


def test_the_command_prints_the_summary_and_where_the_results_are(
    root: Path, done: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, f"output_dir={root}/outputs", f"store_dir={root}/store"]) == 0
    out = capsys.readouterr().out
    assert "untouched" in out
    assert str(done.folder) in out.replace("\n", "")


def test_a_diverging_stage_is_one_line_and_exit_code_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [*TINY, f"output_dir={root}/o", f"store_dir={root}/s", "pretrain.learning_rate=1e38"]
    assert main(settings) == 1
    assert capsys.readouterr().err.startswith("error: pretrain: seed 0 diverged at step ")


def test_a_store_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([*TINY, f"output_dir={tmp_path}", f"store_dir={tmp_path}/file"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/file/artifacts: Not a directory")


def test_an_interrupt_is_one_line_and_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.run.run", interrupt)
    assert main([]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from the last saved state\n"


def noise(root: Path, *values: float, settings: tuple[str, ...] = ()) -> tuple[Results, list[str]]:
    ablation = ["ablation.name=noise", "ablation.setting=tuning.data.label_noise", f"ablation.values={list(values)}"]
    return run(root, *ablation, *settings)


@pytest.fixture(scope="module")
def swept(root: Path, done: Results) -> tuple[Results, list[str]]:
    return noise(root, 0.0, 0.5)


def test_cells_that_differ_in_traced_settings_are_tuned_together_and_pretrained_once(
    root: Path, swept: tuple[Results, list[str]]
) -> None:
    results, lines = swept
    began = [line for line in lines if line.endswith("compiling")]
    # The cell without noise is the study that was there before.
    assert sorted(line.split(":")[0] for line in began) == ["tune continued", "tune sft"]
    assert set(results.table["cell"]) == {"0.0", "0.5"}
    assert results.table.groupby("cell")["tuning.data.label_noise"].unique().map(list).to_dict() == {
        "0.0": [0.0],
        "0.5": [0.5],
    }
    cells = json.loads((results.folder / "cells.json").read_text())
    assert [(cell["cell"], cell["status"]) for cell in cells] == [("0.0", "done"), ("0.5", "done")]
    assert results.folder.name.startswith("quick-noise-")


def test_a_cell_is_the_study_with_its_setting(root: Path, done: Results, swept: tuple[Results, list[str]]) -> None:
    cell = swept[0].cell("0.0").drop(columns="tuning.data.label_noise")
    pd.testing.assert_frame_equal(cell.assign(cell=""), done.table)


def test_trained_together_or_alone_a_model_is_the_same_up_to_rounding(
    root: Path, tmp_path: Path, done: Results
) -> None:
    settings = ("methods=[sft]", "analysis.measurements=[behaviour,clusters,sensitivity]")
    together, _ = noise(root, 0.25, 0.75, settings=settings)
    alone, lines = run(tmp_path, "tuning.data.label_noise=0.75", *settings)
    assert not any("cells" in line for line in lines)
    one, other = together.cell("0.75"), alone.table
    compared = ["log_odds", "tau", "separation", "lipschitz"]
    plain = one["intervention"].isna() & one["metric"].isin(compared)
    assert set(one["metric"][plain]) == set(compared)
    # Batched over more runs, XLA adds in another order: single precision, over four steps.
    pd.testing.assert_series_equal(one["value"][plain], other["value"][plain], rtol=1e-3, atol=1e-4)


def test_a_value_that_is_added_is_all_that_is_made(root: Path, swept: tuple[Results, list[str]]) -> None:
    before = artifacts(root)
    more, _ = noise(root, 0.0, 0.5, 0.125)
    assert kinds(set(artifacts(root)) - set(before)) == [
        *["measure"] * 2 * len(BY_DEFAULT),
        "paths",
        *["responses"] * 2,
        *["tune"] * 2,
    ]
    assert list(dict.fromkeys(more.table["cell"])) == ["0.0", "0.5", "0.125"]
    old = swept[0].table.reset_index(drop=True)
    pd.testing.assert_frame_equal(more.table[more.table["cell"] != "0.125"].reset_index(drop=True), old)


def test_a_cell_that_fails_leaves_the_others(root: Path, done: Results, capsys: pytest.CaptureFixture[str]) -> None:
    ablation = ["ablation.name=rate", "ablation.setting=tuning.learning_rate", "ablation.values=[2e-3,1e38]"]
    few = ["analysis.measurements=[behaviour]", f"output_dir={root}/outputs", f"store_dir={root}/store"]
    for _ in range(2):  # The second time it is tried again.
        assert main([*TINY, *ablation, *few]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: 1 of 2 cells failed (1e+38); the rest is in ")
        folder = Path(error.split("the rest is in ")[1].split(",")[0])
        cells = json.loads((folder / "cells.json").read_text())
        assert [cell["status"] for cell in cells] == ["done", "failed"]
        assert "diverged" in cells[1]["error"]
        assert not (folder / "DONE").exists()
        rows = pd.read_parquet(folder / "results.parquet")
        assert set(rows.loc[~rows["node"].isin(["untouched", "random"]), "cell"]) == {"0.002"}


def test_a_dry_run_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([*TINY, "ablation=label_noise", "dry_run=true", f"store_dir={tmp_path}/s", f"output_dir={tmp_path}/o"])
        == 0
    )
    out = capsys.readouterr().out
    assert "5 cells, 2 seeds" in out
    assert "trainings" in out
    assert list(tmp_path.iterdir()) == []


FEW_TEXTS = [
    "world.seed=1",
    "world.grammar.branching=[[2,3],[3,3]]",
    "world.grammar.productions=[1]",
    "world.coverage.productions=1",
]


@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_a_plan_refuses_the_worlds_that_a_run_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dry_run: str
) -> None:
    """Here the second world has all its prompts on one side."""
    places = [f"store_dir={tmp_path}/s", f"output_dir={tmp_path}/o"]
    two = ["ablation.name=few", "ablation.points={whole: {world.held_out: 0.2}, few: {world.held_out: 0.01}}"]
    assert main([*TINY, *FEW_TEXTS, *two, *places, f"dry_run={dry_run}"]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: world.held_out=0.01: must leave safe prompts to test on; ")
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""
    assert not list(tmp_path.glob("o/*")) + list(tmp_path.glob("s/artifacts/*"))


def test_a_plan_draws_once_in_equal_worlds_and_says_where_it_drew_in_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(prompts, "check", lambda world, families: drawn.append(world.seed))
    said: list[str] = []
    places = [f"store_dir={tmp_path}/s", f"output_dir={tmp_path}/o"]
    config = load([*TINY, *places, "worlds=3", "ablation=learning_rate"])
    forecast.forecast(config, said.append)
    assert (drawn, said) == ([0, 1, 2], [])
    monkeypatch.setattr(forecast, "DRAWING", -1.0)
    forecast.forecast(config, said.append)
    assert drawn == [0, 1, 2, 0]
    assert said == ["prompts were drawn in 1 of 3 worlds; the run draws some in each before it makes anything"]
