"""Tests of `experiments/compiled.py`: what goes wrong with keeping compiled programs is one line, once."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from experiments.study.compiled import keep_compiled_programs

SCRIPT = """
import pathlib, resource, sys, warnings
import jax, jax.numpy as jnp
from experiments.study.compiled import keep_compiled_programs
from experiments.progress import Reporter

keep_compiled_programs(pathlib.Path(sys.argv[1]), Reporter().warn)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))
print(*(float(jax.jit(lambda x: x.sum() + n)(jnp.ones(n))) for n in (3, 4)))
warnings.warn("of something else")
"""


def run(store: Path, *how: str) -> tuple[list[str], str]:
    """What two small programs of a process print, and its standard error."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(store), *how], capture_output=True, text=True)
    return done.stdout.splitlines(), done.stderr


def told(store: Path, why: str) -> str:
    return (
        f"warning: {store / 'compiled'}: not every compiled program can be kept and read there ({why}); "
        "what cannot is compiled anew; make room, or remove the folder"
    )


def test_a_folder_without_room_and_the_stumps_left_there_are_one_line_each(tmp_path: Path) -> None:
    out, errors = run(tmp_path, "full")
    assert out == [told(tmp_path, "File too large"), "6.0 8.0"]
    assert "UserWarning: of something else" in errors
    assert "compilation cache" not in errors
    again, errors = run(tmp_path)
    assert [line.partition(" (")[0] for line in again] == [told(tmp_path, "").partition(" (")[0], "6.0 8.0"]
    assert "compilation cache" not in errors


def test_a_folder_that_cannot_be_one_is_one_line_and_one_that_can_is_none(tmp_path: Path) -> None:
    assert run(tmp_path / "whole")[0] == ["6.0 8.0"]
    assert list((tmp_path / "whole" / "compiled").glob("*-cache"))
    (tmp_path / "compiled").write_text("a file")
    out, errors = run(tmp_path)
    assert out == [told(tmp_path, "File exists"), "6.0 8.0"]
    assert "compilation cache" not in errors


def test_it_is_said_once_for_a_folder_however_often_it_is_named_and_other_warnings_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    others: list[str] = []
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: others.append(str(message)))
    for _ in range(3):
        keep_compiled_programs(tmp_path, said.append)
        warnings.warn("Error writing persistent compilation cache entry for 'f': OSError: [Errno 28] No", stacklevel=1)
    warnings.simplefilter("always")
    warnings.warn("of something else", stacklevel=1)
    assert said == [told(tmp_path, "No space left on device").removeprefix("warning: ")]
    assert others == ["of something else"]
    keep_compiled_programs(tmp_path / "other", said.append)
    warnings.warn("Cache value for key 'f-1' of size 9 bytes exceeds the maximum cache size of 8 bytes", stacklevel=1)
    assert "(Cache value of size 9 bytes exceeds the maximum cache size of 8 bytes)" in said[1]
