"""Where a study came from: its question, the settings that make it what it is, how to make it again."""

import hashlib
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from experiments.config import CONF, ConfigError, load, to_dict
from experiments.report.folder import Study
from experiments.schema import SIDE_SETTINGS, StudyConfig

ABLATION = "ablation"
GROUPS = ("world", "model")
"""Groups of settings that keep the name of their preset."""


class Setting(NamedTuple):
    """A setting by its full name, as YAML."""

    name: str
    here: str
    default: str
    differs: bool


class Origin(NamedTuple):
    """What the page says of where a study came from."""

    question: str
    against: str
    """What the settings are compared with"""
    settings: list[Setting]
    command: str
    exact: bool
    """Whether the command gives these settings; else it reads them from the folder"""
    folder: str
    config_hash: str
    results_hash: str
    artifacts: list[tuple[str, str, str, str]]
    """Cell, model and the artifacts of its weights and measurements"""

    @property
    def changed(self) -> list[Setting]:
        """The settings that differ."""
        return [setting for setting in self.settings if setting.differs]


def describe(study: Study, folder: Path) -> Origin:
    """Of the study in `folder`."""
    here = flat({name: value for name, value in study.settings.items() if name != ABLATION})
    preset, overrides = _preset(study)
    defaults = flat(preset)
    settings = [
        Setting(name, plain(value), plain(defaults[name]) if name in defaults else "", _differs(name, value, defaults))
        for name, value in here.items()
    ]
    overrides += [f"{setting.name}={setting.here}" for setting in settings if setting.differs]
    ablation = (study.settings.get(ABLATION) or {}).get("name")
    exact = not any(setting.differs for setting in settings) or _gives(overrides, here)
    words = [*overrides, *([f"{ABLATION}={ablation}"] if ablation else [])] if exact else [f"resume={folder.name}"]
    results = folder / "results.parquet"
    return Origin(
        question=_question(study),
        against=f"the preset study={study.name}" if _is_preset("study", study.name) else "the defaults in the code",
        settings=settings,
        command=shlex.join(["python", "-m", "experiments.run", *words]),
        exact=exact,
        folder=folder.name,
        config_hash=folder.name.rpartition("-")[2],
        results_hash=hashlib.sha256(results.read_bytes()).hexdigest() if results.exists() else "",
        artifacts=[
            (cell, model, Path(places.get("weights", "")).name, Path(places.get("measured", "")).name)
            for cell, models in study.models.items()
            for model, places in models.items()
        ],
    )


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting of nested dictionaries, by its full name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def plain(value: Any) -> str:
    """A value as it is written behind a setting's name."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").replace(", ", ",").replace(": ", ":")


def _differs(name: str, value: Any, defaults: dict[str, Any]) -> bool:
    return name not in SIDE_SETTINGS and (name not in defaults or defaults[name] != value)


def _preset(study: Study) -> tuple[dict[str, Any], list[str]]:
    """What the presets named in the settings say, and the overrides that choose them."""
    if not _is_preset("study", study.name):
        return to_dict(StudyConfig()), []
    overrides = [f"study={study.name}"]
    preset = to_dict(load(overrides))
    for group in GROUPS:
        name = study.settings.get(group, {}).get("name")
        if name != preset[group]["name"] and _is_preset(group, name):
            overrides.append(f"{group}={name}")
    if len(overrides) == 1:
        return preset, overrides
    try:
        return to_dict(load(overrides)), overrides
    except ConfigError:
        # The presets alone need not fit one another: a world may be too long for a model.
        return preset, overrides[:1]


def _is_preset(group: str, name: Any) -> bool:
    return bool(re.fullmatch(r"[\w-]+", str(name))) and (CONF / group / f"{name}.yaml").is_file()


def _gives(overrides: list[str], here: dict[str, Any]) -> bool:
    """Whether the overrides compose to these settings."""
    try:
        there = flat(to_dict(load(overrides)))
    except ConfigError:
        return False
    names = {name for name in {**here, **there} if name.split(".")[0] not in (*SIDE_SETTINGS, ABLATION)}
    return all(name in here and name in there and here[name] == there[name] for name in names)


def _question(study: Study) -> str:
    """What the study or its ablation asks; the first comment of a preset says so."""
    ablation = study.settings.get(ABLATION) or {}
    if ablation.get("question"):
        return str(ablation["question"])
    for group, name in ((ABLATION, ablation.get("name")), ("study", study.name)):
        if _is_preset(group, name):
            text = (CONF / group / f"{name}.yaml").read_text()
            found = re.search(r"^# Question +(.*(?:\n#  +.*)*)", text, re.MULTILINE)
            if found:
                return re.sub(r"\n# +", " ", found[1])
    return ""
