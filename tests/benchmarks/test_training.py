"""How fast training is on this machine. `make bench` prints; nothing is asserted.

The figures depend on the machine being otherwise idle.
"""

import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from experiments.progress import Reporter
from experiments.settings.config import load
from experiments.stages.runs import Runner
from experiments.stages.training import train
from models.kernels import matmul
from models.likelihood import token_logprobs
from models.training import tuning
from models.training.loop import CHUNK, Program, Schedule, Terms, across, run_chunk, seed_keys, start
from models.training.methods import METHODS, SAFETY
from models.training.optimizer import OptimizerConfig
from models.transformer import ModelConfig, Params, init
from synth.segments import Batch, Room
from synth.world import build_world
from tests.benchmarks.timing import ceiling, seconds

VOCABULARY = 40
RATIO = {"quick": 1.25, "paper, text of 10": 1.0, "paper, longest": 1.0}
SHARE = {"quick": "at least 50%", "paper, text of 10": "at least 75%"}
SHAPES = {
    "quick": (ModelConfig(layers=3, heads=4, width=64, context=24), 64, 25),
    "paper, text of 10": (ModelConfig(layers=6, heads=6, width=192), 32, 35),
    "paper, longest": (ModelConfig(layers=6, heads=6, width=192), 32, 114),
}
SHAPES = {
    name: (ModelConfig(name, model.layers, model.heads, model.width, context=tokens), batch, tokens)
    for name, (model, batch, tokens) in SHAPES.items()
}


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, str, str]]]:
    """Rows of (figure, wanted, measured), printed when all are there."""
    rows: list[tuple[str, str, str]] = []
    yield rows
    print()
    for row in [("figure", "wanted", "measured"), *rows]:
        print(f"{row[0]:<58}{row[1]:<16}{row[2]}")


def language_model(model: ModelConfig) -> Program:
    """Cross-entropy of every next token of one batch, which is passed in."""

    def loss(params: Params, reference: Params, batch: jax.Array, progress: jax.Array, hyper: Any) -> Terms:
        return Terms(
            -jnp.mean(token_logprobs(model, params, Batch(batch, batch, batch[:, 0], batch > 0, Room(1))), axis=-1), {}
        )

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
def test_a_step_against_pytorch_and_the_ceiling(name: str, table: list[tuple[str, str, str]]) -> None:
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
    peak = statistics.median(peaks)
    shape = f"{model.layers} x {model.width}, batch {batch}, {tokens} tokens"
    print(f"\n{name}: {shape}, {weights:,} weights; ceiling {peak:.0f} GFLOP/s")
    for which, value in middle.items():
        print(f"  {which:8s} {1e3 * value:7.2f} ms a step, {flops / value / 1e9 / peak:4.0%} of the ceiling")
    if "PyTorch" in middle:
        ratios = [theirs / mine for theirs, mine in zip(times["PyTorch"], times["ours"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.append((f"PyTorch / ours, {shape}", f"at least {RATIO[name]}", spread))
    share = f"{flops / middle['ours'] / 1e9 / peak:.0%} of {peak:.0f} GFLOP/s"
    table.append((f"share of the ceiling, {shape}", SHARE.get(name, ""), share))
    alone = flops / products_seconds(model, batch * tokens) / 1e9 / peak
    table.append((f"its products with weights alone, {shape}", "", f"{alone:.0%}"))


def products_seconds(model: ModelConfig, rows: int) -> float:
    """The matrix products of a step with the weights alone, forward and backward, each as our model computes it."""
    shapes = {(model.width, 3 * model.width), (model.width, model.width), (model.width, model.hidden)}
    counts = dict.fromkeys([*shapes, (model.hidden, model.width)], model.layers) | {(model.width, VOCABULARY): 1}
    return sum(count * _product_seconds(rows, *shape) for shape, count in counts.items())


def _product_seconds(rows: int, m: int, n: int) -> float:
    """Of x [rows, m] @ w [m, n] and both gradients."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((rows, m), (m, n), (rows, n))
    start = tuple(jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))
    repeats = 20

    def once(i: jax.Array, given: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        x, w, gradient = given
        y, back = jax.vjp(matmul, x, w)
        found = jax.lax.optimization_barrier((y, *back(gradient)))
        # Nothing is the same in the next round, so that nothing is computed once for all of them.
        return tuple(old.at[0, 0].add(1e-9 * sum(new[0, 0] for new in found)) for old in given)

    loop = jax.jit(lambda given: jax.lax.fori_loop(0, repeats, once, given))
    return seconds(lambda: loop(start)) / repeats


def _pytorch() -> Callable[..., Callable[[int], None]] | None:
    try:
        from tests.benchmarks.reference import training_steps
    except ImportError:
        print("\nPyTorch is not here: python -m pip install -e '.[bench]'")
        return None
    return training_steps


def test_eight_seeds_against_one(table: list[tuple[str, str, str]]) -> None:
    model, batch, tokens = SHAPES["quick"]
    one, eight = (our_steps(model, batch, tokens, seeds) for seeds in (1, 8))
    ratios = []
    for _ in range(5):
        for steps in (one, eight):
            steps(1)
        ratios.append(timed(eight, 20) / timed(one, 40))
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    table.append(("eight seeds / one", "at most 8", spread))


def test_what_the_loop_costs_beside_the_steps(tmp_path: Path, table: list[tuple[str, str, str]]) -> None:
    """Dispatch, the log and progress, against the compiled chunks alone; of long trainings less short ones,
    which leaves out what is done once."""
    model, batch, tokens = SHAPES["quick"]
    keys = seed_keys(jax.random.key(0), 1)
    params = jax.vmap(lambda key: init(model, VOCABULARY, key))(keys)
    data = jax.random.randint(keys[0], (batch, tokens + 1), 0, VOCABULARY)
    program = language_model(model)

    def schedule(chunks: int) -> Schedule:
        return across([Schedule(chunks * CHUNK, 1e-3, data)], 1)

    def bare(chunks: int) -> Any:
        state = start(program, params)
        for _ in range(chunks):
            state, _ = run_chunk(program, schedule(chunks), CHUNK, state, params, keys)
        return jax.block_until_ready(state)

    def whole(chunks: int) -> Any:
        runner, folder = Runner(Reporter(), checkpoint_seconds=1e9), tmp_path / str(time.time_ns())
        return train(runner, "bench", program, schedule(chunks), params, params, keys, folder)

    def step(run: Callable[[int], Any]) -> float:
        times = []
        for chunks in (1, 9):
            began = time.perf_counter()
            run(chunks)
            times.append(time.perf_counter() - began)
        return (times[1] - times[0]) / (8 * CHUNK)

    for run in (bare, whole):
        run(1)
    costs = [step(whole) / step(bare) - 1 for _ in range(5)]
    spread = f"{statistics.median(costs):+.1%} ({min(costs):+.1%} to {max(costs):+.1%})"
    table.append(("dispatch and log / steps", "under 2%", spread))


def test_a_step_of_each_method_against_dpo(table: list[tuple[str, str, str]]) -> None:
    """In the world and shape of the quick study, prompts drawn and all."""
    config = load(["study=quick"])
    keys = seed_keys(jax.random.key(0), 1)
    vocabulary = build_world(config.world).vocab.size
    params = jax.vmap(lambda key: init(config.model, vocabulary, key))(keys)

    def steps_of(method: str) -> Callable[[int], None]:
        row, coefficients = METHODS[method], getattr(config.method, method)
        program = tuning.program(config.tuning, row, config.model, config.world)
        schedule = across([tuning.schedule(config.tuning, row, coefficients, config.world)], 1)

        def steps(count: int) -> None:
            state = start(program, params)
            for _ in range(0, count, CHUNK):
                state, _ = run_chunk(program, schedule, CHUNK, state, params, keys)
            jax.block_until_ready(state)

        steps(CHUNK)
        return steps

    of_dpo = steps_of("dpo")
    for method in (*SAFETY, "sham"):
        of_method, ratios = steps_of(method), []
        for _ in range(3):
            own, other = timed(of_method, 2 * CHUNK), timed(of_dpo, 2 * CHUNK)
            ratios.append(own / other)
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.append((f"a step of {method} / of dpo", "at most 1.3", spread))


def peaks(folder: Path) -> list[float]:
    """Most memory of this process in MiB, after 10,000 steps and after 50,000 more, with states saved on the way."""

    def loss(params: Params, reference: Params, batch: jax.Array, progress: jax.Array, hyper: Any) -> Terms:
        return Terms(jnp.sum(jnp.square(batch @ params["W_E"] - batch), axis=-1), {})

    program = Program(OptimizerConfig(), lambda key, step, hyper: jax.random.normal(key, (4, 8)), loss)
    params, keys = {"W_E": jnp.zeros((2, 8, 8))}, seed_keys(jax.random.key(0), 2)
    used = []
    for steps in (10_000, 50_000):
        schedule = across([Schedule(steps, 1e-3, None)], 2)
        runner = Runner(Reporter(), checkpoint_seconds=0.1)
        train(runner, "bench", program, schedule, params, params, keys, folder / str(steps))
        used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return used


def test_memory_over_50000_steps(tmp_path: Path, table: list[tuple[str, str, str]]) -> None:
    # In a process of its own, which has held nothing larger before.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        used = pool.apply(peaks, (tmp_path,))
    table.append(("peak memory after 10,000 and 50,000 more steps", "no growth", f"{used[0]:.0f}, {used[1]:.0f} MiB"))


COMPILING = """
import sys, time
import jax
spent, compiled = [], []
def listen(event, seconds, **_):
    if any(part in event for part in ("jaxpr_trace", "to_mlir", "backend_compile")):
        now = time.monotonic()
        spent.append((now - seconds, now))
    if "backend_compile" in event:
        compiled.append(seconds)
jax.monitoring.register_event_duration_secs_listener(listen)
from experiments.run import main
main(sys.argv[1:])
# One program is traced within another: time that two of them tell of counts once.
total, reached = 0.0, 0.0
for begin, end in sorted(spent):
    total += max(0.0, end - max(begin, reached))
    reached = max(reached, end)
print(sum(compiled), total)
"""


def test_compilation_of_the_quick_study(tmp_path: Path, table: list[tuple[str, str, str]]) -> None:
    """Tracing, compiling and loading: cold, and with the persistent cache of a study in the same store."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    for seed, (label, wanted) in enumerate([("cold", "under 40 s"), ("warm", "under 8 s")]):
        # Other settings that are traced or only name an artifact: everything is made again, nothing compiled anew.
        settings = ["study=quick", f"output_dir={tmp_path}/out", f"store_dir={tmp_path}/store"]
        quicker = ["pretrain.steps=100", "tuning.steps=50", f"tuning.learning_rate={2e-3 + seed * 1e-4}"]
        quicker.append(f"pretrain.learning_rate={5e-3 + seed * 1e-4}")
        out = subprocess.run(
            [sys.executable, "-c", COMPILING, *settings, *quicker],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout
        compiled, traced = map(float, out.splitlines()[-1].split())
        said = f"{compiled:.1f} s, {traced:.1f} s with tracing"
        table.append((f"compilation of study=quick, {label}", wanted, said))
