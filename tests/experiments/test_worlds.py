"""A study of several worlds: each has a seed of its own, more worlds make only what is new, and compile nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.export import export
from experiments.findings.results import models, tuned
from experiments.settings.commands import ExportConfig
from experiments.settings.config import load
from experiments.settings.names import RANDOM, UNTOUCHED
from experiments.settings.schema import StudyConfig
from experiments.stages.files import load_weights
from experiments.study import forecast
from experiments.study import run as study
from experiments.study.cells import cells
from experiments.study.output import Results
from experiments.study.plan import jobs, plan
from experiments.study.run import Store
from models.transformer import init
from models.weights import flatten, from_safetensors, one_seed
from synth.keys import fold
from synth.settings import UserError
from synth.world import build_world
from tests.experiments.conftest import BY_DEFAULT, KEYS
from tests.experiments.said import Said
from tests.experiments.test_study import TINY

pytestmark = pytest.mark.usefixtures("with_optax", "few_figures")

SMALL = [*TINY, "seeds=1", "model.layers=1", "world.tasks.aliases=0", "world.coverage.productions=1"]
"""Without the families of aliases and of productions left out, whose programs are the longest to compile: that worlds
share them too is a test of `tests/synth/test_shared.py`"""

MEASURED = 3 * len(BY_DEFAULT) + sum(row.of_random for row in BY_DEFAULT.values()) + 4
"""Measurements of the untouched model, two tuned ones and the random one, and what each of them answered"""


def settings(root: Path, *overrides: str) -> list[str]:
    return [*SMALL, f"output_dir={root}/outputs", f"store_dir={root}/store", *overrides]


def artifacts(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (root / "store" / "artifacts").iterdir()}


@contextmanager
def compilations() -> Iterator[list[str]]:
    """The programs that are compiled, or read compiled, within."""
    found: list[str] = []

    def listen(event: str, duration: float, **about: str) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(str(about.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="module")
def one(with_optax: None, few_figures: None, root: Path) -> tuple[Results, dict[str, int]]:
    results = study.run(load(settings(root)), Said())
    return results, artifacts(root)


@pytest.fixture(scope="module")
def two(root: Path, one: tuple[Results, dict[str, int]]) -> tuple[Results, list[str]]:
    with compilations() as compiled:
        results = study.run(load(settings(root, "worlds=2")), Said())
    return results, compiled


def test_each_world_has_a_seed_of_its_own(two: tuple[Results, list[str]]) -> None:
    table = two[0].table
    pairs = table[["world_seed", "seed"]].drop_duplicates()
    assert sorted(map(tuple, pairs.to_numpy().tolist())) == [(0, 0), (1, 1)]
    assert table.groupby("node")["seed"].nunique().eq(2).all()
    assert not table.duplicated(KEYS).any()
    # The worlds do differ: no model of one does what that of the other does.
    tau = table[(table["metric"] == "tau") & table["intervention"].isna()].pivot(
        index=["node", "layer", "module", "family"], columns="seed", values="value"
    )
    assert (tau[0] != tau[1]).all()


def test_another_world_makes_only_what_is_new(
    root: Path, one: tuple[Results, dict[str, int]], two: tuple[Results, list[str]]
) -> None:
    before, after = one[1], artifacts(root)
    assert {name: after[name] for name in before} == before
    stages = [sorted(name.split("-")[0] for name in names) for names in (before, after.keys() - before.keys())]
    assert stages[0] == stages[1]
    columns = [*KEYS, "value"]
    alone, first = one[0].table[columns], two[0].table.query("seed == 0")[columns]
    np.testing.assert_array_equal(alone["value"], first["value"])


def test_another_world_of_the_same_shapes_compiles_nothing(two: tuple[Results, list[str]]) -> None:
    assert two[1] == []


def test_what_is_compiled_is_counted() -> None:
    with compilations() as compiled:
        jax.jit(lambda x: x * 3 + 1)(np.float32(2)).block_until_ready()
    assert len(compiled) == 1


def test_going_on_and_planning_again_find_everything_there(root: Path, two: tuple[Results, list[str]]) -> None:
    before = artifacts(root)
    reporter = Said()
    study.run(load([f"resume={two[0].folder}"]), reporter)
    assert artifacts(root) == before
    assert reporter.lines == []
    there = forecast.forecast(load(settings(root, "worlds=2")))
    assert all(line.there == line.artifacts and line.jobs == 0 for line in there)
    more = {line.stage: line for line in forecast.forecast(load(settings(root, "worlds=4")))}
    assert {stage: (line.artifacts, line.there) for stage, line in more.items()} == {
        "pretrain": (4, 2),
        "tune": (8, 4),
        "initial": (4, 2),
        "measure": (4 * MEASURED, 2 * MEASURED),
        "paths": (4, 2),
    }
    assert more["pretrain"].trainings == 2


def test_files_name_every_world(root: Path, two: tuple[Results, list[str]], tmp_path: Path) -> None:
    folder = two[0].folder
    assert [(one["cell"], one["status"]) for one in json.loads((folder / "cells.json").read_text())] == [("", "done")]
    places = json.loads((folder / "models.json").read_text())[""]
    assert list(places) == [UNTOUCHED, "sft", "continued", RANDOM]
    for of in places.values():
        worlds = [of, *of["other_worlds"]]
        assert [(one["world_seed"], one["seeds"]) for one in worlds] == [(0, [0]), (1, [1])]
    for seed, world in enumerate([places["sft"], *places["sft"]["other_worlds"]]):
        out = tmp_path / f"{seed}.safetensors"
        export(ExportConfig(run=str(folder), to="safetensors", out=str(out), method="sft", seed=seed))
        wanted = one_seed(from_safetensors((Path(world["weights"]) / "weights.safetensors").read_bytes()), 0)
        given = from_safetensors(out.read_bytes())
        assert all((flatten(given)[name] == array).all() for name, array in flatten(wanted).items())
    with pytest.raises(UserError, match="seed=2: this study has seeds 0 to 1; choose one of them"):
        export(ExportConfig(run=str(folder), to="safetensors", out=str(tmp_path / "no.safetensors"), seed=2))


def test_the_random_model_is_what_pretraining_starts_from(root: Path, two: tuple[Results, list[str]]) -> None:
    """Its weights by their keys, its measurements those of a model without a change of weights."""
    table = two[0].table
    assert RANDOM in models(table)
    assert RANDOM not in tuned(table)
    own, untouched = (table[table["node"] == name] for name in (RANDOM, UNTOUCHED))
    assert set(own["metric"]) <= set(untouched["metric"])
    assert {"complied", "tau", "probe_accuracy", "lipschitz"} <= set(own["metric"])
    assert own["intervention"].isna().all()
    assert own["learning_rate"].isna().all()
    assert set(own["metric"]).isdisjoint({"sine", "projection", "relative_change"})
    # At their start the models do nothing right.
    assert (own[own["metric"] == "complied"]["value"] == 0).all()
    for cell in cells(load(settings(root, "worlds=2"))):
        needed = plan(cell.config)
        labels = [one.label for one in needed.measured[RANDOM]]
        assert labels == ["behaviour", "clusters", "separability", "sensitivity", "responses"]
        kept = load_weights(Store(root / "store").get(needed.weights[RANDOM].recipe))
        (seed,) = cell.seeds
        key = fold(jax.random.key(0), "pretrain", "seed", seed, "init")
        wanted = init(cell.config.model, build_world(cell.config.world).vocab.size, key)
        for name, array in flatten(wanted).items():
            np.testing.assert_array_equal(flatten(kept)[name][0], array)


def test_without_the_random_model_all_else_is_the_same() -> None:
    with_it, without = (plan(load([*SMALL, f"random_model={on}"])) for on in ("true", "false"))
    assert RANDOM not in without.weights
    assert RANDOM not in without.measured
    left_out = {recipe.key for recipe in with_it.recipes} - {recipe.key for recipe in without.recipes}
    assert left_out == {one.recipe.key for one in (*with_it.measured[RANDOM], with_it.weights[RANDOM])}


def begun(config: StudyConfig) -> str:
    """The key of the pretrained model."""
    return plan(config).weights[UNTOUCHED].recipe.key


def test_worlds_are_numbered_on_from_the_settings() -> None:
    found = cells(load([*TINY, "worlds=3", "seeds=2", "first_seed=5", "world.seed=7"]))
    assert [(cell.name, cell.world_seed, list(cell.seeds)) for cell in found] == [
        ("", 7, [5, 6]),
        ("", 8, [7, 8]),
        ("", 9, [9, 10]),
    ]
    named = [job.what for job in jobs([(cell, plan(cell.config)) for cell in found])]
    assert "tune sft, world 8" in named
    assert len(set(named)) == len(named)
    # What is not named is not hashed otherwise: the first world is that of a study of one.
    alone = plan(load([*TINY, "seeds=2", "first_seed=5", "world.seed=7"]))
    assert [recipe.key for recipe in alone.recipes] == [recipe.key for recipe in plan(found[0].config).recipes]
    assert begun(load([*TINY, "first_seed=1"])) != begun(load(TINY))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["worlds=0"], "worlds=0: must be at least 1; set worlds to 1 or more"),
        (["first_seed=-1"], "first_seed=-1: must be 0 or more, and the last seed at most 2147483647; set 0"),
        (["first_seed=2147483647"], "first_seed=2147483647: must be 0 or more, and the last seed at most"),
        (["worlds=2", "world.seed=4294967295"], "worlds=2: the last world's seed, from world.seed=4294967295 on"),
        (
            ["worlds=2", "ablation.name=x", "ablation.setting=world.seed", "ablation.values=[0,1]"],
            "ablation x, cell 0: world.seed is what worlds=2 varies; set worlds=1, or leave it",
        ),
        (
            ["ablation.name=x", "ablation.setting=worlds", "ablation.values=[1,2]"],
            "ablation x, cell 1: worlds is of the study as a whole",
        ),
    ],
)
def test_worlds_that_cannot_be_are_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        cells(load([*TINY, *overrides]))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
