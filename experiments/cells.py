"""The cells of a study: itself, or itself again for each point of its ablation, checked before anything runs."""

import dataclasses
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config import ConfigError, build, explained
from experiments.schema import AblationConfig, LauncherConfig, StudyConfig
from synth.settings import SettingError, naming

UNSWEPT = ("ablation", "launcher", "dry_run", "output_dir", "store_dir", "study", "seeds", "methods")
"""Settings of the study as a whole, which its cells share."""


class Cell(NamedTuple):
    """One point of an ablation, or all of a study without one."""

    name: str
    """Empty for a study without an ablation"""
    settings: dict[str, Any]
    """What the ablation sets here, by full name"""
    config: StudyConfig
    """A study without an ablation"""


def cells(config: StudyConfig) -> list[Cell]:
    """Every cell of a study, in the order of its ablation.

    Raises ConfigError, one line that names the cell, for a setting that does not exist or a
    value that cannot be.
    """
    # What tells how to run the study is no cell's.
    bare = dataclasses.replace(config, ablation=AblationConfig(), launcher=LauncherConfig(), dry_run=False)
    return [
        Cell(name, settings, _changed(bare, settings, f"ablation {config.ablation.name}, cell {name}"))
        for name, settings in config.ablation.cells().items()
    ]


def _changed(config: StudyConfig, settings: dict[str, Any], where: str) -> StudyConfig:
    try:
        for name, value in settings.items():
            if name.split(".")[0] in UNSWEPT:
                raise ConfigError(f"{where}: {name} is of the study as a whole; sweep a setting of a cell")
            config = _with(config, name.split("."), value)
    except SettingError as error:
        raise ConfigError(f"{where}: {error}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {name}={value}: {explained(error)}; --show lists the settings") from None
    return config


def _with(config: Any, path: list[str], value: Any) -> Any:
    """The dataclass with one setting changed; only what is on the way to it is checked again."""
    name, *rest = path
    if name not in {field.name for field in dataclasses.fields(config)}:
        known = ", ".join(field.name for field in dataclasses.fields(config))
        raise SettingError(name, value, "there is no such setting", f"choose from {known}")
    if rest and dataclasses.is_dataclass(getattr(config, name)):
        with naming(name):
            inner = _with(getattr(config, name), rest, value)
        return dataclasses.replace(config, **{name: inner})
    node = OmegaConf.structured(config)
    assert isinstance(node, DictConfig)
    OmegaConf.update(node, ".".join(path), value, merge=False)
    return build(type(config), node)
