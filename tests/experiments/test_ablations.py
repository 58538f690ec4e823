"""Each ready-made ablation, tiny, by a launcher: in new processes, which have nothing cached."""

from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

from experiments.settings.config import load
from experiments.settings.presets import CONF
from experiments.store.artifacts import Store
from experiments.study import engine
from experiments.study.cells import cells
from experiments.study.engine import Failures, Place
from experiments.study.plan import jobs, plan
from tests.experiments.said import Said

TINY = [
    "worlds=1",
    "seeds=1",
    "random_model=false",
    "model.layers=1",
    "model.width=16",
    "model.heads=2",
    "pretrain.steps=4",
    "pretrain.batch_size=8",
    "tuning.batch_size=8",
    "analysis.prompts=16",
    "analysis.clusters.permutations=5",
    "analysis.nullspace.draws=5",
    "analysis.nullspace.directions=3",
    "analysis.sensitivity.prompts=8",
    "analysis.interventions.prompts=4",
    "analysis.interventions.alphas=[0,1]",
    "analysis.interventions.top=[1]",
    "pretrain.watch.prompts=8",
    "tuning.watch.prompts=8",
    "methods=[sft]",
    "launcher=joblib",
]
SMALL_WORLD = [
    "analysis.families=[safe,unsafe]",
    "world.tasks.aliases=0",
    "world.tasks.composed=1",
    "world.coverage.productions=1",
    "world.grammar.levels=2",
    "world.grammar.concept_level=1",
    "world.grammar.branching=[[4,4]]",
    "tuning.steps=2",
]
"""With safe and unsafe prompts alone: most of the time goes into compiling what draws each family."""

SHORTER = {"tuning_steps": "ablation.values=[2,3]", "width": "ablation.values=[16,32]"}
"""For ablations that sweep what the time goes by."""


@pytest.fixture(autouse=True)
def new_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib would use those of the test before again. Optimised programs do not pay where so little is computed."""
    get_reusable_executor().shutdown(wait=True)
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the store that all have in common, with their compiled programs."""
    return tmp_path_factory.mktemp("ablations")


def made(root: Path, *settings: str) -> tuple[Failures, int, bool]:
    """What failed, in how many cells, and whether all artifacts are there."""
    config = load([*TINY, *settings])
    found = cells(config)
    work = jobs([(cell, plan(cell.config)) for cell in found])
    store = Store(root / "store")
    place = Place(store.root, 20.0, None)
    failures = engine.do(work, place, config.launcher, root / "logs", Said(), lambda failed: None)
    return failures, len(found), all(store.is_whole(recipe) for job in work for recipe in job.recipes)


@pytest.mark.filterwarnings("ignore")  # Of the launcher's own libraries.
def test_an_ablation_is_made_by_processes_that_have_nothing_cached(root: Path) -> None:
    assert made(root, *SMALL_WORLD, "ablation=label_noise", "ablation.values=[0.1]") == ({}, 1, True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [path.stem for path in sorted((CONF / "ablation").glob("*.yaml")) if path.stem != "none"]
)
def test_every_ready_made_ablation_is_made_by_processes_that_have_nothing_cached(name: str, root: Path) -> None:
    failures, count, whole = made(root, f"ablation={name}", SHORTER.get(name, "tuning.steps=2"))
    assert failures == {}
    assert count >= 2
    assert whole
