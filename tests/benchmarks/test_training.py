"""How fast training is on this machine. `make bench` prints; nothing is asserted."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from experiments.progress import Reporter
from experiments.training import Runner, train
from models.training.loop import CHUNK, OptimizerConfig, Program, Schedule, Terms, across, run_chunk, seed_keys, start
from models.training.objectives import token_logprobs
from models.transformer import ModelConfig, Params, init
from synth.sequences import Batch
from tests.benchmarks.timing import ceiling, seconds

VOCABULARY = 40
SHAPES = {
    "quick": (ModelConfig(layers=3, heads=4, width=64, context=24), 64, 25),
    "paper, text of 10": (ModelConfig(layers=6, heads=6, width=192), 32, 35),
    "paper, longest": (ModelConfig(layers=6, heads=6, width=192), 32, 114),
}
SHAPES = {
    name: (ModelConfig(name, model.layers, model.heads, model.width, context=tokens), batch, tokens)
    for name, (model, batch, tokens) in SHAPES.items()
}


@pytest.fixture(scope="module", autouse=True)
def _as_users_run_it(with_optax: None) -> None:
    jax.config.update("jax_disable_most_optimizations", False)


def language_model(model: ModelConfig) -> Program:
    """Cross-entropy of every next token of one batch, which is passed in."""

    def loss(params: Params, reference: Params, batch: jax.Array, progress: jax.Array, hyper: Any) -> Terms:
        return Terms(-jnp.mean(token_logprobs(model, params, Batch(batch, batch, batch[:, 0])), axis=-1), {})

    return Program(OptimizerConfig(), lambda key, step, hyper: hyper, loss)


def our_steps(model: ModelConfig, batch: int, tokens: int, seeds: int = 1) -> Callable[[int], None]:
    """A function that makes a number of steps of all seeds."""
    keys = seed_keys(jax.random.key(0), seeds)
    params = jax.vmap(lambda key: init(model, VOCABULARY, key))(keys)
    data = jax.random.randint(keys[0], (batch, tokens + 1), 0, VOCABULARY)
    program, schedule = language_model(model), across([Schedule(1000, 1e-3, data)], seeds)
    states = [start(program, params)]

    def steps(count: int) -> None:
        state, _ = run_chunk(program, schedule, count, states.pop(), params, keys)
        states.append(jax.block_until_ready(state))

    return steps


def timed(steps: Callable[[int], None], count: int) -> float:
    began = time.perf_counter()
    steps(count)
    return (time.perf_counter() - began) / count


@pytest.mark.parametrize("name", SHAPES)
def test_a_step_against_pytorch_and_the_ceiling(name: str) -> None:
    model, batch, tokens = SHAPES[name]
    weights = sum(leaf.size for leaf in jax.tree.leaves(init(model, VOCABULARY, jax.random.key(0))))
    ours, count = our_steps(model, batch, tokens), 40 if model.width < 100 else 6
    runs = {"ours": ours}
    if torch_steps := _pytorch():
        runs["PyTorch"] = torch_steps(model, VOCABULARY, batch, tokens)
    for steps in runs.values():
        steps(2)
    # One after the other, several times: what else the machine does then falls on both.
    times: dict[str, list[float]] = {which: [] for which in runs}
    peaks = []
    for _ in range(7):
        peaks.append(ceiling())
        for which, steps in runs.items():
            times[which].append(timed(steps, count))
    middle = {which: statistics.median(values) for which, values in times.items()}
    flops = 6 * weights * batch * tokens
    shares = {which: flops / value / 1e9 / statistics.median(peaks) for which, value in middle.items()}
    print(f"\n{name}: {model.layers} x {model.width}, batch {batch}, {tokens} tokens, {weights:,} weights")
    print(f"  ceiling {statistics.median(peaks):.0f} GFLOP/s")
    for which, value in middle.items():
        print(f"  {which:8s} {1e3 * value:7.2f} ms a step, {shares[which]:4.0%} of the ceiling")
    if "PyTorch" in middle:
        ratios = [theirs / mine for theirs, mine in zip(times["PyTorch"], times["ours"], strict=True)]
        print(f"  PyTorch / ours {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def _pytorch() -> Callable[..., Callable[[int], None]] | None:
    try:
        from tests.benchmarks.reference import training_steps
    except ImportError:
        print("\nPyTorch is not here: pip install -e .[bench]")
        return None
    return training_steps


def test_eight_seeds_against_one() -> None:
    model, batch, tokens = SHAPES["quick"]
    one, eight = (our_steps(model, batch, tokens, seeds) for seeds in (1, 8))
    ratios = []
    for _ in range(5):
        for steps in (one, eight):
            steps(1)
        ratios.append(timed(eight, 20) / timed(one, 40))
    print(f"\neight seeds: {statistics.median(ratios):.2f} times one ({min(ratios):.2f} to {max(ratios):.2f})")


def test_what_the_loop_costs_beside_the_steps(tmp_path: Path) -> None:
    """Dispatch, the log and progress, against the compiled chunks alone."""
    model, batch, tokens = SHAPES["quick"]
    keys = seed_keys(jax.random.key(0), 3)
    params = jax.vmap(lambda key: init(model, VOCABULARY, key))(keys)
    data = jax.random.randint(keys[0], (batch, tokens + 1), 0, VOCABULARY)
    program, schedule = language_model(model), across([Schedule(10 * CHUNK, 1e-3, data)], 3)

    def bare() -> Any:
        state = start(program, params)
        for _ in range(10):
            state, _ = run_chunk(program, schedule, CHUNK, state, params, keys)
        return state

    def whole() -> Any:
        runner = Runner(Reporter(), checkpoint_seconds=1e9)
        return train(runner, "bench", program, schedule, params, params, keys, tmp_path / str(time.time_ns())).params

    ratios = [seconds(whole, 1) / seconds(bare, 1) for _ in range(5)]
    print(f"\nthe loop: {statistics.median(ratios) - 1:+.1%} of the steps' time ({min(ratios) - 1:+.1%} at best)")


def test_memory_over_50000_steps(tmp_path: Path) -> None:
    def loss(params: Params, reference: Params, batch: jax.Array, progress: jax.Array, hyper: Any) -> Terms:
        return Terms(jnp.sum(jnp.square(batch @ params["W_E"] - batch), axis=-1), {})

    program = Program(OptimizerConfig(), lambda key, step, hyper: jax.random.normal(key, (4, 8)), loss)
    params, keys = {"W_E": jnp.zeros((2, 8, 8))}, seed_keys(jax.random.key(0), 2)
    used = []
    for steps in (10_000, 50_000):
        schedule = across([Schedule(steps, 1e-3, None)], 2)
        runner = Runner(Reporter(), checkpoint_seconds=1.0)
        train(runner, "bench", program, schedule, params, params, keys, tmp_path / str(steps))
        used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"\nmost memory after 10,000 steps {used[0]:.0f} MiB, after 50,000 more {used[1]:.0f} MiB")


def test_compilation_of_the_quick_study(tmp_path: Path) -> None:
    """Cold, and with the persistent cache of a study that ran before in the same store."""
    script = (
        "import sys, jax\n"
        "spent = {'trace': 0.0, 'compile': 0.0}\n"
        "def listen(event, seconds, **_):\n"
        "    if 'backend_compile' in event: spent['compile'] += seconds\n"
        "    elif 'jaxpr_trace' in event or 'to_mlir' in event: spent['trace'] += seconds\n"
        "jax.monitoring.register_event_duration_secs_listener(listen)\n"
        "from experiments.run import main\n"
        "main(sys.argv[1:])\n"
        "print(f\"tracing {spent['trace']:.1f} s, compiling or loading {spent['compile']:.1f} s\")\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    for seed, label in ((0, "cold"), (1, "warm")):
        # Other settings that are traced or only name an artifact: everything is made again, nothing compiled anew.
        settings = ["study=quick", f"output_dir={tmp_path}/out", f"store_dir={tmp_path}/store"]
        quicker = ["pretrain.steps=100", "tuning.steps=50", f"tuning.learning_rate={2e-3 + seed * 1e-4}"]
        quicker.append(f"pretrain.learning_rate={5e-3 + seed * 1e-4}")
        out = subprocess.run(
            [sys.executable, "-c", script, *settings, *quicker],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout
        print(f"\n{label}: {out.splitlines()[-1]}")
