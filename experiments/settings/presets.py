"""Presets: those of `conf/`, and files of the user's own, which Hydra gets as copies that it reads as meant."""

import dataclasses
import json
import os
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.settings.errors import explained
from experiments.settings.plain import texts
from experiments.settings.schema import StudyConfig
from synth.settings import UserError

CONF = Path(__file__).parents[1] / "conf"


def preset(override: str, folder: Path, copies: dict[str, str]) -> str:
    """A group's override as Hydra is to have it; anything else as it is.

    `group=FILE.yaml` is put into `folder` under a name that Hydra can read and no preset of ours has, which is noted
    in `copies`.
    """
    group, _, value = override.partition("=")
    if group not in groups():
        return override
    if not value.endswith((".yaml", ".yml")):
        if not (CONF / group / f"{value}.yaml").is_file() or Path(value).name != value:
            raise UserError(no_preset(group, value))
        return override
    text = _own_preset(override)
    name = f"own-{len(copies)}"
    (folder / group).mkdir(exist_ok=True)
    (folder / group / f"{name}.yaml").write_text(text, encoding="utf-8")
    copies[f"{group}/{name}"] = override
    return f"{group}={name}"


def no_preset(group: str, name: str) -> str:
    options = sorted(preset.stem for preset in (CONF / group).glob("*.yaml"))
    return (
        f"{group}={name}: there is no such preset; choose from {', '.join(options)}, or name a file that ends in .yaml"
    )


def _own_preset(override: str) -> str:
    """The text of the file that `group=FILE.yaml` names, as Hydra reads it. Raises UserError if it is no preset."""
    group, _, value = override.partition("=")
    if not os.path.exists(value):
        raise UserError(f"{override}: there is no such file; write a preset's name or a file's path")
    text = read(override, Path(value))
    try:
        root = yaml.compose(text, Loader=_Loader)
        yaml.load(text, Loader=_Loader)  # Unknown tags are found here.
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{override}: {line}{error.problem}; it must be YAML") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: of 0b_, say.
        raise UserError(f"{override}: {explained(error)}; it must be YAML") from None
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise UserError(f"{override}: there are no settings in it; write them as name: value")
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
        raise UserError(
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
    """Raises UserError for a name in a mapping that is given twice, or that YAML reads as something else."""
    for number, key in enumerate(names):
        line = f"{override}: line {key.start_mark.line + 1}: "
        if key.tag.rpartition(":")[2] in ("bool", "float", "int", "null"):
            raise UserError(f'{line}the name {key.value} is not read as text; quote it, "{key.value}":')
        if any(key.value == other.value for other in names[:number]):
            raise UserError(f"{line}found duplicate key {key.value}; it must be YAML")


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


def read(where: str, path: Path) -> str:
    """A file's text, without the mark that some editors put before it. Raises UserError, which begins `where`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        raise UserError(f"{where}: {reason}; name a file that can be read") from None


def groups() -> list[str]:
    return [folder.name for folder in CONF.iterdir() if folder.is_dir()]
