"""What the environment may change about numbers: nothing that is drawn; what it rounds otherwise is said."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from experiments import numerics
from experiments.store import provenance
from experiments.study.output import keep_environment
from tests.experiments.conftest import FEW_FAMILIES

DRAWN = """
import jax, numpy as np
from experiments.stages.prompts import together
from synth.grammar_source import Grammars
from synth.world import WorldConfig
tokens = together(Grammars(WorldConfig()), ["unsafe"], 4)["unsafe"].complying.tokens
drawn = jax.random.normal(jax.random.key(3), (4,))
print(jax.device_count(), tokens.dtype, drawn.dtype, np.asarray(tokens).tolist(), np.asarray(drawn).tolist())
"""


def started(code: str, **environment: str) -> str:
    """What a new process prints with these variables."""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


VARIABLES = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
    "JAX_HIGH_DYNAMIC_RANGE_GUMBEL": "1",
}


def test_no_variable_and_no_number_of_devices_changes_what_is_drawn() -> None:
    """All at once: none of them, if it had a say, would hide that another has one."""
    usual = started(DRAWN)
    assert started(DRAWN, **VARIABLES) == usual
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=3"
    count, rest = started(DRAWN, XLA_FLAGS=flags).split(" ", 1)
    assert (count, rest) == ("3", usual.split(" ", 1)[1])


def test_what_rounds_otherwise_is_recorded_and_said_when_a_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert keep_environment(tmp_path) == []
    recorded = json.loads((tmp_path / "env.json").read_text())
    assert recorded["rounding"]["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false"
    assert keep_environment(tmp_path) == []
    monkeypatch.delenv("XLA_FLAGS")
    with jax.default_matmul_precision("bfloat16"):
        changed = keep_environment(tmp_path)
    assert changed == [
        "rounding.jax_default_matmul_precision is None there and bfloat16 here",
        "rounding.XLA_FLAGS is --xla_cpu_enable_fast_math=false there and None here",
    ]
    now = provenance.environment()
    other = {**now, "device": {**now["device"], "count": 8}}
    assert provenance.rounds_otherwise(other, now) == [f"device.count is 8 there and {jax.device_count()} here"]


@pytest.mark.parametrize("before", [None, [], {}, {"device": 3}, {"rounding": {}}])
def test_a_record_that_cannot_be_read_or_is_of_other_code_says_nothing(before: object) -> None:
    assert provenance.rounds_otherwise(before, provenance.environment()) == []


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.parametrize(
    ("variable", "value"),
    [("JAX_PLATFORMS", "cuda"), ("JAX_PLATFORMS", "nonsense"), ("JAX_PLATFORM_NAME", "tpu")],
)
def test_a_device_that_is_not_there_is_one_line(variable: str, value: str) -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("for machines without an accelerator")
    done = run("experiments.run", "--show", **{variable: value})
    fix = f"there is no such device here, there is cpu; unset {variable}, or set it to cpu"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {variable}={value}: {fix}\n")


def test_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", jax.default_backend())
    assert numerics.no_device() is None


@pytest.mark.parametrize("arguments", [["--show"], ["dry_run=true", *FEW_FAMILIES]], ids=lambda given: given[0])
def test_who_stops_reading_stops_nothing(arguments: list[str], tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "experiments.run", *arguments, f"store_dir={tmp_path}"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_during_a_start_is_silent(tmp_path: Path) -> None:
    """The packages are imported for seconds; this comes at the first thing they import."""
    slow = "import time\nprint('here', flush=True)\ntime.sleep(60)\n"
    (tmp_path / "jax.py").write_text(slow)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "experiments.run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130
