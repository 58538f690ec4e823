"""The cells of a study: itself, or itself again for each point of its ablation, checked before anything runs."""

import dataclasses
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

from experiments.findings.claims import PAPERS
from experiments.settings.changed import changed
from experiments.settings.nodes import nodes
from experiments.settings.schema import SIDE_SETTINGS, AblationConfig, LauncherConfig, StudyConfig
from synth.settings import SettingError, UserError, require
from synth.world import WorldConfig

UNSWEPT = (
    "ablation",
    "study",
    "seeds",
    "worlds",
    "first_seed",
    "random_model",
    "methods",
    "attacks",
    "nodes",
    "papers",
    *SIDE_SETTINGS,
)
"""Settings of the study as a whole, which its cells share."""


class Cell(NamedTuple):
    """One point of an ablation, or all of a study without one."""

    name: str
    """Empty for a study without an ablation"""
    settings: dict[str, Any]
    """What the ablation sets here, by full name"""
    config: StudyConfig
    """A study of one world without an ablation"""

    @property
    def world_seed(self) -> int:
        """Which world: of several a cell is in each, under one name."""
        return self.config.world.seed

    @property
    def seeds(self) -> range:
        """The numbers of its seeds, which no other world of the cell has."""
        return range(self.config.first_seed, self.config.first_seed + self.config.seeds)


def cells(config: StudyConfig) -> list[Cell]:
    """Every cell of a study, in the order of its ablation, once for each world.

    In world number i, `world.seed` is i higher and `first_seed` i times `seeds`: what is in fewer worlds
    is in more of them too. Raises UserError, one line that names the cell, for a setting that does not
    exist or a value that cannot be.
    """
    _check_papers(config.papers)
    # What tells how to run the study is no cell's.
    bare = dataclasses.replace(config, ablation=AblationConfig(), launcher=LauncherConfig(), dry_run=False)
    found = []
    for name, settings in config.ablation.cells().items():
        where = f"ablation {config.ablation.name}, cell {name}"
        if config.worlds > 1 and "world.seed" in settings:
            raise UserError(f"{where}: world.seed is what worlds={config.worlds} varies; set worlds=1, or leave it")
        of_cell = _changed(bare, settings, where)
        try:
            nodes(of_cell)
            found += [Cell(name, settings, _in_world(of_cell, number)) for number in range(config.worlds)]
        except SettingError as error:
            raise UserError(f"{f'{where}: ' * bool(name)}{error}") from None
    return found


def _check_papers(names: Sequence[str]) -> None:
    for name in names:
        require(name in PAPERS, "papers", name, f"must be among {', '.join(PAPERS)}", "choose from these")
    require(len(set(names)) == len(names), "papers", list(names), "must not repeat a paper", "name each once")


def worlds(cells: Sequence[Cell]) -> dict[WorldConfig, list[str]]:
    """Every world that is not equal to another, with the families that are asked for by name in it."""
    found: dict[WorldConfig, list[str]] = {}
    for cell in cells:
        found.setdefault(cell.config.world, []).extend(cell.config.analysis.families or ())
    return found


def _in_world(config: StudyConfig, number: int) -> StudyConfig:
    """The cell's replicate in the world of that number. Raises SettingError where the world cannot be."""
    if config.worlds == 1:
        return config
    world = dataclasses.replace(config.world, seed=config.world.seed + number)
    return dataclasses.replace(config, worlds=1, first_seed=config.first_seed + number * config.seeds, world=world)


def swept(cells: Sequence[Cell]) -> dict[str, list[Any]]:
    """Every setting that some cell sets, with its value in each of them."""
    names = dict.fromkeys(name for cell in cells for name in cell.settings)
    return {
        name: [cell.settings[name] if name in cell.settings else _value(cell.config, name) for cell in cells]
        for name in names
    }


def _value(config: StudyConfig, name: str) -> Any:
    found = reduce(getattr, name.split("."), config)
    return list(found) if isinstance(found, tuple) else found


def _changed(config: StudyConfig, settings: dict[str, Any], where: str) -> StudyConfig:
    for name in settings:
        if name.split(".")[0] in UNSWEPT:
            raise UserError(f"{where}: {name} is of the study as a whole; sweep a setting of a cell")
    try:
        made: StudyConfig = changed(config, settings)
    except SettingError as error:
        raise UserError(f"{where}: {error}") from None
    return made
