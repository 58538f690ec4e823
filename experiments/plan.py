"""What a study consists of: artifacts, and the jobs that make them, known before anything is made."""

import functools
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from analysis.suite import MEASUREMENTS
from experiments.artifacts import Recipe, Store
from experiments.cells import Cell
from experiments.config import to_dict
from experiments.results import RANDOM, UNTOUCHED
from experiments.schema import StudyConfig
from experiments.stages import initial, measure, over_training, paths, pretrain, tune
from experiments.training import Runner
from synth.families import existing
from synth.world import build_world

ABOUT_SAFETY = ("safety", "coverage")
"""Settings of a world that pretraining does not depend on."""


class Plan(NamedTuple):
    """The artifacts of one cell; equal parts of different cells and studies have equal keys."""

    pretrain: Recipe
    tune: dict[str, Recipe]
    """By method"""
    initial: Recipe | None
    """None where the models before any training are not measured"""
    measure: dict[str, Recipe]
    """By model: UNTOUCHED, each method and RANDOM"""
    paths: Recipe | None
    """None where there is but one tuned model"""
    over_training: dict[str, Recipe]
    """By method; empty without snapshots of tuning"""

    @property
    def weights(self) -> dict[str, Recipe]:
        """By model, the artifact that holds its weights."""
        before = {RANDOM: self.initial} if self.initial else {}
        return {UNTOUCHED: self.pretrain, **self.tune, **before}

    @property
    def recipes(self) -> list[Recipe]:
        """All of them, each after those it is made from."""
        between = [self.paths] if self.paths else []
        return [*self.weights.values(), *self.measure.values(), *self.over_training.values(), *between]


class Job(NamedTuple):
    """Artifacts that are made together."""

    what: str
    """For people"""
    recipes: tuple[Recipe, ...]
    parents: tuple[Recipe, ...]
    """What must have been made before"""
    make: Callable[[Store, Runner], object]

    @property
    def stage(self) -> str:
        return self.recipes[0].stage


MEASURING = ("measure", "over_training", "paths")
PHASES = (("initial", "pretrain"), ("tune",), MEASURING)
"""Stages whose jobs do not wait for one another."""

OF_RANDOM = ("behaviour", "clusters", "separability", "sensitivity")
"""The measurements of RANDOM: there is no change of weights, and nothing that it does to change."""

_settings = functools.lru_cache(maxsize=4096)(to_dict)
"""Cells have most of their settings in common."""


def plan(config: StudyConfig) -> Plan:
    """Which artifacts one cell needs."""
    world = _settings(config.world)
    shared = {name: _without(_settings(getattr(config, name)), "name") for name in ("model", "pretrain")}
    # Pretraining knows nothing of safety: worlds that differ in that alone share it.
    unsafe = {name: world[name] for name in ABOUT_SAFETY}
    seeds = {"seeds": config.seeds, "first_seed": config.first_seed}
    common = {"world": _without(world, "name", *ABOUT_SAFETY), **seeds}
    pretrained = pretrain.recipe({**shared, **common})
    tuned = {
        method: tune.recipe(
            {
                "tuning": _settings(config.tuning),
                "method": method,
                "coefficients": _settings(getattr(config.method, method)),
                **unsafe,
            },
            pretrained,
        )
        for method in config.methods
    }
    analysis = _settings(config.analysis)
    measured = {
        model: measure.recipe({"analysis": analysis, **unsafe}, weights, pretrained)
        for model, weights in {UNTOUCHED: pretrained, **tuned}.items()
    }
    # Said as of the tuned models, so that its measurements are told from those of the untouched one.
    first = initial.recipe({"model": shared["model"], **common, "method": RANDOM}) if config.random_model else None
    if first:
        few = {"analysis": analysis, "measurements": list(OF_RANDOM), **unsafe}
        measured[RANDOM] = measure.recipe(few, first, first)
    compared = {"families": analysis["families"], "paths": _settings(config.paths), **unsafe}
    between = paths.recipe(compared, tuned, pretrained) if len(tuned) > 1 else None
    on_the_way = {"analysis": analysis, "over_training": list(config.over_training), **unsafe}
    followed = tuned if config.tuning.snapshots and config.over_training else {}
    snapshots = {method: over_training.recipe(on_the_way, one, pretrained) for method, one in followed.items()}
    return Plan(pretrained, tuned, first, measured, between, snapshots)


def _without(settings: dict[str, object], *names: str) -> dict[str, object]:
    """A preset's name, for one, is a label: the same settings under another name are the same thing."""
    return {name: value for name, value in settings.items() if name not in names}


def jobs(planned: Sequence[tuple[Cell, Plan]]) -> list[Job]:
    """The work of all cells, nothing twice, cell by cell and each job after those it needs.

    Tunings of several cells that differ in nothing but traced settings are one job, unless one may be stopped.
    """
    several = len({cell.world_seed for cell, _ in planned if cell.name == planned[0][0].name}) > 1
    programs: dict[str, Group] = {}
    groups: dict[str, Group] = {}
    users: dict[str, list[str]] = {}
    for cell, needed in planned:
        for recipe in needed.tune.values():
            if recipe.key not in groups:
                groups[recipe.key] = programs.setdefault(_program(recipe), [])
                groups[recipe.key].append((cell, recipe))
        for recipe in needed.recipes:
            users.setdefault(recipe.key, []).append(cell.name)
    found: dict[str, Job] = {}
    for cell, needed in planned:
        for job in _of_cell(cell.config, needed, groups):
            first = job.recipes[0].key
            if first not in found:
                cells = list(dict.fromkeys(name for recipe in job.recipes for name in users[recipe.key]))
                found[first] = job._replace(what=_called(job.what, cells, cell if several else None))
    return list(found.values())


def _program(recipe: Recipe) -> str:
    """What tunings that train side by side have in common."""
    if recipe.settings["tuning"]["watch"]["guard"] == "stop":
        return recipe.key  # One that is stopped would stop those beside it.
    common = {name: value for name, value in recipe.settings.items() if name != "coefficients"}
    common["tuning"] = _without(common["tuning"], *tune.TRACED)
    return json.dumps([common, recipe.parents], sort_keys=True)


Group = list[tuple[Cell, Recipe]]
"""Tunings that train together, each with a cell that it is for."""


def _of_cell(config: StudyConfig, needed: Plan, groups: dict[str, Group]) -> list[Job]:
    """The jobs of one cell; `groups` are by the key of each member."""
    pretrained = needed.pretrain
    found = [Job("pretrain", (pretrained,), (), partial(_pretrain, pretrained, config))]
    for method, recipe in needed.tune.items():
        members = groups[recipe.key]
        if members[0][1] is not recipe:
            continue  # Tuned with the cell of the first of them.
        recipes = tuple(member for _, member in members)
        tunings = [tune.Tuning(cell.config.tuning, getattr(cell.config.method, method)) for cell, _ in members]
        make = partial(_tune, recipes, pretrained, config, method, tunings)
        found.append(Job(f"tune {method}", recipes, (pretrained,), make))
    if needed.initial:
        found.append(Job("initial weights", (needed.initial,), (), partial(_initial, needed.initial, config)))
    for model, recipe in needed.measure.items():
        weights = needed.weights[model]
        reference, of = (weights, OF_RANDOM) if model == RANDOM else (pretrained, tuple(MEASUREMENTS))
        parents = (weights,) if weights is reference else (weights, reference)
        make = partial(_measure, recipe, weights, reference, of, config)
        found.append(Job(f"measure {model}", (recipe,), parents, make))
    for method, recipe in needed.over_training.items():
        make = partial(_measure_snapshots, recipe, needed.tune[method], pretrained, config)
        found.append(Job(f"measure snapshots of {method}", (recipe,), (needed.tune[method], pretrained), make))
    if needed.paths:
        make = partial(_paths, needed.paths, needed.tune, pretrained, config)
        found.append(Job("measure between models", (needed.paths,), (*needed.tune.values(), pretrained), make))
    return found


def _called(what: str, cells: Sequence[str], of_worlds: Cell | None) -> str:
    """For people, with the cell or the number of cells that it is for, and of a study of several worlds the world."""
    where = cells[0] if len(cells) == 1 else f"{len(cells)} cells"
    world = f"world {of_worlds.world_seed}" if of_worlds else ""
    return ", ".join(filter(None, (what, where, world)))


def _initial(recipe: Recipe, config: StudyConfig, store: Store, runner: Runner) -> None:
    initial.run(store, recipe, config.world, config.model, config.seeds, config.first_seed)


def _pretrain(recipe: Recipe, config: StudyConfig, store: Store, runner: Runner) -> None:
    pretrain.run(store, recipe, runner, config.world, config.model, config.pretrain, config.seeds, config.first_seed)


def _tune(
    recipes: Sequence[Recipe],
    pretrained: Recipe,
    config: StudyConfig,
    method: str,
    tunings: Sequence[tune.Tuning],
    store: Store,
    runner: Runner,
) -> None:
    before = store.get(pretrained)
    tune.run(store, recipes, runner, config.world, config.model, method, tunings, before, config.first_seed)


def _measure(
    recipe: Recipe,
    weights: Recipe,
    reference: Recipe,
    measurements: tuple[str, ...],
    config: StudyConfig,
    store: Store,
    runner: Runner,
) -> None:
    given = store.get(weights), store.get(reference)
    measure.run(store, recipe, config.world, config.model, config.analysis, *given, config.first_seed, measurements)


def _measure_snapshots(
    recipe: Recipe, tuned: Recipe, pretrained: Recipe, config: StudyConfig, store: Store, runner: Runner
) -> None:
    of = config.analysis, config.over_training, config.tuning.snapshots
    given = store.get(tuned), store.get(pretrained)
    over_training.run(store, recipe, config.world, config.model, *of, *given, config.first_seed)


def _paths(
    recipe: Recipe, tuned: dict[str, Recipe], pretrained: Recipe, config: StudyConfig, store: Store, runner: Runner
) -> None:
    families = config.analysis.families or existing(build_world(config.world))
    models: dict[str, Any] = {method: store.get(one) for method, one in tuned.items()}
    before = store.get(pretrained)
    paths.run(store, recipe, config.world, config.model, config.paths, families, models, before, config.first_seed)
