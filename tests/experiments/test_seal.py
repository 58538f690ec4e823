"""Tests of `experiments/findings/seal.py`: what a finished folder says of its files, and a damaged one to commands."""

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from experiments import compare, export
from experiments.figures import __main__ as figures_command
from experiments.findings import seal
from tests.experiments.made_results import results

FILES = ("config.yaml", "cells.json", "claims.json", "models.json", "results.parquet")


TICKS = itertools.count(1)


def finished(folder: Path, method: str = "sft") -> Path:
    """An output folder with what commands read of one, sealed."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"seeds": 3, "study": method}))
    (folder / "cells.json").write_text(json.dumps([{"cell": "", "settings": {}, "status": "done", "error": None}]))
    (folder / "claims.json").write_text("[]")
    (folder / "models.json").write_text(json.dumps({"": {method: {"weights": "nowhere/a", "measured": "nowhere/b"}}}))
    results().to_parquet(folder / "results.parquet")
    seal.write(folder, "this", FILES)
    return folder


def flip(path: Path, place: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
    # Such writes are too quick for the clock of the file system to tell them apart.
    tick = next(TICKS)
    os.utime(path, ns=(tick, tick))


def test_a_flipped_bit_of_any_file_is_found_and_named(tmp_path: Path) -> None:
    folder = finished(tmp_path / "study")
    whole = seal.read(folder)
    assert whole is not None
    assert whole.made_from == "this"
    assert whole.problems(folder) == {}
    for name in FILES:
        size = (folder / name).stat().st_size
        for place in range(0, size, max(1, size // 50)):
            flip(folder / name, place)
            assert whole.problems(folder) == {name: f"{name} is not what was written"}, place
            flip(folder / name, place)
    (folder / "claims.json").unlink()
    assert whole.problems(folder) == {"claims.json": "claims.json is missing"}


def test_a_seal_of_which_a_bit_is_flipped_says_nothing(tmp_path: Path) -> None:
    folder = finished(tmp_path / "study")
    done = folder / "DONE"
    for place in range(done.stat().st_size):
        flip(done, place)
        assert seal.read(folder) is None, place
        flip(done, place)
    assert seal.read(folder) is not None
    done.unlink()
    assert seal.read(folder) is None
    done.mkdir()
    assert seal.read(folder) is None


def test_what_is_written_anew_on_purpose_is_noted(tmp_path: Path) -> None:
    folder = finished(tmp_path / "study")
    (folder / "cells.json").write_text("[ ]")
    (folder / "claims.json").write_text("[ ]")
    seal.renew(folder, ["claims.json"])
    renewed = seal.read(folder)
    assert renewed is not None
    assert renewed.problems(folder) == {"cells.json": "cells.json is not what was written"}
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    seal.renew(unfinished, [])
    assert not list(unfinished.iterdir())


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def nonsense(path: Path) -> None:
    path.write_bytes(b'{"a": 3}')


def bits(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loop_instead(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("sealed", [True, False], ids=["finished", "without DONE"])
@pytest.mark.parametrize("harm", [emptied, nonsense, bits, folder_instead, loop_instead, missing])
@pytest.mark.parametrize("name", ["results.parquet", "models.json"])
def test_commands_refuse_a_damaged_folder_in_a_line(
    name: str, harm: Callable[[Path], None], sealed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, damaged = finished(tmp_path / "whole"), finished(tmp_path / "damaged", "dpo")
    harm(damaged / name)
    if not sealed:
        if harm is bits:
            return  # What is still a table, or JSON of the right form, nobody can tell.
        (damaged / "DONE").write_text("of another version")
    commands = {
        compare.main: [str(damaged), str(whole)],
        export.main: [f"run={damaged}", f"out={tmp_path / 'model'}"] if name == "models.json" else None,
        figures_command.main: [f"run={damaged}", "only=tau"],
    }
    for main, arguments in commands.items():
        if arguments is None or (
            main is figures_command.main and name == "models.json" and not (damaged / name).exists()
        ):
            continue  # What it does not read, or can do without.
        assert main(arguments) == 2, main
        said = capsys.readouterr().err
        assert said.startswith(("error: run=", "error: a=")), said
        assert said.count("\n") == 1
        assert str(damaged) in said
    assert not (tmp_path / "model").exists()


def test_a_folder_that_is_no_study_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results()[["seed", "value"]].to_parquet(tmp_path / "results.parquet")
    assert figures_command.main([f"run={tmp_path}"]) == 2
    assert "results.parquet has no column study, so no study wrote it" in capsys.readouterr().err


def test_a_table_with_labels_in_one_string_is_told_apart_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results().drop(columns=["intervention", "strength", "other", "step"]).assign(variant="alpha 1").to_parquet(
        tmp_path / "results.parquet"
    )
    assert figures_command.main([f"run={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"error: run={tmp_path}: results.parquet has a column variant, so an older version wrote it; "
        "run the study again\n"
    )


def test_figures_drawn_again_into_the_study_are_part_of_it(tmp_path: Path) -> None:
    folder = finished(tmp_path / "study")
    assert figures_command.main([f"run={folder}", "only=[tau]"]) == 0
    kept = seal.read(folder)
    assert kept is not None
    assert {f"figures/tau.{kind}" for kind in ("pdf", "png", "csv")} <= kept.files.keys()
    assert kept.problems(folder) == {}
    shutil.rmtree(folder / "figures")
    assert set(kept.problems(folder)) == {name for name in kept.files if name.startswith("figures/")}
