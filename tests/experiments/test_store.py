"""Tests of `experiments/store/command.py` and `inventory.py`: what a store says, and what it never removes."""

import io
import itertools
import json
import re
from pathlib import Path

import pytest

from experiments.store.artifacts import Store
from experiments.store.command import main
from experiments.store.inventory import Inventory
from experiments.store.manifest import Recipe
from experiments.study import forecast

PRETRAIN = Recipe("pretrain", {"model": {"width": 64}, "seeds": 3}, (), "code")
SFT = Recipe("tune", {"method": "sft", "tuning": {"steps": 250, "unsafe_share": 0.5}}, (PRETRAIN.key,), "code")
DPO = Recipe("tune", {"method": "dpo", "tuning": {"steps": 250, "unsafe_share": 0.1}}, (PRETRAIN.key,), "code")
UNTOUCHED = Recipe("measure", {"asked": {"prompts": 512}}, (PRETRAIN.key, PRETRAIN.key), "code")
MEASURED = Recipe("measure", {"asked": {"prompts": 512}}, (DPO.key, PRETRAIN.key), "code")
PATHS = Recipe("paths", {"models": ["sft", "dpo"]}, (SFT.key, DPO.key, PRETRAIN.key), "code")
LONELY = Recipe("pretrain", {"model": {"width": 32}, "seeds": 3}, (), "code")
BEGUN = Recipe("measure", {"asked": {"prompts": 64}}, (DPO.key, PRETRAIN.key), "code")
ALL = (PRETRAIN, SFT, DPO, UNTOUCHED, MEASURED, PATHS, LONELY)


def make(folder: Path, partial: Path) -> None:
    (folder / "weights").write_bytes(bytes(1000))
    (folder / "log").write_bytes(bytes(10))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Seven artifacts; study one measures DPO, study two tunes by SFT, and study three is gone."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    store = Store(tmp_path / "store")
    for recipe in ALL:
        store.fetch(recipe, make)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    store.register(tmp_path / "one", [MEASURED.name, BEGUN.name])
    store.register(tmp_path / "two", [SFT.name])
    store.register(tmp_path / "three", [LONELY.name])
    return store


def command(store: Store, *arguments: str) -> int:
    return main([*arguments, f"store_dir={store.root}"])


def begin(store: Store, recipes: list[Recipe]) -> None:
    """A state that someone could go on from."""

    def stop(folders: dict[str, Path], partial: Path) -> None:
        (partial / "state").write_text("so far")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.fetch_all(recipes, stop)


def there(store: Store) -> set[str]:
    return {path.name for path in (store.root / "artifacts").iterdir()}


def test_list_says_what_each_is_from_and_who_uses_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(store, "list") == 0
    out = capsys.readouterr().out
    assert out.startswith("7 artifacts in ")
    rows = {line.split()[1]: re.split(r"  +", line.strip()) for line in out.splitlines()[1:] if " kB " in line}
    assert set(rows) == {recipe.key[:10] for recipe in ALL}
    assert rows[DPO.key[:10]][-2:] == ["one", "method=dpo, tuning.unsafe_share=0.1, tuning.steps=250"]
    assert rows[PRETRAIN.key[:10]][-2:] == ["one +1", "model.width=64, seeds=3"]
    # What it is measured on is said of a measurement, though its own settings do not have it.
    assert rows[MEASURED.key[:10]][-1] == "method=dpo, asked.prompts=512"
    assert rows[UNTOUCHED.key[:10]][-2:] == ["-", "method=untouched, asked.prompts=512"]
    assert rows[PATHS.key[:10]][-1] == r"models=[sft,dpo]"
    command(store, "list", "tune")
    assert capsys.readouterr().out.startswith("2 artifacts in ")


def test_list_tells_models_apart_by_what_they_start_from(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    again, tuning = {}, {"steps": 50, "unsafe_share": 0.5}
    for start in (SFT, DPO):
        tune = Recipe("tune", {"method": "sft", "tuning": tuning}, (start.key,), "code")
        measured = Recipe("measure", {"asked": {"prompts": 512}}, (tune.key, start.key), "code")
        last = Recipe("tune", {"method": "dpo", "tuning": tuning}, (tune.key,), "code")
        for recipe in (tune, measured, last):
            store.fetch(recipe, make)
        again[start.settings["method"]] = (tune, measured, last)
    command(store, "list")
    rows = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()[1:] if " kB " in line}
    for start, (tune, measured, last) in again.items():
        assert f"method={start}+sft, " in rows[tune.key[:10]]
        assert f"method={start}+sft, tuning.steps=50" in rows[measured.key[:10]]
        assert f"method={start}+sft+dpo, " in rows[last.key[:10]]


def test_a_model_before_any_training_is_no_untouched_one(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    begun = Recipe("initial", {"seeds": 3}, (), "code")
    measured = Recipe("measure", {"asked": {"prompts": 512}}, (begun.key, begun.key), "code")
    for recipe in (begun, measured):
        store.fetch(recipe, make)
    command(store, "list", "measure")
    assert (
        next(line for line in capsys.readouterr().out.splitlines() if measured.key[:10] in line).count("=random") == 1
    )


def test_models_that_are_tuned_again_tell_how_long_such_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 3)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    store, tuning = Store(tmp_path), {"tuning": {"steps": 2, "batch_size": 3}}
    begun = Recipe("pretrain", {"model": {"layers": 1, "width": 4}, "seeds": 2, "pretrain": {}}, (), "code")
    first = Recipe("tune", tuning, (begun.key,), "code")
    again = Recipe("tune", {**tuning, "method": "sft"}, (first.key,), "code")
    for recipe in (begun, first, again, Recipe("measure", {"asked": {"prompts": 5}}, (again.key, first.key), "code")):
        store.fetch(recipe, make)
    monkeypatch.undo()
    seconds = {entry.stage: entry.seconds or 0 for entry in Inventory(store).entries.values()}
    known = forecast._known(store)
    assert set(known) == {"tune", "measure"}
    assert known["measure"].seconds == pytest.approx(seconds["measure"] / (1 * 4**2 * 2 * 5))


@pytest.mark.parametrize("width", ["100", "200"])
def test_no_table_is_wider_than_the_terminal(
    width: str, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    long = {name * 4: "long" * 9 for name in "abcdefgh"}
    store.fetch(Recipe("tune", {"method": "npo", **long}, (PRETRAIN.key,), "code"), make)
    for arguments in (["list"], ["du"], ["prune", "yes=true"]):
        command(store, *arguments)
        # The path of a test's folder may itself be longer.
        rows = [line for line in capsys.readouterr().out.splitlines() if str(store.root.parent) not in line]
        assert max(map(len, rows)) <= int(width)


def test_show_names_settings_parents_children_and_files(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(store, "show", DPO.key[:6]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"from +{PRETRAIN.name}\n", out)
    children = sorted([MEASURED.name, PATHS.name])
    assert re.search(rf"used for +{children[0]}\n +{children[1]}\n", out)
    assert re.search(rf"used by +one +\({store.root.parent}/one\)", out)
    assert "method: dpo" in out
    manifest = json.loads((store.path(DPO) / "manifest.json").read_text())
    assert all(entry["sha256"] in out for entry in manifest["files"].values())


def test_verify_names_each_file_that_is_wrong(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(store, "verify") == 0
    assert "all as written" in capsys.readouterr().out
    flipped, gone, more, unreadable = (store.path(recipe) for recipe in (SFT, DPO, MEASURED, PATHS))
    (flipped / "weights").write_bytes(bytes(999) + b"\1")
    (gone / "log").unlink()
    (more / "note").write_text("mine")
    (unreadable / "manifest.json").write_text("{")
    assert command(store, "verify") == 1
    out, err = capsys.readouterr()
    lines = set(out.splitlines())
    assert f"{SFT.name}: weights is not what was written" in lines
    assert f"{DPO.name}: log is missing" in lines
    assert f"{MEASURED.name}: note is not part of it" in lines
    assert f"{PATHS.name}: its manifest cannot be read" in lines
    assert err.startswith("error: 4 of 7 artifacts are not what was written")
    assert command(store, "verify", "pretrain") == 0
    assert command(store, "list") == 0


def test_du_adds_up(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    begin(store, [BEGUN])
    (store.root / "compiled").mkdir()
    (store.root / "compiled" / "program").write_bytes(bytes(5000))
    assert command(store, "du") == 0
    rows = {
        parts[0]: parts[1:]
        for line in capsys.readouterr().out.splitlines()
        if len(parts := re.split(r"  +", line.strip())) > 1
    }
    sizes = {name: sum(f.stat().st_size for f in store.path(r).iterdir()) for name, r in [("sft", SFT), ("dpo", DPO)]}
    assert rows["tune"] == ["2", f"{sum(sizes.values()) / 1000:.1f} kB"]
    assert rows["begun, not finished"][0] == "1"
    assert rows["compiled programs"] == ["1", "5.0 kB"]
    # One needs the measurement, DPO and the pretraining that two needs as well.
    assert (rows["one"][0], rows["two"][0], rows["none"][0]) == ("3", "2", "3")
    assert rows["two"][2] == f"{sizes['sft'] / 1000:.1f} kB"


def test_prune_keeps_what_studies_need_and_what_that_is_made_from(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(store, [BEGUN])
    begin(store, [Recipe("tune", {"method": "ipo"}, (), "code"), Recipe("tune", {"method": "npo"}, (), "code")])
    (store.path(SFT) / "log").unlink()
    store.fetch(SFT, make)
    assert len(list((store.root / "damaged").iterdir())) == 1
    assert command(store, "prune", "yes=true") == 0
    assert there(store) == {recipe.name for recipe in (PRETRAIN, SFT, DPO, MEASURED)}
    assert [path.name for path in (store.root / "partial").iterdir()] == [BEGUN.name]
    assert not list((store.root / "damaged").iterdir())
    assert len(list((store.root / "studies").iterdir())) == 2
    out = capsys.readouterr().out
    assert "removed 5, " in out
    assert f"not there any more: {store.root.parent}/three" in out
    assert command(store, "prune") == 0
    assert "nothing to remove" in capsys.readouterr().out
    (store.root.parent / "one").rmdir()
    assert command(store, "prune", "yes=true") == 0
    assert there(store) == {PRETRAIN.name, SFT.name}
    assert not list((store.root / "partial").iterdir())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "kept"), [("y\n", 4), ("YES\n", 4), ("n\n", 7), ("\n", 7), ("", 7)])
def test_prune_asks_on_a_terminal(answer: str, kept: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert command(store, "prune") == 0
    assert len(there(store)) == kept


def test_prune_with_nobody_to_ask_shows_the_list_and_removes_nothing(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(store, "prune") == 2
    out, err = capsys.readouterr()
    assert LONELY.name in out
    assert err == "error: yes=false: there is no terminal to ask on; look at the list, then add yes=true\n"
    assert len(there(store)) == 7


def test_prune_with_its_input_closed_removes_nothing(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    for there_is in (None, closed):
        monkeypatch.setattr("sys.stdin", there_is)
        assert command(store, "prune") == 2
        assert capsys.readouterr().err.startswith("error: yes=false: there is no terminal to ask on")
    assert len(there(store)) == 7


@pytest.mark.parametrize("key", ["x\\", "\\", "x\\\\", "x'", "x\\'", "[x] $y #z", "x\\\\'y\\"])
def test_a_key_may_be_any_text(key: str, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(store, "show", key) == 2
    assert capsys.readouterr().err == f"error: key={key}: no artifact's name or key starts so; list shows them\n"


def test_prune_leaves_what_is_being_made(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    begun = Recipe("tune", {"method": "ipo"}, (), "code")
    begin(store, [begun])
    with store.locked([LONELY.name, begun.name]):
        assert command(store, "prune", "yes=true") == 0
    assert LONELY.name in there(store)
    assert [path.name for path in (store.root / "partial").iterdir()] == [begun.name]


def test_prune_leaves_what_a_study_has_begun_to_use_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Terminal):
        def readline(self, *arguments: int) -> str:  # type: ignore[override]
            store.register(store.root.parent / "one", [MEASURED.name, UNTOUCHED.name])
            return "y\n"

    monkeypatch.setattr("sys.stdin", Slow())
    assert command(store, "prune") == 0
    assert there(store) == {recipe.name for recipe in (PRETRAIN, SFT, DPO, MEASURED, UNTOUCHED)}


def test_prune_removes_only_what_starts_so(store: Store) -> None:
    assert command(store, "prune", "paths", "yes=true") == 0
    assert there(store) == {recipe.name for recipe in ALL if recipe != PATHS}


def test_a_study_that_has_not_made_its_artifacts_yet_is_no_error(store: Store, tmp_path: Path) -> None:
    inventory = Inventory(store)
    assert [study.name for study in inventory.users[BEGUN.name]] == ["one"]
    assert BEGUN.name not in inventory.entries


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lst"], "do=lst: must be one of list, show, verify, prune, du; set do to list"),
        (["show"], "key='': must say which artifact, by the start of its name or key; list shows them"),
        (["show", "'zz"], "key='zz: no artifact's name or key starts so; list shows them"),
        (["list", "a", "b"], "'list' is not a setting: write name=value, for example seeds=5"),
    ],
)
def test_a_wrong_command_is_one_line(
    arguments: list[str], line: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(store, *arguments) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_store_that_cannot_be_used_is_one_line(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", f"store_dir={tmp_path}/none"]) == 2
    assert capsys.readouterr().err.startswith(f"error: store_dir={tmp_path}/none: there is no store")
    (store.root / "store.json").write_text('{"format": 7}')
    assert command(store, "list") == 1
    assert f"store_dir={store.root}: this store is of format 7" in capsys.readouterr().err
    (store.root / "store.json").unlink()
    record = next((store.root / "studies").iterdir())
    record.write_text("{")
    assert command(store, "prune", "yes=true") == 1
    assert capsys.readouterr().err.startswith(f"error: {record}: cannot be read")
    assert len(there(store)) == 7
