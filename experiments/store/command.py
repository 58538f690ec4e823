"""A store's artifacts: what is there, which studies use it, whether it is whole, what can go.

python -m experiments.store list            every artifact: what from, how large, who uses it
python -m experiments.store show tune-1a2b  one artifact, by the start of its name or key
python -m experiments.store verify          reads every byte; exit code 1 if anything is damaged
python -m experiments.store du              where the space goes
python -m experiments.store prune           removes what no study needs, after asking
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.box import SIMPLE
from rich.filesize import decimal
from rich.progress import track
from rich.table import Table
from rich.text import Text

from experiments.command import command
from experiments.progress import Reporter
from experiments.settings.commands import STORE_VERBS, StoreConfig
from experiments.store.artifacts import Store
from experiments.store.inventory import Entry, Inventory, Waste, size
from experiments.store.manifest import MANIFEST, DamagedError, problems, read_manifest
from synth.settings import StoppedError, UserError

LEAST = 100
"""Columns that every table fits in."""
WIDE, NARROW = 140, 14
"""Columns from which on studies' names are written in one line, and those they have below."""
SHOWN = 8
"""Settings said of an artifact in a list."""
KEY = 10
"""Characters of a key in a list."""


def _list(inventory: Inventory, entries: list[Entry], config: StoreConfig, reporter: Reporter) -> None:
    described = inventory.described()
    table = _table("stage", "key", "size>", "made (UTC)", "took>", "used by", "settings", title=_total(entries, config))
    if reporter.console.width < WIDE:
        table.columns[5].width = NARROW
    for entry in sorted(entries, key=lambda entry: (entry.made, entry.name)):
        studies = [study.name for study in inventory.users.get(entry.name, [])]
        used = Text(f"{studies[0]} +{len(studies) - 1}" if len(studies) > 1 else "".join(studies))
        used = used or Text("-", "dim")
        row = (decimal(entry.size), _when(entry), _took(entry), used, _short(described[entry.name]))
        table.add_row(entry.stage, entry.key[:KEY], *row)
    reporter.show(table, LEAST)


def _show(inventory: Inventory, entries: list[Entry], config: StoreConfig, reporter: Reporter) -> None:
    if len(entries) > 1:
        names = ", ".join(entry.name for entry in entries[:5]) + ", ..." * (len(entries) > 5)
        raise UserError(f"key={config.key}: {len(entries)} artifacts start so ({names}); write more of one's name")
    entry = entries[0]
    studies = [f"{study.name}  ({study.folder})" for study in inventory.users.get(entry.name, [])]
    parents = [inventory.by_key[key].name if key in inventory.by_key else f"{key}, not there" for key in entry.parents]
    took = _took(entry)
    lines = {
        "made": f"{_when(entry)} UTC" + (f", took {took}" if took else ""),
        "by code": entry.code,
        "in": str(entry.path),
        "from": parents,
        "used for": [child.name for child in inventory.children(entry.key)],
        "used by": studies,
    }
    reporter.say(entry.name)
    for label, value in lines.items():
        values = [value] if isinstance(value, str) else list(dict.fromkeys(value)) or ["-"]
        for i, one in enumerate(values):
            reporter.say(f"  {label if i == 0 else '':<10}{one}")
    reporter.say("")
    table = _table("file", "size>", "SHA-256")
    for file, recorded in _files(entry).items():
        table.add_row(file, decimal(recorded["size"]), recorded["sha256"])
    reporter.show(table)
    reporter.say(yaml.safe_dump({"settings": entry.settings}, sort_keys=False, default_flow_style=None, width=100))


def _verify(inventory: Inventory, entries: list[Entry], config: StoreConfig, reporter: Reporter) -> None:
    damaged = 0
    quiet = not reporter.console.is_terminal
    for entry in track(entries, "verify", console=reporter.console, transient=True, disable=quiet):
        extra = {file.name for file in entry.path.iterdir()} - {*_files(entry), MANIFEST}
        wrong = [*problems(entry.path), *(f"{file} is not part of it" for file in sorted(extra))]
        damaged += bool(wrong)
        for problem in wrong:
            reporter.say(f"{entry.name}: {problem}")
    if damaged:
        raise StoppedError(
            f"{damaged} of {len(entries)} artifacts are not what was written; a study that needs one makes it again"
        )
    reporter.say(f"{_total(entries, config)}: all as written")


def _du(inventory: Inventory, entries: list[Entry], config: StoreConfig, reporter: Reporter) -> None:
    root = inventory.store.root
    table = _table("what", "items>", "size>", title=f"In {root}")
    for stage in sorted({entry.stage for entry in entries}):
        own = [entry for entry in entries if entry.stage == stage]
        table.add_row(stage, str(len(own)), decimal(_sum(own)))
    kinds = {"partial": "begun, not finished", "damaged": "damaged, set aside", "compiled": "compiled programs"}
    sizes = {folder: size(root / folder) for folder in kinds}
    if not config.key:
        for folder, label in kinds.items():
            items = len(list((root / folder).iterdir())) if (root / folder).is_dir() else 0
            table.add_row(label, str(items), decimal(sizes[folder]))
        table.add_section()
        table.add_row("all", "", decimal(_sum(entries) + sum(sizes.values())))
    reporter.show(table)
    table = _table("study", "artifacts>", "size>", "of it alone>", title="Who needs it")
    for study in inventory.studies:
        needed = [entry for entry in entries if study in inventory.users.get(entry.name, [])]
        alone = [entry for entry in needed if len(inventory.users[entry.name]) == 1]
        table.add_row(study.name, str(len(needed)), decimal(_sum(needed)), decimal(_sum(alone)))
    unused = [entry for entry in entries if entry.name not in inventory.users]
    table.add_row(Text("none", "dim"), str(len(unused)), decimal(_sum(unused)), "")
    reporter.show(table)


def _prune(inventory: Inventory, entries: list[Entry], config: StoreConfig, reporter: Reporter) -> None:
    waste = [one for one in inventory.waste() if _starts(one.path.name, config.key)]
    if not waste:
        reporter.say(f"nothing to remove in {config.store_dir}: studies need all that is there")
        return
    described = inventory.described()
    table = _table("what", "why", "size>", "settings", title=f"To remove from {config.store_dir}")
    for one in waste:
        about = _short(described[one.path.name]) if one.path.parent.name == "artifacts" else ""
        table.add_row(one.path.name, one.reason, decimal(one.size), about)
    reporter.show(table, LEAST)
    if inventory.gone:
        reporter.say(f"not there any more: {', '.join(str(study.folder) for study in inventory.gone)}")
    if not inventory.studies:
        reporter.say("no study has said that it uses this store: nothing here counts as needed")
    if not (config.yes or _agreed(reporter, waste)):
        return
    # Studies that begin now wait; those that began since it was looked at are seen.
    with inventory.store.lock("studies"):
        now = Inventory(inventory.store)
        still = {one.path for one in now.waste()}
        removed = [one for one in waste if one.path in still and now.remove(one)]
        if not config.key:
            for study in now.gone:
                study.record.unlink(missing_ok=True)
    left = len(waste) - len(removed)
    reporter.say(f"removed {len(removed)}, {decimal(_sum(removed))}" + f"; {left} are in use by now" * bool(left))


def _agreed(reporter: Reporter, waste: list[Waste]) -> bool:
    """Asks; raises UserError where there is nobody to ask."""
    # There is none at all where it was closed.
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        raise UserError("yes=false: there is no terminal to ask on; look at the list, then add yes=true")
    reporter.console.print(f"remove these, {decimal(_sum(waste))}? [y/N] ", end="", highlight=False)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    reporter.say("nothing removed")
    return False


ACTS = dict(zip(STORE_VERBS, (_list, _show, _verify, _prune, _du), strict=True))


def _run(config: StoreConfig, reporter: Reporter) -> None:
    root = Path(config.store_dir)
    if not (root / "artifacts").is_dir():
        raise UserError(f"store_dir={root}: there is no store; name the folder that studies were run with")
    inventory = Inventory(Store(root, reporter.warn))
    entries = [entry for name, entry in inventory.entries.items() if _starts(name, config.key)]
    if config.key and not entries and config.do != "prune":
        raise UserError(f"key={config.key}: no artifact's name or key starts so; list shows them")
    ACTS[config.do](inventory, entries, config, reporter)


def _starts(name: str, key: str) -> bool:
    return name.startswith(key) or name.rpartition("-")[2].startswith(key)


def _files(entry: Entry) -> dict[str, Any]:
    try:
        files: dict[str, Any] = read_manifest(entry.path)["files"]
        return files
    except DamagedError:
        return {}


def _sum(items: Iterable[Entry] | Iterable[Waste]) -> int:
    return sum(item.size for item in items)


def _total(entries: list[Entry], config: StoreConfig) -> str:
    return f"{len(entries)} artifact{'s' * (len(entries) != 1)} in {config.store_dir}, {decimal(_sum(entries))}"


def _when(entry: Entry) -> str:
    return entry.made[:16].replace("T", " ") or "unreadable"


def _took(entry: Entry) -> str:
    """In the largest unit of which it is one at least."""
    if entry.seconds is None:
        return ""
    for unit, length in (("h", 3600), ("min", 60)):
        if entry.seconds >= length:
            return f"{entry.seconds / length:.1f} {unit}"
    return f"{entry.seconds:.1f} s"


def _short(settings: dict[str, Any]) -> str:
    parts = []
    for name, value in list(settings.items())[:SHOWN]:
        text = re.sub("[ ']", "", str(value))
        parts.append(f"{name}={text if len(text) <= 40 else text[:39] + '…'}")
    return ", ".join([*parts, *["…"][: max(0, len(settings) - SHOWN)]])


def _table(*headings: str, title: str | None = None) -> Table:
    """Columns of numbers have a heading that ends in >; those of text may be wrapped."""
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    for heading in headings:
        wraps = heading in ("settings", "used by", "what")
        right = heading.endswith(">")
        table.add_column(
            heading.removesuffix(">"), justify="right" if right else "left", no_wrap=not wraps, overflow="fold"
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    return command("experiments.store", __doc__, StoreConfig, _run, arguments, words=("do", "key"))
