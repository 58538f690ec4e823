"""Each ready-made ablation, tiny, by a launcher: in new processes, which have nothing cached."""

from pathlib import Path

import pytest

from experiments.settings.config import load
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
QUICK = ["world.tasks.aliases=0", "world.coverage.productions=1", "world.grammar.branching=[[2,2]]", "tuning.steps=2"]


@pytest.fixture
def few_optimisations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the programs of new processes: what is computed is little."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


@pytest.mark.usefixtures("few_optimisations")
@pytest.mark.filterwarnings("ignore")  # Of the launcher's own libraries.
def test_an_ablation_is_made_by_processes_that_have_nothing_cached(tmp_path: Path) -> None:
    config = load([*TINY, *QUICK, "ablation=label_noise", "ablation.values=[0.1]"])
    work = jobs([(cell, plan(cell.config)) for cell in cells(config)])
    store = Store(tmp_path / "store")
    failures: Failures = {}
    place = Place(store.root, 20.0, None)
    failures |= engine.do(work, place, config.launcher, tmp_path / "logs", Said(), lambda found: None)
    assert failures == {}
    assert all(store.is_whole(recipe) for job in work for recipe in job.recipes)
