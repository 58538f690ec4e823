"""Settings from YAML and the command line, composed by Hydra, to one checked StudyConfig."""

import difflib
import hashlib
import json
import math
import re
import tempfile
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, StringNode
from omegaconf.errors import OmegaConfBaseException

from experiments.settings.commands import RENAMED, CompareConfig, DataConfig, ExportConfig, FiguresConfig, StoreConfig
from experiments.settings.errors import explained
from experiments.settings.plain import flat, texts, to_dict
from experiments.settings.presets import CONF, groups, no_preset, preset, read
from experiments.settings.schema import SIDE_SETTINGS, StudyConfig
from models.training.method import Method
from models.training.methods import METHODS
from synth.settings import SettingError, UserError, require

ROOTS: dict[type, str] = {
    StudyConfig: "config",
    DataConfig: "data",
    ExportConfig: "export",
    StoreConfig: "store",
    CompareConfig: "compare",
    FiguresConfig: "figures",
}
"""Each kind of settings and the file of `conf/` that it is composed from."""


OPEN = ("launcher.options.", "ablation.points", "nodes")
"""Where settings may be that no dataclass of ours knows."""

_registered: dict[type, tuple[tuple[str, Method], ...]] = {}
"""The methods there were when Hydra was told of each kind of settings"""


def load(overrides: Sequence[str], kind: type = StudyConfig) -> Any:
    """The settings, a `kind` of `ROOTS`, that `overrides` ("study=quick", "seeds=5", ...) describe.

    A preset may be a file of the user's own (`world=mine.yaml`). A text setting is taken as it is written,
    whatever characters it has, or read from a file (`world.grammar.source=@mine.yaml`); all other values are
    in Hydra's grammar. `resume=FOLDER` takes a study's settings from its output folder.

    Raises UserError, one line that names the setting, the value, the bound and the fix.
    """
    for override in overrides:
        if not re.match(r"[\w.]+=", override):
            raise UserError(f"{override!r} is not a setting: write name=value, for example seeds=5")
    resume = [override for override in overrides if override.startswith("resume=")]
    if resume and kind is StudyConfig:
        return resumed(resume[-1].removeprefix("resume="), [o for o in overrides if o not in resume])
    _register(kind)
    free = {name: optional for name, optional in texts(kind).items() if name not in groups()}
    written = [override for override in overrides if override.partition("=")[0] in free]
    copies: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory() as own, initialize_config_dir(str(CONF), version_base="1.3"):
            named = [preset(override, Path(own), copies) for override in overrides if override not in written]
            # Each launcher has settings of its own, which Hydra is told are new here.
            named = [f"++{override}" if override.startswith(OPEN) else override for override in named]
            searched = [f"hydra.searchpath=[{_quoted(f'file://{own}')}]"] if copies else []
            composed = compose(ROOTS[kind], overrides=[*named, *searched])
        for override in written:
            _write(composed, override, free)
        _read_files(composed)
        config = build(kind, composed)
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
        raise UserError(_one_line(error, overrides, kind, copies)) from None
    for copy, override in copies.items():
        if copy.startswith("ablation/") and not config.ablation.name:
            raise UserError(f"{override}: sweeps nothing; give it a name, and values or points")
    return config


def _register(kind: type) -> None:
    """Tells Hydra what settings there are, again where there are other methods by now: each has some of its own."""
    methods = tuple(METHODS.items())
    if _registered.get(kind) != methods:
        ConfigStore.instance().store(name=f"{ROOTS[kind]}_schema", node=kind)
        _registered[kind] = methods


def resumed(folder: str, overrides: Sequence[str]) -> StudyConfig:
    """The settings of the study in output folder `folder`; `overrides` may change only what changes no result.

    Raises UserError if they change more, with the difference.
    """
    place = Path(folder) if Path(folder).name else Path(folder).absolute()
    try:
        begun = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
        now = OmegaConf.merge(OmegaConf.structured(StudyConfig), begun)
        # It may have been moved since.
        now.output_dir = str(place.parent)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = error.strerror if isinstance(error, OSError) else explained(error)
        raise UserError(f"resume={folder}: no study's config.yaml ({reason}); name an output folder") from None
    assert isinstance(now, DictConfig)
    try:
        for override in overrides:
            name = override.partition("=")[0]
            if name == "launcher":  # A preset; all other groups change results.
                OmegaConf.update(now, name, load([override]).launcher, merge=False)
            elif name in texts(StudyConfig):
                _write(now, override, texts(StudyConfig))
            else:
                # By the rules of a command without resume.
                OmegaConf.update(now, name, OverridesParser.create().parse_override(override).value())
        _read_files(now)
        config: StudyConfig = build(StudyConfig, now)
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_one_line(error, overrides, StudyConfig)) from None
    before, after = flat(begun), flat(to_dict(config))
    changed = [
        f"{name} is {before.get(name)} there and {after.get(name)} here"
        for name in {**before, **after}
        if before.get(name) != after.get(name) and name.split(".")[0] not in SIDE_SETTINGS
    ]
    if changed:
        raise UserError(f"resume={folder}: {'; '.join(changed)}; leave it, or start a study of its own without resume")
    name = output_folder(config).name
    if name not in (place.name, place.resolve().name):
        raise UserError(f"resume={folder}: this study would be written to {name}; give the folder that name again")
    return config


def output_folder(config: StudyConfig) -> Path:
    """`<output_dir>/<study>[-<ablation>]-<hash of all settings that matter to the result>`."""
    settings = {name: value for name, value in to_dict(config).items() if name not in SIDE_SETTINGS}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    name = "-".join(part for part in (config.study, config.ablation.name, digest[:8]) if part)
    return Path(config.output_dir) / name


def _write(node: DictConfig, override: str, texts: Mapping[str, bool]) -> None:
    """A text setting as it is written, of those in `texts`, put into `node`."""
    name, _, value = override.partition("=")
    OmegaConf.update(node, name, None if value == "null" and texts[name] else _no_reference(override, value))


def _no_reference(where: str, text: str) -> str:
    """`text`. Raises UserError if OmegaConf would read a reference to another setting in it."""
    if "${" in text:
        raise UserError(f"{where.splitlines()[0]}: text must not have ${{ in it; write it without")
    return text


def _quoted(text: str) -> str:
    """`text` in Hydra's grammar."""
    # Backslashes before a quote, the closing one too, are doubled.
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", text)) + "'"


def _read_files(node: DictConfig, path: str = "") -> None:
    """Replaces each text `@FILE` by the file's content, in place."""
    for name in map(str, node):
        child, full = node._get_node(name), f"{path}{name}"
        if isinstance(child, DictConfig):
            _read_files(child, f"{full}.")
        elif isinstance(child, StringNode) and str(child._value()).startswith("@"):
            where = f"{full}={child._value()}"
            node[name] = _no_reference(where, read(where, Path(str(child._value())[1:])))


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
        _check_entries(kind, values)
        return kind(**values)
    except SettingError as error:
        raise (error.within(path) if path else error) from None


def _check_entries(kind: Any, values: dict[str, Any]) -> None:
    """Raises SettingError for a list with an entry of another type than `kind` says: OmegaConf takes any."""
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        whole = hints.get(name)
        options = typing.get_args(whole) if isinstance(whole, types.UnionType) else (whole,)
        of = next((typing.get_args(option)[0] for option in options if typing.get_origin(option) is tuple), Any)
        if of is Any or not isinstance(value, list):
            continue
        taken = {float: (int, float), int: (int,), str: (str,)}[of]
        for entry in value:
            ok = isinstance(entry, taken) and not isinstance(entry, bool)
            finite = not isinstance(entry, float) or math.isfinite(entry)
            kinds = {float: "finite numbers", int: "whole numbers", str: "words"}[of]
            require(ok and finite, name, value, f"must be a list of {kinds}", f"replace {entry!r}")


def _one_line(error: Exception, overrides: Sequence[str], kind: type, copies: Mapping[str, str] = {}) -> str:
    """What Hydra or OmegaConf found wrong, in one line that says what to do; of a copy, with the user's file."""
    known = [*flat(OmegaConf.to_container(OmegaConf.structured(kind), enum_to_str=True)), *groups()]
    for override in overrides:
        name = override.partition("=")[0]
        if not name.startswith(OPEN) and name not in known and not any(s.startswith(f"{name}.") for s in known):
            now = RENAMED.get(name)
            close = [now] if now in known else difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else "--show lists the settings"
            return f"{name}: there is no such setting; {hint}"
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", str(error))
    if missing:  # In the defaults of a preset.
        return no_preset(*missing.groups())
    cause = error.__cause__
    why = explained(error if cause is None or str(cause) == "None" else cause)
    in_copy = [override for copy, override in copies.items() if f"'{copy}'" in str(error)]
    at_fault = in_copy or [o for o in overrides if o in str(error)] or list(overrides)
    name, _, value = at_fault[0].partition("=")
    fix = "--show lists the settings and their values"
    if in_copy:
        why = re.sub(r"^In '[^']*': \w+ raised while composing config: ", "", why)
    elif why.startswith("LexerNoViableAlt"):
        why, fix = "there is a character that only text in quotes can have", f"""write "{name}='...'" or ['...']"""
    elif why.startswith("Ambiguous value"):
        why, fix = "there are several values", f"give one, or a list: {name}=[{value}]"
    return f"{name}={value}: {why}; {fix}"
