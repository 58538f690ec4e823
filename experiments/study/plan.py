"""What a study consists of: stages, and the jobs that make them, known before anything is made."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from analysis.suite import BETWEEN, MEASUREMENTS
from experiments.settings.names import RANDOM, UNTOUCHED
from experiments.settings.nodes import Node, nodes
from experiments.settings.schema import StudyConfig
from experiments.stages import stage
from experiments.stages.initial import Initial
from experiments.stages.measure import Asked, Measure, Measured
from experiments.stages.paths import Paths
from experiments.stages.pretrain import Pretrain
from experiments.stages.responses import Responses
from experiments.stages.runs import Runner
from experiments.stages.stage import Stage
from experiments.stages.tune import TRACED, Tune
from experiments.stages.weights import ModelStage
from experiments.store.artifacts import Store
from experiments.store.manifest import Recipe
from experiments.study.cells import Cell
from models.training.methods import CONTROLS
from synth.grammar_source import Grammars
from synth.world import without_safety


class Plan(NamedTuple):
    """The stages of one cell; equal stages of different cells and studies have equal keys."""

    nodes: dict[str, Node]
    weights: dict[str, ModelStage]
    """By model: UNTOUCHED, each node and, where it is measured, RANDOM"""
    measured: dict[str, list[Measured]]
    """By model, each measurement of it and of its snapshots"""
    paths: Paths | None
    """None where there is but one tuned model, or controls alone, or it is not asked for"""

    @property
    def stages(self) -> list[Stage]:
        """All of them, each after those it is made from."""
        measured = [one for of in self.measured.values() for one in of]
        return [*self.weights.values(), *measured, *([self.paths] if self.paths else [])]

    @property
    def recipes(self) -> list[Recipe]:
        """Of all of them."""
        return [one.recipe for one in self.stages]

    @property
    def tuned(self) -> dict[str, Tune]:
        """By node."""
        return {model: one for model, one in self.weights.items() if isinstance(one, Tune)}


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


def plan(config: StudyConfig) -> Plan:
    """Which stages one cell needs."""
    world = config.world
    begun = Initial(without_safety(world), config.model, config.seeds, config.first_seed)
    pretrained = Pretrain(begun.world, begun.model, begun.seeds, begun.first_seed, config.pretrain)
    weights: dict[str, ModelStage] = {UNTOUCHED: pretrained}
    source = Grammars(world)
    families = source.families
    of_study = nodes(config)
    for name, node in of_study.items():
        start = weights[node.start]
        weights[name] = Tune(world, node.method, node.tuning, node.coefficients, start, families)
    if config.random_model:
        weights[RANDOM] = begun
    analysis = config.analysis
    asked = Asked(
        source,
        analysis.families or families,
        analysis.prompts,
        analysis.validation,
        analysis.clusters.window,
        analysis.prompts_before,
    )
    measured: dict[str, list[Measured]] = {}
    wanted = [row for row in MEASUREMENTS if row in analysis.measurements]
    for name, one in weights.items():
        reference = weights[of_study[name].reference] if name in of_study else one
        rows = [row for row in wanted if name != RANDOM or MEASUREMENTS[row].of_random]
        followed = one.tuning.snapshots if isinstance(one, Tune) else ()
        of: dict[int | None, Sequence[str]] = {None: rows, **dict.fromkeys(followed, config.over_training)}
        measured[name] = [
            Measure(one, reference, asked, step, row, MEASUREMENTS[row].given(analysis))
            for step, chosen in of.items()
            for row in chosen
        ]
        measured[name].append(Responses(one, reference, asked, None))
    # Only changes of the same model can be added to one another.
    tuned = {name: one for name, one in weights.items() if isinstance(one, Tune) and of_study[name].start == UNTOUCHED}
    controls = tuple(name for name in tuned if of_study[name].method in CONTROLS)
    compared = BETWEEN in analysis.measurements and len(tuned) > 1 and len(controls) < len(tuned)
    paths = Paths(source, asked.families, config.paths, tuned, controls, pretrained) if compared else None
    return Plan(of_study, weights, measured, paths)


def jobs(planned: Sequence[tuple[Cell, Plan]]) -> list[Job]:
    """The work of all cells, nothing twice, cell by cell and each job after those it needs.

    Tunings of several cells that differ in nothing but traced settings are one job, unless one may be stopped.
    """
    several = len({cell.world_seed for cell, _ in planned if cell.name == planned[0][0].name}) > 1
    groups: dict[Hashable, list[Stage]] = {}
    users: dict[str, list[str]] = {}
    first: dict[str, Cell] = {}
    models: dict[str, str] = {}
    for cell, needed in planned:
        models |= {one.recipe.key: model for model, one in needed.weights.items()}
        for one in needed.stages:
            key = one.recipe.key
            if key not in users:
                groups.setdefault(_together(one), []).append(one)
                first[key] = cell
            users.setdefault(key, []).append(cell.name)
    found = []
    for stages in groups.values():
        cells = list(dict.fromkeys(name for one in stages for name in users[one.recipe.key]))
        what = _called(_what(stages[0], models), cells, first[stages[0].recipe.key] if several else None)
        parents = {parent.recipe.key: parent.recipe for one in stages for parent in one.parents}
        make = partial(stage.make, stages)
        found.append(Job(what, tuple(one.recipe for one in stages), tuple(parents.values()), make))
    return found


def _together(one: Stage) -> Hashable:
    """What stages that one computation makes have in common."""
    if isinstance(one, Measured):
        return one.weights.recipe.key, one.reference.recipe.key, one.step is None, one.asked
    if not isinstance(one, Tune) or one.tuning.watch.guard == "stop":
        return one.recipe.key  # A tuning that is stopped would stop those beside it.
    common = {name: value for name, value in one.recipe.settings.items() if name != "coefficients"}
    common["tuning"] = {name: value for name, value in common["tuning"].items() if name not in TRACED}
    return json.dumps([common, one.recipe.parents], sort_keys=True)


def _what(one: Stage, models: Mapping[str, str]) -> str:
    """For people; `models` has the names of the models by the keys of their weights."""
    if isinstance(one, Measured):
        return f"measure {'' if one.step is None else 'snapshots of '}{models[one.weights.recipe.key]}"
    if isinstance(one, Tune):
        return f"tune {models[one.recipe.key]}"
    return {Initial.name: "initial weights", Paths.name: "measure between models"}.get(one.name, one.name)


def _called(what: str, cells: Sequence[str], of_worlds: Cell | None) -> str:
    """With the cell or the number of cells that it is for, and of a study of several worlds the world."""
    where = cells[0] if len(cells) == 1 else f"{len(cells)} cells"
    world = f"world {of_worlds.world_seed}" if of_worlds else ""
    return ", ".join(filter(None, (what, where, world)))
