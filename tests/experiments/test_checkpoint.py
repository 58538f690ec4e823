"""Tests of `experiments/stages/checkpoint.py`: a state is the one that was saved, or it is not there."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.stages.checkpoint import Checkpoints, MismatchError
from models.training.loop import State

Spoil = Callable[[bytes], bytes | None]


class Kept(NamedTuple):
    """Two saved states of one tree, in a folder, and the files of the second one."""

    folder: Path
    files: list[Path]


def tree(step: int) -> dict[str, Any]:
    """Like what training keeps: device arrays and NumPy's, scalars, nothing, more than one type."""
    weights = {"w": jnp.arange(600.0).reshape(2, 20, 15) + step, "b": jnp.full((2, 3), 0.1)}
    state = State(weights, None, (jnp.int32(step),), jnp.int32(step))
    log = {"loss": np.random.default_rng(step).normal(size=(40, 2)).astype(np.float32), "none": np.zeros((0, 2))}
    return {"state": state._asdict(), "log": log, "looks": {}}


def same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    save(folder, 1, 2)
    return Kept(folder, sorted(file.relative_to(folder) for file in (folder / "2").rglob("*") if file.is_file()))


def save(folder: Path, *steps: int) -> list[str]:
    """The warnings of saving a state for each of `steps`."""
    warnings: list[str] = []
    checkpoints = Checkpoints(folder, warnings.append)
    for step in steps:
        checkpoints.save(step, tree(step))
    checkpoints.close()
    return warnings


def restore(folder: Path) -> tuple[Any | None, list[str]]:
    warnings: list[str] = []
    checkpoints = Checkpoints(folder, warnings.append)
    found = checkpoints.restore(tree(0))
    checkpoints.close()
    return found, warnings


def flipped(content: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_the_last_two_states_are_kept_whole(tmp_path: Path) -> None:
    assert restore(tmp_path) == (None, [])
    assert save(tmp_path, 1, 2, 3) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
    found, warnings = restore(tmp_path)
    assert same(found, tree(3))
    assert jax.tree.structure(found) == jax.tree.structure(tree(3))
    assert warnings == []


def test_a_state_is_of_the_moment_it_was_saved(tmp_path: Path) -> None:
    given = tree(1)
    checkpoints = Checkpoints(tmp_path, pytest.fail)
    checkpoints.save(1, given)
    given["log"]["loss"][:] = 7
    given["state"]["params"]["w"].delete()
    checkpoints.close()
    assert same(restore(tmp_path)[0], tree(1))


SPOILT: dict[str, Spoil] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "gone": lambda content: None,
    "zeros": lambda content: bytes(len(content)),
    "flipped": flipped,
}


@pytest.mark.parametrize("how", SPOILT)
def test_with_any_one_file_spoilt_a_state_is_what_was_saved_or_the_one_before(
    how: str, kept: Kept, tmp_path: Path
) -> None:
    fell_back = []
    for number, file in enumerate(kept.files):
        folder = tmp_path / str(number)
        shutil.copytree(kept.folder, folder)
        spoilt = SPOILT[how]((folder / file).read_bytes())
        if spoilt is None:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes(spoilt)
        found, warnings = restore(folder)
        if same(found, tree(2)):
            assert warnings == []
            continue
        assert same(found, tree(1)), file
        assert len(warnings) == 1
        assert warnings[0].startswith("the state of step 2 cannot be read (")
        assert "\n" not in warnings[0]
        assert [path.name for path in folder.iterdir()] == ["1"]
        assert save(folder, 2) == []
        assert same(restore(folder)[0], tree(2))
        fell_back.append(file)
    largest = max(kept.files, key=lambda file: (kept.folder / file).stat().st_size)
    assert largest in fell_back


@pytest.mark.slow
def test_no_changed_bit_is_taken_for_a_state(kept: Kept, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for _ in range(300):
        folder = tmp_path / "spoilt"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept.folder, folder)
        file = folder / kept.files[chance.integers(len(kept.files))]
        content = bytearray(file.read_bytes())
        content[chance.integers(len(content))] ^= 1 << chance.integers(8)
        file.write_bytes(content)
        found, warnings = restore(folder)
        assert same(found, tree(1 if warnings else 2)), file


def test_with_both_states_spoilt_training_begins_anew(kept: Kept, tmp_path: Path) -> None:
    shutil.copytree(kept.folder, tmp_path / "states")
    for file in (tmp_path / "states").rglob("*"):
        if file.is_file():
            file.write_bytes(flipped(file.read_bytes()))
    found, warnings = restore(tmp_path / "states")
    assert found is None
    assert [warning.split(" (")[0] for warning in warnings] == [
        "the state of step 2 cannot be read",
        "the state of step 1 cannot be read",
    ]
    assert save(tmp_path / "states", 1) == []
    assert same(restore(tmp_path / "states")[0], tree(1))


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"log": {"loss": np.zeros((40, 3))}}, "log.loss is (40, 2) there and (40, 3) here"),
        ({"looks": {"more": np.zeros(3)}}, "looks.more is absent there and (3,) here"),
        ({"log": {}}, "log.loss is (40, 2) there and absent here"),
    ],
    ids=["shape", "more", "less"],
)
def test_a_state_of_something_else_is_an_error_that_names_the_first_array_and_stays(
    other: dict[str, Any], difference: str, kept: Kept
) -> None:
    checkpoints = Checkpoints(kept.folder, pytest.fail)
    with pytest.raises(MismatchError) as caught:
        checkpoints.restore({**tree(0), **other})
    assert str(caught.value) == (
        f"the state of step 2 in {kept.folder} is of other settings: {difference}; train elsewhere or remove the folder"
    )
    checkpoints.close()
    assert same(restore(kept.folder)[0], tree(2))


def test_a_state_that_cannot_be_written_is_one_warning_and_the_next_can(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first state fails before it is begun, the second while it is written."""
    folder, warnings = tmp_path / "states", []
    shutil.copytree(kept.folder, folder)
    checkpoints = Checkpoints(folder, warnings.append)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for method in ("save", "wait_until_finished"):
        monkeypatch.setattr(checkpoints.manager, method, full)
        checkpoints.save(3, tree(3))
        checkpoints.wait()
        checkpoints.wait()
        assert warnings == ["the state of step 3 could not be saved (No space left on device); training goes on"]
        assert checkpoints.latest() in (2, 3)
        warnings.clear()
    checkpoints.save(4, tree(4))
    checkpoints.close()
    assert warnings == []
    assert same(restore(folder)[0], tree(4))


def test_what_was_half_written_is_removed_and_other_folders_are_left_alone(kept: Kept, tmp_path: Path) -> None:
    folder = tmp_path / "states"
    shutil.copytree(kept.folder, folder)
    (folder / "3.orbax-checkpoint-tmp" / "default").mkdir(parents=True)
    (folder / "runs-0-1" / "7").mkdir(parents=True)
    assert same(restore(folder)[0], tree(2))
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "runs-0-1"]
    assert save(folder, 3) == []
    assert same(restore(folder)[0], tree(3))
    assert (folder / "runs-0-1" / "7").is_dir()


def test_an_interrupt_while_a_state_is_given_to_orbax_waits_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, pytest.fail)
    write, done = checkpoints.manager.save, []

    def pressed(*arguments: Any, **settings: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        write(*arguments, **settings)
        done.append(True)

    monkeypatch.setattr(checkpoints.manager, "save", pressed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(1, tree(1))
    checkpoints.close()
    assert done
    found, warnings = restore(tmp_path)
    assert same(found, tree(1))
    assert warnings == []
