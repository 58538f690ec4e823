"""Where a study came from: its question, the settings that make it what it is, how to make it again."""

import hashlib
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from experiments.findings.seal import RESULTS
from experiments.report.folder import Study
from experiments.settings.config import load
from experiments.settings.plain import texts, to_dict
from experiments.settings.presets import CONF
from experiments.settings.schema import SIDE_SETTINGS, StudyConfig
from synth.settings import UserError

GROUPS = ("ablation", "world", "model")
"""Groups of settings that keep the name of their preset."""

QUESTION = "ablation.question"

WHOLE = ("ablation.points", "nodes")
"""Settings that are dictionaries themselves."""


TEXTS = texts(StudyConfig)


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
    here = flat(study.settings)
    preset, chosen = _preset(study)
    defaults = flat(preset)
    settings = [
        Setting(name, plain(value), plain(defaults[name]) if name in defaults else "", _differs(name, value, defaults))
        for name, value in here.items()
    ]
    overrides = chosen + [
        f"{setting.name}={_written(setting, here[setting.name])}" for setting in settings if setting.differs
    ]
    exact = not any(setting.differs for setting in settings) or _gives(overrides, here)
    words = overrides if exact else [f"resume={folder.name}"]
    results = folder / RESULTS
    presets = " ".join(["the presets" if len(chosen) > 1 else "the preset", *chosen])
    return Origin(
        question=_question(study),
        against=presets if chosen else "the defaults in the code",
        settings=settings,
        command=shlex.join(["python", "-m", "experiments.run", *words]),
        exact=exact,
        folder=folder.name,
        config_hash=folder.name.rpartition("-")[2],
        results_hash=hashlib.sha256(results.read_bytes()).hexdigest() if results.exists() else "",
        artifacts=[
            (cell, model, Path(places.get("weights", "")).name, _measured(places.get("measured", "")))
            for cell, models in study.models.items()
            for model, places in models.items()
        ],
    )


def _measured(places: Any) -> str:
    """The artifacts of a model's measurements, each with what it measures."""
    if isinstance(places, str):
        return Path(places).name
    return ", ".join(f"{Path(place).name} ({name})" for name, place in places.items())


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting of nested dictionaries, by its full name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, dict) and value and f"{prefix}{name}" not in WHOLE
        found |= flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def plain(value: Any) -> str:
    """A value as it is written behind a setting's name."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").replace(", ", ",").replace(": ", ":")


def _differs(name: str, value: Any, defaults: dict[str, Any]) -> bool:
    return _matters(name) and (name not in defaults or defaults[name] != value)


def _matters(name: str) -> bool:
    """Whether the results depend on a setting."""
    return name != QUESTION and name.split(".")[0] not in SIDE_SETTINGS


def _written(setting: Setting, value: Any) -> str:
    """The value as the command line has it: text as it is."""
    return value if setting.name in TEXTS and isinstance(value, str) and value.isprintable() else setting.here


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
    except UserError:
        # The presets alone need not fit one another: a world may be too long for a model.
        return preset, overrides[:1]


def _is_preset(group: str, name: Any) -> bool:
    return bool(re.fullmatch(r"[\w-]+", str(name))) and (CONF / group / f"{name}.yaml").is_file()


def _gives(overrides: list[str], here: dict[str, Any]) -> bool:
    """Whether the overrides compose to these settings."""
    try:
        there = flat(to_dict(load(overrides)))
    except UserError:
        return False
    names = {name for name in {**here, **there} if _matters(name)}
    return all(name in here and name in there and here[name] == there[name] for name in names)


def _question(study: Study) -> str:
    """What the study asks, as its ablation says; else as the first comment of its preset does."""
    asked = study.settings.get("ablation", {}).get("question")
    if asked:
        return str(asked)
    if not _is_preset("study", study.name):
        return ""
    text = (CONF / "study" / f"{study.name}.yaml").read_text(encoding="utf-8")
    found = re.search(r"^# Question +(.*(?:\n#  +.*)*)", text, re.MULTILINE)
    return re.sub(r"\n# +", " ", found[1]) if found else ""
