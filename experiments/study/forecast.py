"""What a study would make, in about what time and disk: the plan of a run that is not run."""

import functools
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.box import SIMPLE
from rich.table import Table

from experiments.settings.names import UNTOUCHED
from experiments.settings.schema import StudyConfig
from experiments.stages import prompts
from experiments.store.artifacts import Store
from experiments.store.inventory import Entry, Inventory
from experiments.study import engine
from experiments.study.cells import Cell, cells, worlds
from experiments.study.plan import Plan, jobs, plan
from synth import sequences
from synth.world import WorldConfig, build_world

TRAINED = ("pretrain", "tune")
"""Stages that train one model for each seed."""

GUESSED = {"initial": 0.5, "measure": 0.8, "paths": 3.0}
"""Seconds of a quick study's stages that do not train, for when the store has none like it."""
GUESSED_BYTES = {"initial": 2e6, "pretrain": 2e6, "tune": 2e6, "measure": 1e6, "paths": 3e4}
QUICK_SIZE = 3 * 64**2 * 3
"""Layers, squared width, seeds"""
EFFICIENCY = 0.25
"""Share of the speed of a large matrix product that training is guessed to reach."""
DRAWING = 3.0
"""Seconds after which prompts are drawn in no further world."""
COMPILATION = 10.0
"""Seconds of a training program, likewise."""


class Known(NamedTuple):
    """What the store's artifacts of a stage took, the middle one."""

    seconds: float
    """For each unit of work"""
    bytes: float


class StageForecast(NamedTuple):
    """What there is to do of one stage."""

    stage: str
    jobs: int
    trainings: int
    artifacts: int
    there: int
    """Artifacts that the store has already"""
    seconds: float
    bytes: float
    guessed: bool
    """Whether the store has none of this stage to tell by"""


def forecast(config: StudyConfig, warn: Callable[[str], None] = print) -> list[StageForecast]:
    """A line for each stage; nothing is made.

    `warn` gets one line if there are too many worlds to draw prompts in each. Raises UserError and SettingError as a
    run would, StoppedError for another store's format.
    """
    planned = [(cell, plan(cell.config)) for cell in cells(config)]
    engine.check(config.launcher)
    root = Path(config.store_dir)
    # One that is not there yet is not made by looking at it.
    store = Store(root) if (root / "artifacts").is_dir() else None
    known = _known(store) if store else {}
    uses: dict[str, tuple[Cell, Plan]] = {}
    for cell, needed in planned:
        for recipe in needed.recipes:
            uses.setdefault(recipe.key, (cell, needed))
    lines: dict[str, StageForecast] = {}
    compiled: set[tuple[str, str | None]] = set()
    for job in jobs(planned):
        stage = job.stage
        missing = [recipe for recipe in job.recipes if not (store and store.has(recipe))]
        before = lines.get(stage) or StageForecast(stage, 0, 0, 0, 0, 0.0, 0.0, stage not in known)
        seconds = 0.0
        for recipe in missing:
            cell, needed = uses[recipe.key]
            if stage in known:
                pretrained = needed.weights[UNTOUCHED].recipe
                seconds += known[stage].seconds * _work(stage, recipe.settings, pretrained.settings)
            else:
                seconds += _guess(stage, cell.config)
        program = uses[job.recipes[0].key][0].name, job.recipes[0].settings.get("method")
        if missing and stage in TRAINED and stage not in known and program not in compiled:
            seconds += COMPILATION
            compiled.add(program)  # The other worlds share it.
        some = uses[job.recipes[0].key][0].config
        size = known[stage].bytes if stage in known else GUESSED_BYTES[stage] * _relative_size(some)
        lines[stage] = StageForecast(
            stage,
            before.jobs + bool(missing),
            before.trainings + (len(missing) * config.seeds if stage in TRAINED else 0),
            before.artifacts + len(job.recipes),
            before.there + len(job.recipes) - len(missing),
            before.seconds + seconds,
            before.bytes + size * len(missing),
            before.guessed,
        )
    if any(line.jobs for line in lines.values()):
        _check_prompts(worlds([cell for cell, _ in planned]), warn)
    return list(lines.values())


def _check_prompts(worlds: dict[WorldConfig, list[str]], warn: Callable[[str], None]) -> None:
    """Raises SettingError if one of `worlds`, of as many as there is time for, has not the prompts that are asked for.

    The first one's take the longest, for what is compiled with it serves the others.
    """
    until = math.inf
    for number, (world, families) in enumerate(worlds.items()):
        if time.monotonic() > until:
            warn(
                f"prompts were drawn in {number:,} of {len(worlds):,} worlds; the run draws some in each before it "
                "makes anything"
            )
            return
        prompts.check(world, families)
        until = min(until, time.monotonic() + DRAWING)


def render(config: StudyConfig, lines: list[StageForecast]) -> Table:
    """The lines and their sum."""
    cells = len(config.ablation.cells())
    name = f"{config.study}, ablation {config.ablation.name}" if config.ablation.name else config.study
    worlds = f" in each of {config.worlds} worlds" if config.worlds > 1 else ""
    guessed = [line.stage for line in lines if line.guessed and line.jobs]
    out = Table(
        title=f"{name}: {cells} cell{'s' * (cells != 1)}, {config.seeds} seeds{worlds}; nothing is made",
        caption="one after the other on this machine, by what the store's artifacts took"
        + (f"; guessed for {', '.join(guessed)}, of which it has none" if guessed else ""),
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
        show_footer=True,
    )
    total = [sum(getattr(line, field) for line in lines) for field in StageForecast._fields[1:7]]
    out.add_column("stage", "total", no_wrap=True)
    headings = ("artifacts", "there", "jobs", "trainings", "about", "disk")
    jobs_, trainings, artifacts, there, seconds, bytes_ = total
    foot = (artifacts, there, jobs_, trainings, _said(seconds), f"{bytes_ / 1e6:,.0f} MB")
    for heading, sum_ in zip(headings, foot, strict=True):
        out.add_column(heading, str(sum_), justify="right", no_wrap=True)
    for line in lines:
        shown = (line.artifacts, line.there, line.jobs, line.trainings or "")
        out.add_row(line.stage, *map(str, shown), _said(line.seconds), f"{line.bytes / 1e6:,.0f} MB")
    return out


def _known(store: Store) -> dict[str, Known]:
    entries = Inventory(store).by_key
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}
    for entry in entries.values():
        # Along the last parents lies the pretraining that it descends from.
        base: Entry | None = entry
        while base and base.parents:
            base = entries.get(base.parents[-1])
        if base is None or not entry.seconds:
            continue
        try:
            work = _work(entry.stage, entry.settings, base.settings)
        except (KeyError, TypeError):
            continue  # Made by a version that had other settings.
        seconds.setdefault(entry.stage, []).append(entry.seconds / work)
        sizes.setdefault(entry.stage, []).append(entry.size)
    return {stage: Known(statistics.median(seconds[stage]), statistics.median(sizes[stage])) for stage in seconds}


def _work(stage: str, own: dict[str, Any], pretrained: dict[str, Any]) -> float:
    """In units that seconds are about proportional to within a stage."""
    size = pretrained["model"]["layers"] * pretrained["model"]["width"] ** 2 * pretrained["seeds"]
    if stage == "initial":
        return size
    if stage == "pretrain":
        return size * own["pretrain"]["steps"] * own["pretrain"]["batch_size"]
    if stage == "tune":
        return size * own["tuning"]["steps"] * own["tuning"]["batch_size"]
    if stage in ("measure", "responses"):
        return size * own["asked"]["prompts"]
    return size * own["paths"]["prompts"] * len(own["models"]) ** 2


def _guess(stage: str, config: StudyConfig) -> float:
    if stage not in TRAINED:
        return GUESSED[stage] * max(1.0, _relative_size(config))
    training = config.pretrain if stage == "pretrain" else config.tuning
    tokens = sequences.size(build_world(config.world)).whole * training.batch_size * training.steps
    weights = (4 + 2 * config.model.mlp_ratio) * QUICK_SIZE * _relative_size(config)
    return 6 * weights * tokens / (EFFICIENCY * _matmul_speed())


def _relative_size(config: StudyConfig) -> float:
    """Of all seeds' models together, the quick study's being 1."""
    return config.model.layers * config.model.width**2 * config.seeds / QUICK_SIZE


@functools.cache
def _matmul_speed() -> float:
    """FLOP/s of a large float32 matrix product on this machine."""
    matrix = jnp.ones((1024, 1024))
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(matrix))
    began = time.perf_counter()
    jax.block_until_ready(product(matrix))
    return 2 * 1024**3 / (time.perf_counter() - began)


def _said(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
