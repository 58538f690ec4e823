"""Tests of `experiments/store/artifacts.py`: made once, checked, shared, never half there."""

import errno
import json
import multiprocessing
import os
import random
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from experiments.store.artifacts import Store
from experiments.store.files import make_way, remove, unique, write_whole
from experiments.store.manifest import Artifact, DamagedError, Recipe, problems, verify
from synth.settings import StoppedError

RECIPE = Recipe("stage", {"b": 1, "a": [1.5, "x"]}, ("parent",), "code")
A, B, C, D, E = RECIPES = [Recipe("stage", {"value": value}, (), "code") for value in "abcde"]
KEYS = [recipe.key for recipe in RECIPES]


def make(folder: Path, partial: Path) -> None:
    (folder / "data.txt").write_text("content")


def no_make(*arguments: object) -> None:
    raise AssertionError("made again")


def make_all(folders: dict[str, Path], partial: Path) -> None:
    for key, folder in folders.items():
        (folder / "data.txt").write_text(key)


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Store:
    return Store(tmp_path / "store", warnings.append)


def test_an_artifact_is_made_once(store: Store) -> None:
    first = store.fetch(RECIPE, make)
    assert (first.path / "data.txt").read_text() == "content"
    assert store.fetch(RECIPE, no_make) == first
    manifest = json.loads((first.path / "manifest.json").read_text())
    assert manifest["settings"] == RECIPE.settings
    assert 0 <= manifest["seconds"] < 60
    assert not list((store.root / "partial").iterdir())


@pytest.mark.parametrize(
    "other",
    [
        Recipe("stage2", RECIPE.settings, RECIPE.parents, RECIPE.code),
        Recipe("stage", {"b": 2, "a": [1.5, "x"]}, RECIPE.parents, RECIPE.code),
        Recipe("stage", RECIPE.settings, ("other",), RECIPE.code),
        Recipe("stage", RECIPE.settings, RECIPE.parents, "new code"),
    ],
)
def test_anything_that_matters_changes_the_key(other: Recipe) -> None:
    assert other.key != RECIPE.key
    assert Recipe("stage", {"a": [1.5, "x"], "b": 1}, RECIPE.parents, RECIPE.code).key == RECIPE.key


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "manifest", "no manifest"])
def test_a_damaged_artifact_is_set_aside_and_made_again(harm: str, store: Store, warnings: list[str]) -> None:
    path = store.fetch(RECIPE, make).path
    data, manifest = path / "data.txt", path / "manifest.json"
    if harm == "flip":
        data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    elif harm == "truncate":
        data.write_text("con")
    elif harm == "remove":
        data.unlink()
    elif harm == "manifest":
        manifest.write_text("{")
    else:
        manifest.unlink()
    with pytest.raises(DamagedError):
        verify(path)
    again = store.fetch(RECIPE, make)
    verify(again.path)
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert len(list((store.root / "damaged").iterdir())) == 1


def put(kind: str, place: Path) -> None:
    """In place of whatever is there: a folder with something in it, a loop of links, a dead link, a pipe or a file."""
    remove(place)
    if kind == "folder":
        place.mkdir()
        (place / "something").write_text("x")
    elif kind == "loop":
        place.symlink_to(place.name)
    elif kind == "dead link":
        place.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.write_text("x", encoding="utf-8")


THINGS = ("folder", "loop", "dead link", "pipe")


@pytest.mark.parametrize("kind", THINGS)
@pytest.mark.parametrize("name", ["data.txt", "manifest.json"])
def test_what_is_no_file_is_damage_like_any_other(name: str, kind: str, store: Store, warnings: list[str]) -> None:
    put(kind, store.fetch(RECIPE, make).path / name)
    assert len(problems(store.path(RECIPE))) == 1
    with pytest.raises(DamagedError):
        store.get(RECIPE)
    verify(store.fetch(RECIPE, make).path)
    assert len(warnings) == 1


@pytest.mark.parametrize("kind", ["file", *THINGS[1:]])
@pytest.mark.parametrize("place", ["artifacts/{0}", "partial/{0}", "partial/{0}.building"])
def test_what_is_no_folder_of_an_artifact_makes_way(place: str, kind: str, store: Store) -> None:
    put(kind, store.root / place.format(RECIPE.name))
    assert not store.has(RECIPE)
    verify(store.fetch(RECIPE, make).path)
    assert not list((store.root / "partial").iterdir())


@pytest.mark.parametrize("kind", THINGS)
@pytest.mark.parametrize("place", ["store.json", "partial/{0}/group.json", "locks/claims.lock", "locks/old.claim"])
def test_what_is_no_file_of_the_store_makes_way(place: str, kind: str, store: Store) -> None:
    path = store.root / place.format(RECIPE.name)
    path.parent.mkdir(exist_ok=True)
    put(kind, path)
    verify(Store(store.root, store.warn).fetch(RECIPE, make).path)
    assert json.loads((store.root / "store.json").read_text()) == {"format": 1}
    assert not path.exists() or path.is_file()


@pytest.mark.parametrize("kind", THINGS)
def test_a_record_that_is_no_file_is_written_again(kind: str, store: Store, tmp_path: Path) -> None:
    store.register(tmp_path / "study", [RECIPE.name])
    (record,) = (store.root / "studies").iterdir()
    put(kind, record)
    store.register(tmp_path / "study", [RECIPE.name])
    assert json.loads(record.read_text())["artifacts"] == [RECIPE.name]


def test_what_is_there_is_left_where_it_is(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("content")
    link.symlink_to(file)
    assert not any(make_way(path, tmp_path, pytest.fail) for path in (file, link, tmp_path / "nothing"))
    assert link.read_text() == "content"


def test_any_flipped_bit_of_any_file_is_found(store: Store) -> None:
    path = store.fetch(RECIPE, make).path
    assert problems(path) == []
    for file in path.iterdir():
        content = file.read_bytes()
        for place in range(len(content)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
            # Such writes are too quick for the clock of the file system to tell them apart.
            os.utime(file, ns=(place, place))
            assert len(problems(path)) == 1, (file.name, place)
        file.write_bytes(content)
    assert problems(path) == []


def test_a_file_is_read_once_until_it_changes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.fetch(RECIPE, make).path
    opened: list[str] = []
    really = Path.open

    def note(self: Path, *arguments: Any, **named: Any) -> Any:
        opened.append(self.name)
        return really(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", note)
    for _ in range(3):
        verify(path)
    assert opened.count("data.txt") == 1
    os.utime(path / "data.txt", ns=(0, 0))
    verify(path)
    assert opened.count("data.txt") == 2


def test_what_says_nothing_of_the_file_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.fetch(RECIPE, make).path

    def refuse(self: Path, *arguments: Any, **named: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        store.fetch(RECIPE, no_make)
    assert path.exists()


def test_reading_needs_no_lock_and_writes_nothing(store: Store) -> None:
    artifact = store.fetch(RECIPE, make)
    with store.locked([RECIPE.name]):
        before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
        assert Store(store.root).fetch(RECIPE, no_make) == artifact
        assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before


def test_a_make_that_fails_leaves_no_artifact_but_keeps_its_partial_state(store: Store) -> None:
    def fail(folder: Path, partial: Path) -> None:
        (folder / "data.txt").write_text("half")
        (partial / "state").write_text("so far")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        store.fetch(RECIPE, fail)
    assert not store.has(RECIPE)
    assert not list((store.root / "partial").glob("*.building"))

    def go_on(folder: Path, partial: Path) -> None:
        assert not list(folder.iterdir())
        (folder / "data.txt").write_text((partial / "state").read_text() + ", done")

    path = store.fetch(RECIPE, go_on).path
    assert (path / "data.txt").read_text() == "so far, done"
    assert json.loads((path / "manifest.json").read_text())["seconds"] is None
    assert not list((store.root / "partial").iterdir())


def test_several_are_made_by_one_computation_and_only_those_missing(store: Store) -> None:
    asked: list[set[str]] = []

    def note(folders: dict[str, Path], partial: Path) -> None:
        asked.append(set(folders))
        make_all(folders, partial)

    store.fetch(B, lambda folder, partial: make_all({B.key: folder}, partial))
    found = store.fetch_all([C, A, B, C], note)
    assert asked == [{A.key, C.key}]
    assert list(found) == [C.key, A.key, B.key]
    for key, artifact in found.items():
        assert artifact == Artifact(key, store.root / "artifacts" / f"stage-{key}")
        assert (artifact.path / "data.txt").read_text() == key
        verify(artifact.path)
    assert store.fetch_all([C, A, B], no_make) == found
    assert store.fetch_all([], no_make) == {}


def stop_in(store: Store, recipes: list[Recipe], state: str = "state") -> None:
    """Begins to make `recipes` together and leaves a state; none if it is empty."""

    def stop(folders: dict[str, Path], partial: Path) -> None:
        if state:
            (partial / state).mkdir()
            (partial / state / "of").write_text(" ".join(sorted(folders)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.fetch_all(recipes, stop)


def groups_made(store: Store, recipes: list[Recipe]) -> list[tuple[set[str], set[str]]]:
    """Which were made together, each with those whose state they went on from."""
    made: list[tuple[set[str], set[str]]] = []

    def note(folders: dict[str, Path], partial: Path) -> None:
        state = partial / "state" / "of"
        made.append((set(folders), set(state.read_text().split()) if state.exists() else set()))
        make_all(folders, partial)

    store.fetch_all(recipes, note)
    return made


def test_a_group_that_was_stopped_goes_on_when_more_are_wanted(store: Store) -> None:
    stop_in(store, [A, B])
    stop_in(store, [D])
    together, alone, rest = {A.key, B.key}, {D.key}, {C.key, E.key}
    assert groups_made(store, RECIPES) == [(together, together), (alone, alone), (rest, set())]
    assert not list((store.root / "partial").iterdir())


def test_a_group_of_which_one_is_not_wanted_any_more_does_not_go_on(store: Store) -> None:
    stop_in(store, [A, B])
    assert groups_made(store, [A, C]) == [({A.key, C.key}, set())]


def test_a_group_without_a_state_is_begun_anew_with_the_others(store: Store) -> None:
    stop_in(store, [A, B], state="")
    assert groups_made(store, [A, B, C]) == [({A.key, B.key, C.key}, set())]


def test_what_was_whole_when_the_process_was_killed_is_not_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename
    left = iter([True])

    def die(self: Path, target: Path) -> Path:
        next(left)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(StopIteration):
        store.fetch_all([A, B, C], make_all)
    monkeypatch.undo()
    assert len(list((store.root / "artifacts").iterdir())) == 1
    found = store.fetch_all([A, B, C], no_make)
    assert {(found[key].path / "data.txt").read_text() for key in found} == {A.key, B.key, C.key}


def make_slowly(root: Path, log: Path, number: int) -> None:
    """Wants all recipes, some of them together, in an order of its own; states go on."""
    shuffled = random.Random(number)

    def make(folders: dict[str, Path], partial: Path) -> None:
        begun = len(list(partial.glob("step*")))
        write(log, f"make {os.getpid()} {begun} {' '.join(folders)}")
        for step in range(begun, 4):
            time.sleep(0.05)
            (partial / f"step{step}").write_text("")
        make_all(folders, partial)

    store = Store(root)
    for _ in range(3):
        store.fetch_all(shuffled.sample(RECIPES, shuffled.randint(1, 3)), make)
    store.fetch_all(RECIPES, make)
    write(log, f"done {os.getpid()}")


def test_what_another_process_finishes_at_that_moment_has_no_state(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = store.root / "partial" / "gone"
    monkeypatch.setattr(Path, "is_dir", lambda path: True)  # It was there when it was looked for.
    monkeypatch.setattr(Store, "unfinished", lambda store: iter([(gone, frozenset({"gone"}))]))
    assert list(store._groups({"gone", "other"})) == [["gone", "other"]]


def test_as_many_as_one_likes_are_made_together_with_few_files_open(store: Store) -> None:
    many = [Recipe("stage", {"value": value}, (), "code") for value in range(300)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, hard))
    try:
        made = store.fetch_all(many, make_all)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(made) == 300
    assert {path.name for path in (store.root / "locks").iterdir()} == {"claims.lock"}


def test_claims_that_share_a_name_wait_and_others_do_not(store: Store) -> None:
    entered: list[str] = []

    def enter() -> None:
        with store.locked(["b", "c"]):
            entered.append("both")

    with store.locked(["a", "b"]):
        waiting = threading.Thread(target=enter)
        waiting.start()
        with store.locked(["c"], timeout=0):
            pass
        with pytest.raises(Timeout), store.locked(["d", "a"], timeout=0):
            raise AssertionError("it was free")
        time.sleep(0.3)
        assert entered == []
    waiting.join()
    assert entered == ["both"]
    with store.locked(["a", "b", "c", "d"], timeout=0):
        pass


def test_files_that_are_not_finished_share_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)
    assert len({unique(tmp_path / "file") for _ in range(100)}) == 100
    taken = tmp_path / ".file.7"
    taken.write_text("another process's")
    write_whole(tmp_path / "file", "ours")
    assert taken.read_text() == "another process's"


def test_folders_on_two_disks_are_found_before_the_work(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.ready()
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(
        StoppedError, match=r"store_dir=.*store: its folders artifacts and partial are on different disks"
    ):
        store.ready()
    assert not [*(store.root / "partial").iterdir(), *(store.root / "artifacts").iterdir()]


def write(log: Path, line: str) -> None:
    """Whole lines, whoever else writes."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def lines(log: Path, kind: str) -> list[list[str]]:
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return [line.split()[1:] for line in text.splitlines() if line.startswith(kind)]


def test_processes_share_a_store_and_a_killed_one_does_no_harm(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    root, log = tmp_path / "store", tmp_path / "log"
    workers = [context.Process(target=make_slowly, args=(root, log, number)) for number in range(5)]
    for worker in workers:
        worker.start()
    # The first to have saved a state is killed in the middle of making.
    while not list(root.glob("partial/*/step1")):
        time.sleep(0.005)
    state = next(root.glob("partial/*/step1")).parent
    begun = {name.removeprefix("stage-") for name in json.loads((state / "group.json").read_text())}
    killed = next(process for process, _, *keys in lines(log, "make") if set(keys) == begun)
    os.kill(int(killed), signal.SIGKILL)
    for worker in workers:
        worker.join()
    assert sorted(worker.exitcode or 0 for worker in workers) == [-signal.SIGKILL, 0, 0, 0, 0]
    assert len(lines(log, "done")) == 4
    survivors = [keys for process, _, *keys in lines(log, "make") if process != killed]
    made = [key for keys in survivors for key in keys]
    finished = [key for keys in killed_before(log, killed) for key in keys]
    assert sorted(made + finished) == sorted(KEYS)
    # Who takes over goes on from the state that was left, not from nothing.
    taken_over = [int(step) for process, step, *keys in lines(log, "make") if process != killed and set(keys) == begun]
    assert all(step >= 2 for step in taken_over)
    for key in KEYS:
        path = root / "artifacts" / f"stage-{key}"
        verify(path)
        assert (path / "data.txt").read_text() == key
    assert not list((root / "partial").glob("*.building"))


def killed_before(log: Path, killed: str) -> list[list[str]]:
    """What the killed process had finished: all it made but the last."""
    return [keys for process, _, *keys in lines(log, "make") if process == killed][:-1]


@pytest.mark.parametrize("text", ['{"format": 2}', "{", "[]"])
def test_a_store_of_another_format_is_refused_in_a_line(text: str, store: Store) -> None:
    (store.root / "store.json").write_text(text)
    with pytest.raises(StoppedError, match=r"store_dir=.*store: this store is of format (2|unknown), here format 1 is"):
        Store(store.root)


def test_a_store_says_its_format_and_one_that_does_not_is_of_the_first(store: Store) -> None:
    assert json.loads((store.root / "store.json").read_text()) == {"format": 1}
    artifact = store.fetch(RECIPE, make)
    (store.root / "store.json").unlink()
    assert Store(store.root).fetch(RECIPE, no_make) == artifact


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_store_that_cannot_be_written_is_read_all_the_same(
    number: int, store: Store, warnings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = store.fetch(RECIPE, make)

    def refuse(path: object, *arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", lambda self, **named: None if self.exists() else refuse(self))
    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr("filelock._unix.os.open", refuse)
    readable = Store(store.root, warnings.append)
    readable.register(tmp_path / "study", [RECIPE.name])
    assert "cannot be written" in warnings[0]
    assert readable.fetch(RECIPE, no_make) == artifact
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        readable.fetch(A, no_make)
    assert caught.value.filename == str(store.root / "locks" / "claims.lock")


def test_a_full_disk_is_named_and_leaves_nothing_half_written(store: Store) -> None:
    def fill(folder: Path, partial: Path) -> None:
        (folder / "data.txt").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as caught:
        store.fetch(RECIPE, fill)
    assert caught.value.filename == str(store.root)
    assert not list(store.root.rglob("data.txt"))
    store.fetch(RECIPE, make)


def test_a_study_says_what_it_uses(store: Store, tmp_path: Path) -> None:
    for folder in ("one/quick", "two/quick"):
        store.register(tmp_path / folder, ["tune-2", "pretrain-1", "tune-2"])
    records = list((store.root / "studies").iterdir())
    assert len(records) == 2
    contents = {record: json.loads(record.read_text()) for record in records}
    assert {content["folder"] for content in contents.values()} == {f"{tmp_path}/one/quick", f"{tmp_path}/two/quick"}
    assert all(content["artifacts"] == ["pretrain-1", "tune-2"] for content in contents.values())
    before = [record.stat().st_mtime_ns for record in records]
    store.register(tmp_path / "one" / "quick", ["pretrain-1", "tune-2"])
    assert [record.stat().st_mtime_ns for record in records] == before
    store.register(tmp_path / "one" / "quick", ["pretrain-3"])
    now = [json.loads(record.read_text())["artifacts"] for record in records]
    assert sorted(now) == [["pretrain-1", "tune-2"], ["pretrain-3"]]


def test_an_artifact_is_its_key_and_its_path(store: Store) -> None:
    artifact = store.fetch(RECIPE, make)
    assert artifact == Artifact(RECIPE.key, store.root / "artifacts" / f"stage-{RECIPE.key}")
