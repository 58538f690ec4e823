"""Settings from YAML and the command line, composed by Hydra, to one checked StudyConfig."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.schema import StudyConfig
from synth.settings import SettingError

CONF = Path(__file__).parent / "conf"


class ConfigError(ValueError):
    """Settings that cannot be used; the message is one line for the user."""


def load(overrides: Sequence[str]) -> StudyConfig:
    """The study that `overrides` ("study=quick", "seeds=5", ...) describe.

    Raises ConfigError, one line that names the setting, the value, the bound and the fix.
    """
    for override in overrides:
        if not re.match(r"[\w.]+=", override):
            raise ConfigError(f"{override!r} is not a setting: write name=value, for example seeds=5")
    ConfigStore.instance().store(name="schema", node=StudyConfig)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("config", overrides=list(overrides))
        return build(StudyConfig, composed)
    except SettingError as error:
        raise ConfigError(str(error)) from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(_one_line(error, overrides)) from None


def build(kind: Any, node: DictConfig, path: str = "") -> Any:
    """The dataclass `kind` from a composed node; errors carry the setting's full name."""
    values = {}
    for name in map(str, node):
        child = node._get_node(name)
        full = f"{path}.{name}" if path else name
        if isinstance(child, DictConfig):
            values[name] = build(OmegaConf.get_type(child), child, full)
        else:
            values[name] = OmegaConf.to_container(child) if OmegaConf.is_list(child) else node[name]
    try:
        return kind(**values)
    except SettingError as error:
        raise (error.within(path) if path else error) from None


def to_dict(config: Any) -> Any:
    """A dataclass as plain dictionaries and lists, for YAML, JSON and hashing."""
    return OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)


def _names(node: Any, prefix: str = "") -> list[str]:
    """The full name of every setting below a plain nested dictionary."""
    found = []
    for name, child in node.items():
        found += _names(child, f"{prefix}{name}.") if isinstance(child, dict) else [f"{prefix}{name}"]
    return found


def _one_line(error: Exception, overrides: Sequence[str]) -> str:
    """What Hydra or OmegaConf found wrong, in one line that says what to do."""
    groups = [folder.name for folder in CONF.iterdir() if folder.is_dir()]
    known = [*_names(to_dict(StudyConfig())), *groups]
    for override in overrides:
        name = override.partition("=")[0]
        if name not in known and not any(setting.startswith(f"{name}.") for setting in known):
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else "--show lists the settings"
            return f"{name}: there is no such setting; {hint}"
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", str(error))
    if missing:
        group, option = missing.groups()
        options = sorted(preset.stem for preset in (CONF / group).glob("*.yaml"))
        return f"{group}={option}: there is no such preset; choose from {', '.join(options)}"
    cause = error.__cause__ or error
    reason = re.sub(r"\s+", " ", str(cause).split("full_key:")[0].split("See https:")[0]).strip()
    at_fault = [o for o in overrides if o in str(error)] or list(overrides)
    name, _, value = at_fault[0].partition("=")
    return f"{name}={value}: {reason}; --show lists the settings and their values"
