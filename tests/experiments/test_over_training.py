"""Tests of `experiments/stages/over_training.py`: the last snapshot is the finished model, and measured as it is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from experiments.artifacts import Artifact, Recipe, Store
from experiments.config import ConfigError, load
from experiments.progress import Reporter
from experiments.results import unchanged
from experiments.stages import files, measure, over_training, pretrain, tune
from experiments.training import DivergedError, Runner
from models.weights import described, flatten, from_safetensors, to_safetensors, unflatten
from tests.experiments.test_study import TINY

STEPS = (2, 4)
MEASURED = ("behaviour", "clusters", "separability", "nullspace", "interventions")
PLACE = ["seed", "family", "layer", "module", "index", "metric"]


class Stages(NamedTuple):
    finished: pd.DataFrame
    """What `measure` says of the tuned model"""
    followed: pd.DataFrame
    diverged: pd.DataFrame
    """The same where seed 0 has diverged before the last step"""
    nothing: str
    """What is said where every seed had diverged before the first"""


def steps_of(table: pd.DataFrame, step: int) -> pd.DataFrame:
    """Rows of one step, with what they are called in the table of the finished model."""
    own = table[table["variant"].str.fullmatch(rf"step {step}( .*)?")]
    return own.assign(variant=own["variant"].str.removeprefix(f"step {step}").str.strip().replace("", None))


@pytest.fixture(scope="module")
def stages(with_optax: None, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    config = load([*TINY, "analysis.families=[safe,unsafe]", f"tuning.snapshots={list(STEPS)}"])
    world, model, analysis = config.world, config.model, config.analysis
    reporter = Reporter()
    store, runner = Store(tmp_path_factory.mktemp("store"), reporter.warn), Runner(reporter, 60)
    before = pretrain.recipe({})
    pretrained = pretrain.run(store, before, runner, world, model, config.pretrain, config.seeds, 0)
    after = tune.recipe({}, before)
    tuning = tune.Tuning(config.tuning, config.method.sft)
    tuned = tune.run(store, [after], runner, world, model, "sft", [tuning], pretrained, 0)[after.key]

    def follow(recipe: Recipe, artifact: Artifact) -> pd.DataFrame:
        made = over_training.run(store, recipe, world, model, analysis, MEASURED, STEPS, artifact, pretrained, 0)
        return pd.read_parquet(made.path / over_training.TABLE)

    finished = measure.run(store, measure.recipe({}, after, before), world, model, analysis, tuned, pretrained, 0)
    with pytest.raises(DivergedError) as error:
        follow(over_training.recipe({"of": "nothing"}, after, before), spoilt(tuned, tmp_path_factory, STEPS, (0, 1)))
    return Stages(
        pd.read_parquet(finished.path / measure.TABLE),
        follow(over_training.recipe({}, after, before), tuned),
        follow(over_training.recipe({"of": "one"}, after, before), spoilt(tuned, tmp_path_factory, STEPS[1:], (0,))),
        str(error.value),
    )


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
    sensitivity = whole["metric"].str.startswith("lipschitz") & whole["variant"].isna()
    of_these = whole[~sensitivity & (whole["metric"] != "distinct")]
    for table in (last, of_these):
        assert not table.duplicated([*PLACE, "variant"]).any()
    both = of_these.merge(last, on=[*PLACE, "variant"], suffixes=("", "_followed"))
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
    assert stages.nothing == "there is nothing to measure: every seed had diverged before the first snapshot"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("over_training=[pca]", "over_training=['pca']: pca is none of behaviour, clusters, "),
        ("tuning.snapshots=[0]", "tuning.snapshots=[0]: must be different steps from 1 to steps=4"),
        ("tuning.snapshots=[2,5]", "tuning.snapshots=[2, 5]: must be different steps from 1 to steps=4"),
        ("tuning.snapshots=[2,2]", "tuning.snapshots=[2, 2]: must be different steps from 1 to steps=4"),
    ],
)
def test_settings_out_of_range(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load([*TINY, setting])
    assert str(error.value).startswith(message)
