"""A graph of models is settings: here pretrained -> sft -> attacked, and attacked once more by settings of its own."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import figures
from experiments.findings.results import select
from experiments.findings.verdicts import UNTESTABLE
from experiments.run import main
from experiments.settings.config import load, output_folder
from experiments.settings.names import UNTOUCHED
from experiments.stages import files
from experiments.study.output import Results
from experiments.study.plan import plan
from models.weights import flatten, from_safetensors
from tests.experiments.conftest import FEW_FAMILIES
from tests.experiments.test_study import TINY

pytestmark = pytest.mark.usefixtures("with_optax")

GRAPH = [
    "methods=[sft]",
    "attacks=[continued]",
    "nodes.last={start: sft+continued, method: dpo, tuning.steps: 3}",
    "nodes.slow={method: dpo, tuning.steps: 3, tuning.learning_rate: 1e-4}",
]


def test_each_model_is_tuned_from_its_start_and_measured_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FIGURES", {"behaviour": figures.FIGURES["behaviour"]})
    measured = "analysis.measurements=[behaviour,clusters,nullspace,paths]"
    small = ["random_model=false", "model.layers=1", measured, *FEW_FAMILIES]
    settings = [*TINY, *GRAPH, *small, f"output_dir={tmp_path}/outputs", f"store_dir={tmp_path}/store"]
    assert main(settings) == 0
    config = load(settings)
    folder = output_folder(config)
    table = Results(folder).table
    said = table[["node", "start", "method"]].drop_duplicates().astype(object)
    assert {tuple(row) for row in said.where(said.notna(), None).to_numpy().tolist()} == {
        (UNTOUCHED, None, UNTOUCHED),
        ("sft", UNTOUCHED, "sft"),
        ("sft+continued", "sft", "continued"),
        ("last", "sft+continued", "dpo"),
        ("slow", UNTOUCHED, "dpo"),
    }
    # In what is measured between models, too.
    assert set(select(table, node="slow")["learning_rate"]) == {1e-4}
    assert set(select(table, node="sft")["learning_rate"]) == {config.tuning.learning_rate}
    assert {"between", "transfer"} <= set(select(table, node="slow")["intervention"].dropna())
    models = json.loads((folder / "models.json").read_text())[""]
    weights = {
        name: flatten(from_safetensors((Path(one["weights"]) / files.WEIGHTS).read_bytes()))
        for name, one in models.items()
    }
    for node, of in plan(config).nodes.items():
        # dW is what the last step changed, as NumPy has it.
        before, after = (weights[name]["blocks.0.mlp.W_in"].astype(float) for name in (of.start, node))
        found = select(table, node=node, metric="relative_change", module="W_in", layer=1).set_index("seed")["value"]
        norms = [np.linalg.norm(x, axis=(1, 2)) for x in (after - before, before)]
        np.testing.assert_allclose(found.to_numpy(), norms[0] / norms[1], rtol=1e-5)
        assert (found > 0).all()
    verdicts = json.loads((folder / "claims.json").read_text())
    assert {one["verdict"] for one in verdicts} != {UNTESTABLE}
    assert (folder / "figures" / "behaviour.pdf").exists()
    assert "sft+continued" in (folder / "report.html").read_text()
