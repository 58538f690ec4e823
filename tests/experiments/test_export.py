"""Exporting a trained model, as a user does from the command line, from an output folder made by hand."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load, save

from experiments.export import main
from experiments.findings.seal import Places
from experiments.stages.files import WEIGHTS
from experiments.study.output import MODELS
from models.transformer import ModelConfig, Params, init
from models.weights import Described, described, flatten, from_safetensors, one_seed, to_safetensors
from synth.vocab import MARKS, SPECIAL

SEEDS = 2
ABOUT = Described(ModelConfig(layers=1, heads=2, width=8, context=6), (*SPECIAL, "t0", "a", "b"), MARKS)
FOLDER = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def stack(method: str, about: Described = ABOUT) -> Params:
    """The weights of all seeds, other ones for each method."""
    shapes = jax.eval_shape(lambda: init(about.model, len(about.vocabulary), jax.random.key(0)))
    draws = np.random.default_rng(list(method.encode()))
    return jax.tree.map(lambda leaf: draws.normal(size=(SEEDS, *leaf.shape)).astype(np.float32), shapes)


def artifact(study: Path, method: str) -> Path:
    return study.parent / "store" / method


def put(study: Path, method: str, content: bytes) -> None:
    """A model of the study, where it is looked for."""
    artifact(study, method).mkdir(parents=True, exist_ok=True)
    (artifact(study, method) / WEIGHTS).write_bytes(content)
    models = json.loads((study / MODELS).read_text())[""] if (study / MODELS).exists() else {}
    note(
        study,
        {**models, method: {"weights": str(artifact(study, method)), "seeds": list(range(SEEDS)), "measured": ""}},
    )


def note(study: Path, models: dict[str, Places], **cells: dict[str, Places]) -> None:
    (study / MODELS).write_text(json.dumps({"": models, **cells}))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "quick-00000000"
    folder.mkdir(parents=True)
    for method in ("untouched", "sft", "dpo"):
        put(folder, method, to_safetensors(stack(method), ABOUT))
    return folder


def same(found: dict[str, np.ndarray], params: Params) -> bool:
    wanted = flatten(params)
    return found.keys() == wanted.keys() and all((found[name] == array).all() for name, array in wanted.items())


@pytest.mark.parametrize(
    ("settings", "method", "seed"),
    [([], "sft", 0), (["method=dpo", "seed=1"], "dpo", 1), (["method=untouched"], "untouched", 0)],
    ids=["default", "chosen", "untouched"],
)
def test_the_named_model_is_written_with_what_it_is(
    settings: list[str], method: str, seed: int, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study.parent / "new" / "model.safetensors"
    assert main([f"run={study}", f"out={out}", "to=safetensors", *settings]) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert said.startswith(f"{method}, seed {seed} in ")
    assert said.endswith("model.safetensors")
    assert described(out.read_bytes()) == ABOUT
    assert same(flatten(from_safetensors(out.read_bytes())), one_seed(stack(method), seed))
    assert [file.name for file in out.parent.iterdir()] == [out.name]


def test_for_transformers_it_is_a_folder(study: Path) -> None:
    out = study.parent / "new" / "model"
    assert main([f"run={study}", f"out={out}", "method=dpo", "seed=1"]) == 0
    assert {file.name for file in out.iterdir()} == FOLDER
    assert [folder.name for folder in out.parent.iterdir()] == ["model"]
    written = load((out / "model.safetensors").read_bytes())
    assert (written["transformer.wte.weight"] == stack("dpo")["W_E"][1]).all()
    assert json.loads((out / "tokenizer.json").read_text())["model"]["vocab"]["t0"] == len(SPECIAL)


def test_a_study_without_methods_has_its_untouched_model(study: Path) -> None:
    note(
        study,
        {"untouched": {"weights": str(artifact(study, "untouched")), "seeds": list(range(SEEDS)), "measured": ""}},
    )
    out = study.parent / "model.safetensors"
    assert main([f"run={study}", f"out={out}", "to=safetensors"]) == 0
    assert same(flatten(from_safetensors(out.read_bytes())), one_seed(stack("untouched"), 0))


def test_what_transformers_cannot_hold_is_written_under_our_names(study: Path) -> None:
    other = Described(dataclasses.replace(ABOUT.model, reference_block=True), ABOUT.vocabulary, MARKS)
    put(study, "sft", to_safetensors(stack("sft", other), other))
    out = study.parent / "model.safetensors"
    assert main([f"run={study}", f"out={study.parent / 'model'}"]) == 2
    assert not (study.parent / "model").exists()
    assert main([f"run={study}", f"out={out}", "to=safetensors"]) == 0
    assert described(out.read_bytes()) == other


@pytest.mark.parametrize("to", ["huggingface", "safetensors"])
def test_a_model_exported_before_is_replaced_or_kept_whole(
    to: str, study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study.parent / "new" / "model.safetensors"
    weights = out / "model.safetensors" if to == "huggingface" else out
    contents = []
    for method in ("sft", "dpo"):
        assert main([f"run={study}", f"out={out}", f"to={to}", f"method={method}"]) == 0
        contents.append(weights.read_bytes())
    assert contents[0] != contents[1]

    def full(path: Path, content: bytes) -> None:
        path.write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main([f"run={study}", f"out={out}", f"to={to}", "method=sft"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert weights.read_bytes() == contents[1]
    assert [file.name for file in out.parent.iterdir()] == [out.name]


def test_out_may_be_the_folder_one_is_in(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = study.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert main([f"run={study}", "out=."]) == 0
    assert {file.name for file in here.iterdir()} == FOLDER


BAD = [
    ([], "out='': must name what to write; for example out=model"),
    (["out=m", "run="], "run='': must name a study's output folder; for example run=outputs/quick-1a2b3c4d"),
    (["out=m", "run=nowhere"], "run=nowhere: there is no finished study; name its output folder"),
    (["out=m", "to=onnx"], "to=onnx: must be one of huggingface, safetensors; set to to huggingface"),
    (["out=m", "method=npo"], "method=npo: this study has untouched, sft, dpo; choose from these"),
    (["out=m", "seed=2"], "seed=2: this study has seeds 0 to 1; choose one of them"),
    (["out=m", "seed=-1"], "seed=-1: must be from 0 to 2^32 - 1; set seed to 0"),
    (["out=m", "sed=1"], "sed: there is no such setting; did you mean seed?"),
    (["out=m.bin", "to=safetensors"], "out=m.bin: must be a file that ends in .safetensors"),
    (["out=d.safetensors", "to=safetensors"], "out=d.safetensors: must be a file that ends in .safetensors"),
    (["out=mine"], "out=mine: there is something else; name a new folder"),
    (["out=mine/config.json"], "out=mine/config.json: there is something else; name a new folder"),
]


def listed(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that is said of settings that cannot be used."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err.removeprefix("error: ").strip()


@pytest.mark.parametrize(("settings", "message"), BAD, ids=lambda value: str(value)[:40] if ":" not in value else "")
def test_settings_that_cannot_be_used_are_one_line_and_write_nothing(
    settings: list[str], message: str, study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = study.parent / "here"
    (here / "d.safetensors").mkdir(parents=True)
    (here / "mine").mkdir()
    (here / "mine" / "config.json").write_text("mine")
    monkeypatch.chdir(here)
    before = listed(study.parents[1])
    assert refused([f"run={study}", *settings], capsys).startswith(message)
    assert listed(study.parents[1]) == before
    assert (here / "mine" / "config.json").read_text() == "mine"


def diverged() -> bytes:
    params = stack("sft")
    params["blocks"]["0"]["mlp"]["W_in"][1, 0, 0] = np.nan
    return to_safetensors(params, ABOUT)


def narrower() -> bytes:
    narrow = dataclasses.replace(ABOUT.model, mlp_ratio=2)
    return to_safetensors(stack("sft"), Described(narrow, ABOUT.vocabulary, MARKS))


WEIGHTS_GONE_WRONG: list[tuple[Any, list[str], str]] = [
    (None, [], f"{WEIGHTS} is not there any more; run the study again"),
    (lambda: to_safetensors(stack("sft"), ABOUT)[:-1], [], f"{WEIGHTS} is damaged; run the study again"),
    (lambda: b"", [], f"{WEIGHTS} is damaged; run the study again"),
    (lambda: save(flatten(stack("sft"))), [], f"{WEIGHTS} is damaged; run the study again"),
    (diverged, ["seed=1"], "seed 1 of sft diverged while it was trained"),
    (narrower, [], "in these weights and [8, 16] in the model: another architecture"),
]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    WEIGHTS_GONE_WRONG,
    ids=["gone", "cut off", "empty", "not ours", "diverged", "another architecture"],
)
def test_weights_that_are_not_there_or_not_whole_are_one_line(
    content: Any, settings: list[str], message: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        (artifact(study, "sft") / WEIGHTS).unlink()
    else:
        put(study, "sft", content())
    out = study.parent / "model"
    assert refused([f"run={study}", f"out={out}", *settings], capsys).endswith(message)
    assert [folder.name for folder in study.parent.iterdir() if folder != study] == ["store"]


def test_a_seed_beside_one_that_diverged_can_be_had(study: Path) -> None:
    put(study, "sft", diverged())
    assert main([f"run={study}", f"out={study.parent / 'model'}", "seed=0"]) == 0


def test_a_cell_that_is_a_number_is_found_however_it_is_written(study: Path) -> None:
    models = json.loads((study / MODELS).read_text())[""]
    note(study, models, **{"0.0001": {"sft": models["dpo"]}, "0.5": models})
    out = study.parent / "model.safetensors"
    for cell in ("1e-4", "0.00010"):
        assert main([f"run={study}", f"out={out}", "to=safetensors", f"cell={cell}", "method=sft"]) == 0
        assert same(flatten(from_safetensors(out.read_bytes())), one_seed(stack("dpo"), 0))
        out.unlink()


def test_a_cell_of_an_ablation_is_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = json.loads((study / MODELS).read_text())[""]
    note(study, models, few={"sft": models["dpo"]})
    out = study.parent / "model.safetensors"
    assert main([f"run={study}", f"out={out}", "to=safetensors", "cell=few", "method=sft"]) == 0
    assert same(flatten(from_safetensors(out.read_bytes())), one_seed(stack("dpo"), 0))
    assert main([f"run={study}", f"out={out}", "to=safetensors", "cell=many"]) == 2
    assert "cell=many: there is no such cell; choose from few" in capsys.readouterr().err
