"""How fast prompts are made and written. `make bench` prints; nothing is asserted."""

import resource
import time
from collections.abc import Callable
from pathlib import Path

import jax
import matplotlib
import pytest

from experiments.data.command import main
from experiments.settings.commands import DataConfig
from experiments.settings.config import load
from models.training import pretraining
from models.training.loop import seed_keys
from models.transformer import init
from synth.lookup import sample_batch
from synth.prompts import TRAIN
from synth.random_grammar import GrammarConfig
from synth.tasks import TasksConfig
from synth.world import World, WorldConfig, build_world
from tests.benchmarks.timing import seconds, step_seconds

PLOT = Path("outputs/bench/sampling.png")


def world_of(preset: str) -> World:
    return build_world(load([f"world={preset}"], DataConfig).world)


def batch_seconds(world: World, family: str, size: int) -> float:
    key = jax.random.key(0)
    return seconds(lambda: sample_batch(world, family, TRAIN, key, size), repeats=5)


@pytest.mark.parametrize("preset", ["quick", "small", "paper"])
def test_prompts_a_second(preset: str) -> None:
    world = world_of(preset)
    print(f"\nworld {preset}: text of up to {world.max_text} letters")
    for family in ("pretraining", "safe", "unsafe", "co_text", "misgen_both"):
        for size in (64, 512, 4096):
            elapsed = batch_seconds(world, family, size)
            print(f"  {family:<12} batch {size:5d}: {1e3 * elapsed:7.2f} ms, {size / elapsed:10,.0f} prompts/s")


@pytest.mark.parametrize(("preset", "batch"), [("quick", 64), ("small", 64), ("paper", 32)])
def test_share_of_a_training_step(preset: str, batch: int) -> None:
    config = load([f"world={preset}", f"model={preset}", f"pretrain.batch_size={batch}", "model.context=100"])
    world = build_world(config.world)
    make = jax.jit(lambda key: pretraining.batch(config.pretrain, world, key))
    sampling = seconds(lambda: make(jax.random.key(0)), repeats=20)
    params = jax.vmap(lambda key: init(config.model, world.vocab.size, key))(seed_keys(jax.random.key(0), 1))
    program = pretraining.program(config.pretrain, config.model, config.world)
    step = step_seconds(program, pretraining.schedule(config.pretrain, config.world), params, params)
    print(f"\n{preset}: batch of {batch} in {1e3 * sampling:.2f} ms, step {1e3 * step:.1f} ms: {sampling / step:.1%}")


def test_cost_grows_at_most_linearly() -> None:
    """Seconds a batch against samples, depth and alphabet; a plot."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def world(levels: int = 4, alphabet: int = 30) -> World:
        # Text of 24 letters at every depth: all that grows is how many levels derive it.
        widths = [(1, 1)] * (levels - 3) + [(2, 2), (3, 3)] if levels > 2 else [(6, 6)]
        grammar = GrammarConfig(
            alphabet=alphabet, levels=levels, concept_level=1, branching=tuple(widths), leaf_length=(4, 4)
        )
        return build_world(WorldConfig(grammar=grammar, tasks=TasksConfig(count=8)))

    axes: dict[str, tuple[list[int], Callable[[int], float]]] = {
        "samples in a batch": ([256, 512, 1024, 2048, 4096, 8192], lambda n: batch_seconds(world(), "pretraining", n)),
        "levels of the grammar": ([2, 3, 4, 5, 6, 8], lambda n: batch_seconds(world(levels=n), "pretraining", 2048)),
        "letters of the alphabet": (
            [8, 15, 30, 60, 120],
            lambda n: batch_seconds(world(alphabet=n), "pretraining", 2048),
        ),
    }
    figure, panels = plt.subplots(1, 3, figsize=(8, 2.4), layout="constrained")
    print()
    for panel, (name, (values, measure)) in zip(panels, axes.items(), strict=True):
        times = [1e3 * measure(value) for value in values]
        print(
            f"{name}: " + ", ".join(f"{value} {elapsed:.2f} ms" for value, elapsed in zip(values, times, strict=True))
        )
        panel.plot(values, times, "o-")
        panel.set(xlabel=name, xlim=(0, 1.05 * max(values)), ylim=(0, 1.2 * max(times)))
    panels[0].set_ylabel("ms a batch")
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT)
    plt.close(figure)
    print(f"plot in {PLOT}")


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_export(suffix: str, tmp_path: Path) -> None:
    count = 500_000 if suffix == "parquet" else 50_000
    for preset in ("quick", "paper"):
        path = tmp_path / f"{preset}.{suffix}"
        arguments = [f"world={preset}", "family=unsafe", f"out={path}"]
        main([*arguments, "n=20000"])
        began = time.perf_counter()
        main([*arguments, f"n={count}"])
        elapsed = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"\n{preset} to {suffix}: {count / elapsed:,.0f} prompts/s, peak memory of the process {peak:.2f} GiB")
