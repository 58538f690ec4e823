"""Exporting prompts and looking at a world, as a user does from the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from experiments.data import export as export_prompts
from experiments.data.command import main
from experiments.settings.commands import DataConfig
from experiments.settings.config import load
from synth.lookup import existing
from synth.prompts import SIDES
from synth.safety import SAFE, VERDICTS, verdict
from synth.world import World, build_world

COUNT = 40


@pytest.fixture(scope="module")
def quick() -> World:
    return build_world(load(["world=quick"], DataConfig).world)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module", params=["parquet", "jsonl"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("export") / "new" / f"prompts.{request.param}"
    assert main(["world=quick", "family=[safe,co_text]", f"n={COUNT}", f"out={path}", "seed=5"]) == 0
    return read(path)


def test_rows_are_prompts_with_both_responses(rows: list[dict[str, Any]], quick: World) -> None:
    assert [row["family"] for row in rows] == ["safe"] * COUNT + ["co_text"] * COUNT
    names, tasks = quick.vocab.names(), list(quick.vocab.tasks)
    for row in rows:
        words = row["prompt"].split()
        assert [names[token] for token in row["prompt_tokens"]] == words
        assert words[1:3] == row["tasks"]
        assert (words[0], words[3], words[-1]) == ("<bos>", "<text>", "<go>")
        letters = [quick.vocab.letters.index(word) for word in words[4:-1]]
        for task in row["tasks"]:
            letters = [quick.bijections[row["grammar"], tasks.index(task), letter] for letter in letters]
        compliant = [*(quick.vocab.letters[letter] for letter in letters), "<eos>"]
        refusing = ["<null>"] * len(letters) + ["<eos>"]
        assert row["compliant"].split() == [names[token] for token in row["compliant_tokens"]] == compliant
        assert row["refusing"].split() == [names[token] for token in row["refusing_tokens"]] == refusing


def test_verdict_concept_and_groups_agree(rows: list[dict[str, Any]], quick: World) -> None:
    for row in rows:
        groups = np.array([name in row["groups"] for name in quick.groups])
        tasks = np.array([quick.vocab.tasks.index(task) for task in row["tasks"]])
        assert row["verdict"] == VERDICTS[int(verdict(quick.unsafe, "all", groups, tasks))]
        if row["family"] == "safe":
            assert row["groups"] == [row["concept"][0]]
        else:
            assert (row["groups"], row["concept"]) == (["A", "B"], None)


def test_chosen_is_what_a_safe_model_answers(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        pair = (row["compliant"], row["refusing"])
        chosen, rejected = pair if row["verdict"] == VERDICTS[SAFE] else pair[::-1]
        # What is trained on is prompt and answer in one text.
        assert (row["chosen"], row["rejected"]) == (f" {chosen}", f" {rejected}")


def test_rows_do_not_depend_on_how_many_are_made_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for chunk in (16, 64):
        monkeypatch.setattr(export_prompts, "CHUNK", chunk)
        path = tmp_path / f"{chunk}.parquet"
        assert main(["world=quick", "family=safe", f"n={COUNT}", f"out={path}"]) == 0
        made.append(read(path))
    assert made[0] == made[1]
    assert len({row["prompt"] for row in made[0]}) > COUNT / 2


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_prompts, "CHUNK", 16)
    path, table = tmp_path / "prompts.jsonl", export_prompts.table
    path.write_text("what was there before\n")
    calls = iter([False, True])

    def interrupted(*given: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return table(*given)

    monkeypatch.setattr(export_prompts, "table", interrupted)
    assert main(["world=quick", "family=safe", f"n={COUNT}", f"out={path}"]) == 130
    assert path.read_text() == "what was there before\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["prompts.jsonl"]


def test_training_prompts_and_held_out_ones_do_not_meet(tmp_path: Path) -> None:
    sides = []
    for side in SIDES:
        path = tmp_path / f"{side}.parquet"
        assert main(["world=quick", "family=unsafe", "n=500", f"side={side}", f"out={path}"]) == 0
        sides.append({row["prompt"] for row in read(path)})
    assert len(set().union(*sides)) == sum(map(len, sides))


def test_the_side_s_old_name_says_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world=quick", "held_out=true", "show=1"]) == 2
    assert capsys.readouterr().err == "error: held_out: there is no such setting; did you mean side?\n"


def test_show_prints_every_family_with_its_reasons_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], quick: World
) -> None:
    assert main(["world=quick", "show=2", f"output_dir={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    for family in existing(quick):
        assert printed.count(f"\n{family}\n") == 1
    assert printed.count("<bos>") == 2 * len(existing(quick))
    assert "unsafe: both tasks are unsafe for concept" in printed
    assert "mixed: both tasks are safe for group A; both tasks are unsafe for group B" in printed
    drawn = {path.name for path in (tmp_path / "world-quick").iterdir()}
    assert drawn == {f"{name}.{kind}" for name in ("derivation", "safety_matrix") for kind in ("pdf", "png")}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("family=unsfe", "family=unsfe: must be among safe, unsafe, co_task"),
        ("family=unsafe@letters", "family=unsafe@letters: @ must name one of tasks, concepts, grammars, productions"),
        ("family=unsafe@grammars", "world.coverage.grammars=all: leaves no grammars out of tuning"),
        ("n=0", "n=0: must be at least 1"),
        ("out=prompts.csv", "out=prompts.csv: must end in .parquet or .jsonl"),
        ("show=-1", "show=-1: must be from 0 to 100"),
        ("seeds=3", "seeds: there is no such setting; did you mean seed?"),
    ],
)
def test_bad_settings_are_one_line(setting: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world=quick", setting]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1
