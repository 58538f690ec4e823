"""Settings from YAML and the command line, composed by Hydra, to one checked StudyConfig."""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import os
import re
import tempfile
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, StringNode
from omegaconf.errors import OmegaConfBaseException

from experiments.settings.schema import (
    SIDE_SETTINGS,
    CompareConfig,
    DataConfig,
    ExportConfig,
    FiguresConfig,
    StoreConfig,
    StudyConfig,
)
from synth.settings import SettingError, require

CONF = Path(__file__).parents[1] / "conf"
ROOTS: dict[type, str] = {
    StudyConfig: "config",
    DataConfig: "data",
    ExportConfig: "export",
    StoreConfig: "store",
    CompareConfig: "compare",
    FiguresConfig: "figures",
}
"""Each kind of settings and the file of `conf/` that it is composed from."""


OPEN = ("launcher.options.", "ablation.points")
"""Where settings may be that no dataclass of ours knows."""


class ConfigError(ValueError):
    """Settings that cannot be used; the message is one line for the user."""


def load(overrides: Sequence[str], kind: type = StudyConfig) -> Any:
    """The settings, a `kind` of `ROOTS`, that `overrides` ("study=quick", "seeds=5", ...) describe.

    A preset may be a file of the user's own (`world=mine.yaml`). A text setting is taken as it is written,
    whatever characters it has, or read from a file (`world.grammar.source=@mine.yaml`); all other values are
    in Hydra's grammar. `resume=FOLDER` takes a study's settings from its output folder.

    Raises ConfigError, one line that names the setting, the value, the bound and the fix.
    """
    for override in overrides:
        if not re.match(r"[\w.]+=", override):
            raise ConfigError(f"{override!r} is not a setting: write name=value, for example seeds=5")
    resume = [override for override in overrides if override.startswith("resume=")]
    if resume and kind is StudyConfig:
        return resumed(resume[-1].removeprefix("resume="), [o for o in overrides if o not in resume])
    ConfigStore.instance().store(name=f"{ROOTS[kind]}_schema", node=kind)
    free = {name: optional for name, optional in texts(kind).items() if name not in _groups()}
    written = [override for override in overrides if override.partition("=")[0] in free]
    copies: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory() as own, initialize_config_dir(str(CONF), version_base="1.3"):
            named = [_preset(override, Path(own), copies) for override in overrides if override not in written]
            # Each launcher has settings of its own, which Hydra is told are new here.
            named = [f"++{override}" if override.startswith(OPEN) else override for override in named]
            searched = [f"hydra.searchpath=[{_quoted(f'file://{own}')}]"] if copies else []
            composed = compose(ROOTS[kind], overrides=[*named, *searched])
        for override in written:
            _write(composed, override, free)
        _read_files(composed)
        config = build(kind, composed)
    except SettingError as error:
        raise ConfigError(str(error)) from None
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
        raise ConfigError(_one_line(error, overrides, kind, copies)) from None
    for copy, override in copies.items():
        if copy.startswith("ablation/") and not config.ablation.name:
            raise ConfigError(f"{override}: sweeps nothing; give it a name, and values or points")
    return config


def resumed(folder: str, overrides: Sequence[str]) -> StudyConfig:
    """The settings of the study in output folder `folder`; `overrides` may change only what changes no result.

    Raises ConfigError if they change more, with the difference.
    """
    place = Path(folder) if Path(folder).name else Path(folder).absolute()
    try:
        begun = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
        now = OmegaConf.merge(OmegaConf.structured(StudyConfig), begun)
        # It may have been moved since.
        now.output_dir = str(place.parent)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = error.strerror if isinstance(error, OSError) else explained(error)
        raise ConfigError(f"resume={folder}: no study's config.yaml ({reason}); name an output folder") from None
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
    except ConfigError:
        raise
    except SettingError as error:
        raise ConfigError(str(error)) from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(_one_line(error, overrides, StudyConfig)) from None
    before, after = flat(begun), flat(to_dict(config))
    changed = [
        f"{name} is {before.get(name)} there and {after.get(name)} here"
        for name in {**before, **after}
        if before.get(name) != after.get(name) and name.split(".")[0] not in SIDE_SETTINGS
    ]
    if changed:
        raise ConfigError(
            f"resume={folder}: {'; '.join(changed)}; leave it, or start a study of its own without resume"
        )
    name = output_folder(config).name
    if name not in (place.name, place.resolve().name):
        raise ConfigError(f"resume={folder}: this study would be written to {name}; give the folder that name again")
    return config


def output_folder(config: StudyConfig) -> Path:
    """`<output_dir>/<study>[-<ablation>]-<hash of all settings that matter to the result>`."""
    settings = {name: value for name, value in to_dict(config).items() if name not in SIDE_SETTINGS}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    name = "-".join(part for part in (config.study, config.ablation.name, digest[:8]) if part)
    return Path(config.output_dir) / name


@functools.cache
def texts(kind: type, prefix: str = "") -> Mapping[str, bool]:
    """The full names of the settings of `kind` that are text, each with whether it may be null."""
    found: dict[str, bool] = {}
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found |= texts(typing.cast(type, hint), f"{prefix}{name}.")
        elif hint in (str, str | None):
            found[f"{prefix}{name}"] = hint is not str
    return found


def _write(node: DictConfig, override: str, texts: Mapping[str, bool]) -> None:
    """A text setting as it is written, of those in `texts`, put into `node`."""
    name, _, value = override.partition("=")
    OmegaConf.update(node, name, None if value == "null" and texts[name] else _no_reference(override, value))


def _no_reference(where: str, text: str) -> str:
    """`text`. Raises ConfigError if OmegaConf would read a reference to another setting in it."""
    if "${" in text:
        raise ConfigError(f"{where.splitlines()[0]}: text must not have ${{ in it; write it without")
    return text


def _quoted(text: str) -> str:
    """`text` in Hydra's grammar."""
    # Backslashes before a quote, the closing one too, are doubled.
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", text)) + "'"


def _preset(override: str, folder: Path, copies: dict[str, str]) -> str:
    """A group's override as Hydra is to have it; anything else as it is.

    `group=FILE.yaml` is put into `folder` under a name that Hydra can read and no preset of ours has, which is noted
    in `copies`.
    """
    group, _, value = override.partition("=")
    if group not in _groups():
        return override
    if not value.endswith((".yaml", ".yml")):
        if not (CONF / group / f"{value}.yaml").is_file() or Path(value).name != value:
            raise ConfigError(_no_preset(group, value))
        return override
    text = _own_preset(override)
    name = f"own-{len(copies)}"
    (folder / group).mkdir(exist_ok=True)
    (folder / group / f"{name}.yaml").write_text(text, encoding="utf-8")
    copies[f"{group}/{name}"] = override
    return f"{group}={name}"


def _no_preset(group: str, name: str) -> str:
    options = sorted(preset.stem for preset in (CONF / group).glob("*.yaml"))
    return (
        f"{group}={name}: there is no such preset; choose from {', '.join(options)}, or name a file that ends in .yaml"
    )


def _own_preset(override: str) -> str:
    """The text of the file that `group=FILE.yaml` names, as Hydra reads it. Raises ConfigError if it is no preset."""
    group, _, value = override.partition("=")
    if not os.path.exists(value):
        raise ConfigError(f"{override}: there is no such file; write a preset's name or a file's path")
    text = _read(override, Path(value))
    try:
        root = yaml.compose(text, Loader=_Loader)
        yaml.load(text, Loader=_Loader)  # Unknown tags are found here.
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{override}: {line}{error.problem}; it must be YAML") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: of 0b_, say.
        raise ConfigError(f"{override}: {explained(error)}; it must be YAML") from None
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise ConfigError(f"{override}: there are no settings in it; write them as name: value")
    for mapping in _mappings(root):
        _check_names(override, [key for key, _ in mapping.value if isinstance(key, yaml.ScalarNode)])
    head = re.match(r"(?:[ \t]*(?:---[ \t]*)?(?:[#%].*)?\n)*", text)
    header = re.search(r"^(?:---)?[ \t]*#[ \t]*@package[ \t]+(\S+)[ \t]*\n", head[0] if head else "", re.MULTILINE)
    package = header[1] if header else group
    package = {"_group_": group, "_global_": ""}.get(package, package)
    text = _with_quotes(text, root, package.split(".") if package else [])
    if header:  # Hydra sees it above all else alone.
        text = f"# @package {header[1]}\n{text[: header.start()]}{text[header.end() :]}"
    of_study = {field.name for field in dataclasses.fields(StudyConfig)}
    hint = typing.get_type_hints(StudyConfig)[group]
    own = {field.name for field in dataclasses.fields(hint)} if dataclasses.is_dataclass(hint) else set()
    foreign = [str(key.value) for key, _ in root.value if key.value in of_study - own]
    if not (header and header[1] == "_global_") and (foreign or group == "study"):
        raise ConfigError(
            f"{override}: {', '.join(foreign) or 'what it sets'} is of the whole study; begin the file with the line "
            "# @package _global_"
        )
    return text


class _Loader(yaml.SafeLoader):
    """Reads as a number what OmegaConf does: 1e5 is one, a date none."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Those in a YAML node, each once, however often it is referred to."""
    seen: set[int] = set()
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _check_names(override: str, names: Sequence[yaml.ScalarNode]) -> None:
    """Raises ConfigError for a name in a mapping that is given twice, or that YAML reads as something else."""
    for number, key in enumerate(names):
        line = f"{override}: line {key.start_mark.line + 1}: "
        if key.tag.rpartition(":")[2] in ("bool", "float", "int", "null"):
            raise ConfigError(f'{line}the name {key.value} is not read as text; quote it, "{key.value}":')
        if any(key.value == other.value for other in names[:number]):
            raise ConfigError(f"{line}found duplicate key {key.value}; it must be YAML")


def _with_quotes(text: str, root: yaml.Node, package: Sequence[str]) -> str:
    """A preset's text with quotes around each text setting that has none, so that it is taken as it is written.

    `root` is what `text` is read as, `package` where in a study's settings it goes.
    """
    known = texts(StudyConfig)
    plain: dict[int, str] = {}
    merged: set[tuple[int, str]] = set()

    def walk(node: yaml.Node, path: Sequence[str]) -> None:
        # The settings of an ablation's point are named in full.
        name = ".".join(path[3:] if path[:2] == ["ablation", "points"] else path)
        if isinstance(node, yaml.MappingNode):
            given = {str(key.value): value for key, value in node.value}
            for key, value in given.items():
                several = value.value if isinstance(value, yaml.SequenceNode) else [value]
                if key == "<<":
                    for base in several:
                        if (id(base), name) not in merged:
                            merged.add((id(base), name))
                            walk(base, path)
                elif [*path, key] == ["ablation", "values"] and "setting" in given:
                    for one in several:
                        walk(one, [str(given["setting"].value)])
                elif path[:1] == ["ablation"] or not path or any(one.startswith(f"{name}.") for one in known):
                    walk(value, [*path, key])
        elif isinstance(node, yaml.ScalarNode) and name in known and not node.style:
            is_null = node.tag.endswith(":null") and (known[name] or not node.value)
            if not is_null:
                plain[node.end_mark.index] = node.value

    walk(root, package)
    for end, value in sorted(plain.items(), reverse=True):
        begin = end - len(value)
        if text[begin:end] == value:  # What goes over several lines is no number, and stays.
            text = f"{text[:begin]}{json.dumps(value, ensure_ascii=False)}{text[end:]}"
    return text


def _read_files(node: DictConfig, path: str = "") -> None:
    """Replaces each text `@FILE` by the file's content, in place."""
    for name in map(str, node):
        child, full = node._get_node(name), f"{path}{name}"
        if isinstance(child, DictConfig):
            _read_files(child, f"{full}.")
        elif isinstance(child, StringNode) and str(child._value()).startswith("@"):
            where = f"{full}={child._value()}"
            node[name] = _no_reference(where, _read(where, Path(str(child._value())[1:])))


def _read(where: str, path: Path) -> str:
    """A file's text, without the mark that some editors put before it. Raises ConfigError, which begins `where`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        raise ConfigError(f"{where}: {reason}; name a file that can be read") from None


def _groups() -> list[str]:
    return [folder.name for folder in CONF.iterdir() if folder.is_dir()]


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


def to_dict(config: Any) -> Any:
    """A dataclass as plain dictionaries and lists, for YAML, JSON and hashing.

    As OmegaConf has it, which takes a hundred times as long: a setting with a point is so if it is whole too.
    """
    kind: type = type(config)
    if dataclasses.is_dataclass(kind):
        pointed = _pointed(kind)
        values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        return {
            name: float(value) if name in pointed and value is not None else to_dict(value)
            for name, value in values.items()
        }
    if isinstance(config, Mapping):
        return {name: to_dict(value) for name, value in config.items()}
    return [to_dict(value) for value in config] if isinstance(config, list | tuple) else config


@functools.cache
def _pointed(kind: type) -> frozenset[str]:
    """The fields of a dataclass that are numbers with a point, or null."""
    return frozenset(name for name, hint in typing.get_type_hints(kind).items() if hint in (float, float | None))


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting of a plain nested dictionary, by its full name."""
    found: dict[str, Any] = {}
    for name, child in node.items():
        nested = isinstance(child, dict) and child
        found |= flat(child, f"{prefix}{name}.") if nested else {f"{prefix}{name}": child}
    return found


def _one_line(error: Exception, overrides: Sequence[str], kind: type, copies: Mapping[str, str] = {}) -> str:
    """What Hydra or OmegaConf found wrong, in one line that says what to do; of a copy, with the user's file."""
    known = [*flat(OmegaConf.to_container(OmegaConf.structured(kind), enum_to_str=True)), *_groups()]
    for override in overrides:
        name = override.partition("=")[0]
        if not name.startswith(OPEN) and name not in known and not any(s.startswith(f"{name}.") for s in known):
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else "--show lists the settings"
            return f"{name}: there is no such setting; {hint}"
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", str(error))
    if missing:  # In the defaults of a preset.
        return _no_preset(*missing.groups())
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


def explained(error: BaseException) -> str:
    """What a library found wrong, in one line."""
    return re.sub(r"\s+", " ", str(error).split("full_key:")[0].split("See https:")[0]).strip()
