"""Tests of measuring snapshots of a tuning: the last of them is the finished model, and measured as it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from experiments.findings.results import unchanged
from experiments.progress import Reporter
from experiments.settings.config import load
from experiments.settings.names import UNTOUCHED
from experiments.stages import files, measure, stage
from experiments.stages.measure import Measured
from experiments.stages.runs import DivergedError, Runner
from experiments.stages.stage import Work
from experiments.store.artifacts import Store
from experiments.store.manifest import Artifact
from experiments.study.cells import cells
from experiments.study.plan import jobs, plan
from models.weights import described, flatten, from_safetensors, to_safetensors, unflatten
from synth.settings import UserError
from tests.experiments.conftest import BY_DEFAULT
from tests.experiments.test_study import TINY

STEPS = (2, 4)
MEASURED = ("behaviour", "clusters", "separability", "nullspace", "multiples", "interventions")
PLACE = ["seed", "family", "layer", "module", "index", "intervention", "strength", "metric"]


class Stages(NamedTuple):
    finished: pd.DataFrame
    """What `measure` says of the tuned model"""
    followed: pd.DataFrame
    diverged: pd.DataFrame
    """The same where seed 0 has diverged before the last step"""
    nothing: str
    """What is said where every seed had diverged before the first"""


def steps_of(table: pd.DataFrame, step: int) -> pd.DataFrame:
    """Rows of one step."""
    return table[table["step"] == step]


@pytest.fixture(scope="module")
def stages(with_optax: None, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    followed = f"over_training={list(MEASURED)}".replace("'", "")
    config = load([*TINY, "analysis.families=[safe,unsafe]", f"tuning.snapshots={list(STEPS)}", followed])
    needed = plan(config)
    store, runner = Store(tmp_path_factory.mktemp("store")), Runner(Reporter(), 60)
    stage.make([needed.weights[UNTOUCHED]], store, runner)
    [tuned] = stage.make([needed.weights["sft"]], store, runner)

    def rows(chosen: list[Measured]) -> pd.DataFrame:
        made = stage.make(chosen, store, runner)
        return pd.concat([pd.read_parquet(one.path / measure.TABLE) for one in made], ignore_index=True)

    of_steps = [one for one in needed.measured["sft"] if one.step is not None]

    def follow(broken: Artifact) -> pd.DataFrame:
        """The same of other weights, in no store."""
        folders = [tmp_path_factory.mktemp("rows") for _ in of_steps]
        with pytest.MonkeyPatch.context() as patched:
            own = tuned.key
            whole = store.get
            patched.setattr(store, "get", lambda recipe: broken if recipe.key == own else whole(recipe))
            Measured.make(of_steps, folders, Work(store, runner, Path()))
        return pd.concat([pd.read_parquet(folder / measure.TABLE) for folder in folders], ignore_index=True)

    with pytest.raises(DivergedError) as error:
        follow(spoilt(tuned, tmp_path_factory, STEPS, (0, 1)))
    return Stages(
        rows([one for one in needed.measured["sft"] if one.step is None]),
        rows(of_steps),
        follow(spoilt(tuned, tmp_path_factory, STEPS[1:], (0,))),
        str(error.value),
    )


def test_all_of_the_finished_model_are_one_job_and_all_of_its_snapshots_another() -> None:
    config = load([*TINY, f"tuning.snapshots={list(STEPS)}", "over_training=[behaviour,clusters]"])
    (cell,) = cells(config)
    found = {job.what: len(job.recipes) for job in jobs([(cell, plan(cell.config))])}
    assert found["measure sft"] == len(BY_DEFAULT) + 1
    assert found["measure snapshots of sft"] == 2 * len(STEPS)


def spoilt(tuned: Artifact, folders: pytest.TempPathFactory, steps: Sequence[int], seeds: Sequence[int]) -> Artifact:
    """The same snapshots, but that `seeds` have diverged by `steps`."""
    folder = folders.mktemp("spoilt")
    for step in STEPS:
        content = (tuned.path / files.snapshot(step)).read_bytes()
        weights = {name: np.array(array) for name, array in flatten(from_safetensors(content)).items()}
        if step in steps:
            weights["W_E"][list(seeds)] = np.nan
        (folder / files.snapshot(step)).write_bytes(to_safetensors(unflatten(weights), described(content)))
    return Artifact(tuned.key, folder)


def test_the_last_snapshot_is_measured_as_the_finished_model(stages: Stages) -> None:
    last = steps_of(stages.followed, STEPS[-1])
    # Sensitivity is what was not asked for, and prompts are the same at every step.
    whole = stages.finished
    sensitivity = whole["metric"].str.startswith("lipschitz") & whole["intervention"].isna()
    of_these = whole[~sensitivity & (whole["metric"] != "distinct")]
    for table in (last, of_these):
        assert not table.duplicated(PLACE).any()
    both = of_these.merge(last, on=PLACE, suffixes=("", "_followed"))
    assert len(both) == len(last) == len(of_these)
    assert (both["n"] == both["n_followed"]).all()
    pd.testing.assert_series_equal(both["value"], both["value_followed"], check_names=False, rtol=1e-6)


def test_earlier_snapshots_have_changed_less_and_are_rows_of_the_same_places(stages: Stages) -> None:
    first, last = (steps_of(stages.followed, step) for step in STEPS)
    assert len(first) == len(last) == len(stages.followed) / len(STEPS)
    sizes = [rows.loc[rows["metric"] == "relative_change", "value"].to_numpy() for rows in (first, last)]
    assert (sizes[0] > 0).all()
    assert (sizes[0] < sizes[1]).all()


def test_none_of_it_is_taken_for_the_finished_model(stages: Stages) -> None:
    assert unchanged(stages.followed).empty


def test_a_seed_that_has_diverged_has_no_rows_from_then_on(stages: Stages) -> None:
    seeds = [set(steps_of(stages.diverged, step)["seed"]) for step in STEPS]
    assert seeds == [{0, 1}, {1}]


def test_without_a_seed_that_is_left_there_is_nothing_to_measure(stages: Stages) -> None:
    assert stages.nothing == "there is nothing to measure: every seed of the model diverged while it was trained"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("over_training=[pca]", "over_training=pca: must be among behaviour, clusters, "),
        ("tuning.snapshots=[0]", "tuning.snapshots=[0]: must be different steps from 1 to steps=4"),
        ("tuning.snapshots=[2,5]", "tuning.snapshots=[2, 5]: must be different steps from 1 to steps=4"),
        ("tuning.snapshots=[2,2]", "tuning.snapshots=[2, 2]: must be different steps from 1 to steps=4"),
    ],
)
def test_settings_out_of_range(setting: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load([*TINY, setting])
    assert str(error.value).startswith(message)
