"""Tests of `experiments/study/cells.py`: each cell is the study with its settings, or one line says why not."""

import dataclasses
from pathlib import Path

import pytest

from experiments.settings.config import load
from experiments.settings.plain import to_dict
from experiments.settings.presets import CONF
from experiments.settings.schema import AblationConfig, StudyConfig
from experiments.study.cells import cells, swept
from synth.settings import UserError


def over(setting: str, values: str) -> StudyConfig:
    return load(["worlds=1", f"ablation.setting={setting}", f"ablation.values={values}", "ablation.name=try"])


def test_without_an_ablation_there_is_one_cell_the_study_itself() -> None:
    config = load(["worlds=1"])
    [cell] = cells(config)
    assert (cell.name, cell.settings, cell.config) == ("", {}, config)


def test_a_cell_is_what_the_same_setting_on_the_command_line_gives() -> None:
    found = cells(over("world.grammar.concept_overlap", "[0,0.5]"))
    assert [(cell.name, cell.settings) for cell in found] == [
        ("0", {"world.grammar.concept_overlap": 0}),
        ("0.5", {"world.grammar.concept_overlap": 0.5}),
    ]
    assert found[1].config == load(["worlds=1", "world.grammar.concept_overlap=0.5"])
    # To the type of every number, which the keys of artifacts depend on.
    assert repr(to_dict(found[0].config)) == repr(to_dict(load(["worlds=1", "world.grammar.concept_overlap=0"])))


def test_points_set_several_settings_together(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        "name: mine\n"
        "points:\n"
        "  few: {tuning.data.size: 64, tuning.steps: 50}\n"
        "  many: {tuning.data.size: 4096, method.dpo.beta: 0.5, world.coverage.tasks: [0, 2, 4]}\n"
        "  other: {model.width: 50, model.heads: 5, over_training: [behaviour]}\n"
    )
    few, many, other = cells(load(["worlds=1", f"ablation={own}"]))
    assert few.config == load(["worlds=1", "tuning.data.size=64", "tuning.steps=50"])
    assert swept([few, many]) == {
        "tuning.data.size": [64, 4096],
        "tuning.steps": [50, many.config.tuning.steps],
        "method.dpo.beta": [few.config.method.dpo.beta, 0.5],
        "world.coverage.tasks": [None, [0, 2, 4]],
    }
    assert many.config == load(
        ["worlds=1", "tuning.data.size=4096", "method.dpo.beta=0.5", "world.coverage.tasks=[0,2,4]"]
    )
    # Neither of the first two can be without the other.
    assert other.config == load(["worlds=1", "model.width=50", "model.heads=5", "over_training=[behaviour]"])


@pytest.mark.parametrize(
    ("setting", "values", "message"),
    [
        ("world.grammar.concept_overlap", "[0,1.5]", "cell 1.5: world.grammar.concept_overlap=1.5: must be a share"),
        ("world.grammar.overlap", "[0]", "cell 0: world.grammar.overlap=0: there is no such setting; choose from"),
        ("wrld.seed", "[3]", "cell 3: wrld=3: there is no such setting; choose from"),
        ("tuning.steps", "[5,many]", "cell many: tuning.steps=many: Value 'many' of type 'str' could not be converted"),
        ("model.width", "[64,30]", "cell 30: model.width=30: must be a multiple of heads=4"),
        ("model.context", "[24,10]", "cell 10: model.context=10: must hold the world's longest sequence, 18 tokens"),
        ("seeds", "[1,2]", "cell 1: seeds is of the study as a whole"),
        ("runs_at_once", "[1,2]", "cell 1: runs_at_once is of the study as a whole"),
        ("method.dpo.gamma", "[-1]", "cell -1: method.dpo.gamma=-1.0: must be a finite number above 0"),
    ],
)
def test_a_cell_that_cannot_be_is_named_in_one_line(setting: str, values: str, message: str) -> None:
    config = over(setting, values)
    with pytest.raises(UserError) as error:
        cells(config)
    assert str(error.value).startswith(f"ablation try, {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["ablation.name=x"], "ablation.name='x': must be given where there are values or points"),
        (["ablation.setting=seeds", "ablation.values=[1]"], "ablation.name='': must be given where"),
        (["ablation.name=x", "ablation.values=[1]"], "ablation.setting='': goes with values"),
        (["ablation.name=x", "ablation.setting=model.width", "ablation.values=[8,8]"], "ablation.values=['8', '8']"),
        (["ablation.name=x", "ablation.points={a: 3}"], "ablation.points.a=3: must be a dictionary of settings"),
        (
            ["ablation=label_noise", "ablation.points={a: {tuning.steps: 3}}"],
            "ablation.points=['a']: stand in place of setting and values",
        ),
    ],
)
def test_an_ablation_that_says_too_little_or_too_much(settings: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        load(settings)
    assert str(error.value).startswith(message)


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    own = tmp_path / "broken.yaml"
    own.write_text("name: a: b\n")
    with pytest.raises(UserError) as error:
        load([f"ablation={own}"])
    assert "mapping values are not allowed" in str(error.value)
    assert "\n" not in str(error.value)


READY_MADE = sorted(path.stem for path in (CONF / "ablation").glob("*.yaml") if path.stem != "none")


@pytest.mark.parametrize("name", READY_MADE)
def test_every_ready_made_ablation_has_cells_that_can_be(name: str) -> None:
    config = load(["worlds=1", f"ablation={name}"])
    found = cells(config)
    assert config.ablation.name == name
    assert len(found) >= 3
    assert len({cell.config for cell in found}) == len(found)


@pytest.mark.parametrize("name", READY_MADE)
def test_every_ready_made_ablation_opens_with_question_command_and_time(name: str) -> None:
    text = (CONF / "ablation" / f"{name}.yaml").read_text()
    lines = [line for line in text.splitlines() if line != "# @package _global_"][:3]
    assert [line.split()[1] for line in lines] == ["Question", "Command", "Time"]
    assert lines[0].removeprefix("# Question  ") == load([f"ablation={name}"]).ablation.question
    assert lines[1].endswith(f"python -m experiments.run study=quick ablation={name}")
    assert "min" in lines[2]


def test_an_ablation_of_ones_own_is_a_dataclass_too() -> None:
    config = dataclasses.replace(
        StudyConfig(), ablation=AblationConfig(name="noise", setting="tuning.data.label_noise", values=(0.0, 0.1))
    )
    assert [cell.config.tuning.data.label_noise for cell in cells(config)] == [0.0, 0.1]
