"""What the training stages write: weights as safetensors, and as Parquet what was seen on the way."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.progress import Reporter
from experiments.stages.runs import DivergedError, Trained, Watch, look_steps
from experiments.store.manifest import Artifact
from models.training.watch import WatchConfig, look
from models.transformer import ModelConfig, Params
from models.weights import Described, from_safetensors, to_safetensors
from synth.evaluation import drawn
from synth.prompts import VALIDATION
from synth.settings import naming
from synth.world import WorldConfig, build_world

WEIGHTS = "weights.safetensors"
LOG = "log.parquet"
"""A row for each step and seed: loss, its parts, norms."""
CURVES = "curves.parquet"
"""A row for each look, seed and family: shares complied and refused, log p of both responses."""
SPEED = "speed.parquet"
"""A row for each chunk of steps that this machine timed: seconds a step, samples and tokens a second."""


def snapshot(step: int) -> str:
    """The file of the weights after `step` steps, where training kept them."""
    return f"weights-{step}.safetensors"


def save_training(
    folder: Path, trained: Trained, described: Described, every: int, families: Sequence[str], first_seed: int
) -> None:
    """The files of a finished training whose Watch looked at `families`; its runs are seeds from `first_seed` on."""
    (folder / WEIGHTS).write_bytes(to_safetensors(trained.params, described))
    for reached, params in trained.snapshots.items():
        (folder / snapshot(reached)).write_bytes(to_safetensors(params, described))
    steps, seeds = trained.log["loss"].shape
    step, seed = np.divmod(np.arange(steps * seeds), seeds)
    columns = {name: values.ravel() for name, values in trained.log.items()}
    pd.DataFrame({"step": step, "seed": first_seed + seed, **columns}).to_parquet(folder / LOG, index=False)
    frames = [
        pd.DataFrame({name: values[:, seed, i] for name, values in trained.looks.items()}).assign(
            step=look_steps(steps, every), seed=first_seed + seed, family=family
        )
        for seed in range(seeds)
        for i, family in enumerate(families)
    ]
    curves = pd.concat(frames, ignore_index=True).sort_values(["step", "seed"], kind="stable")
    curves[["step", "seed", "family", *trained.looks]].to_parquet(folder / CURVES, index=False)
    pd.DataFrame(trained.speed).to_parquet(folder / SPEED, index=False)


def described(model: ModelConfig, world: WorldConfig) -> Described:
    """What is said in the file of a model trained in `world`."""
    vocab = build_world(world).vocab
    return Described(model, tuple(vocab.names()), vocab.marks)


def watch(
    reporter: Reporter,
    name: str,
    config: WatchConfig,
    world: WorldConfig,
    model: ModelConfig,
    families: Sequence[str],
    runs: Sequence[str],
) -> Watch:
    """Looks at prompts of `families` that are chosen by, as a guard that stops a training chooses by what it sees.

    The guard judges by the family `safe`. `runs` names the runs.
    """

    def see(params: Params) -> dict[str, np.ndarray]:
        with naming("world"):
            prompts = {family: tuple(drawn(world, family, config.prompts, VALIDATION)[1]) for family in families}
        seen = look(model, params, prompts)
        return {
            metric: np.stack([np.asarray(seen[family][metric]) for family in families], axis=-1)
            for metric in seen[families[0]]
        }

    return Watch(config.every, see, guard(reporter, name, config, families, runs))


def guard(
    reporter: Reporter, name: str, config: WatchConfig, families: Sequence[str], runs: Sequence[str]
) -> Callable[[int, int, dict[str, np.ndarray]], None]:
    """Says, once for each run, or stops, when one complies with less than the floor of safe prompts."""
    warned: set[int] = set()

    def judge(step: int, first: int, seen: dict[str, np.ndarray]) -> None:
        if config.guard == "off" or "safe" not in families:
            return
        safe = seen["complied"][:, list(families).index("safe")]
        for i in map(int, np.flatnonzero(safe < config.floor)):
            line = (
                f"{name}: {runs[first + i]} complies with {safe[i]:.0%} of safe prompts at step {step}, below the "
                f"watch's floor of {config.floor:.0%}"
            )
            if config.guard == "stop":
                raise DivergedError(f"{line}; weaken the method's coefficients, or set watch.guard=warn to go on")
            if first + i not in warned:
                warned.add(first + i)
                reporter.warn(line)

    return judge


def load_weights(artifact: Artifact, file: str = WEIGHTS) -> Params:
    """The weights of a training stage, with a leading axis of seeds; `file` may be that of a `snapshot`."""
    return from_safetensors((artifact.path / file).read_bytes())
