"""The files of a study's output folder, as they are read, and DONE, which has the sum of each of them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from experiments.findings import table
from experiments.store.files import problem, read_file, sum_of, write_whole
from synth.settings import UserError

DONE_FILE = "DONE"
SETTINGS, ENVIRONMENT, CLAIMS = "config.yaml", "env.json", "claims.json"
CELLS = "cells.json"
"""Of each cell its settings, whether it is done (in every world), and why not."""
FIGURES = "figures"
RESULTS, MODELS = "results.parquet", "models.json"
"""The table; by cell and model, the folders of its weights and of what was measured, its world's seed and its seeds.

Of a study of several worlds the first; `other_worlds` lists the others alike.
"""
Places = dict[str, Any]
"""Of a model, an entry of MODELS"""


class Seal(NamedTuple):
    """What DONE says."""

    made_from: str
    """A hash of all that went into the folder"""
    files: dict[str, dict[str, Any]]
    """By the name of each file within the folder, its size in bytes and its SHA-256"""

    def problems(self, folder: Path) -> dict[str, str]:
        """What is wrong with files of the folder, a few words each, by name; a file that is as it was has none."""
        found = {name: problem(folder / name, one["size"], one["sha256"]) for name, one in self.files.items()}
        return {name: text for name, text in found.items() if text}


def write(folder: Path, made_from: str, names: Iterable[str]) -> None:
    """DONE of a folder whose files are `names`."""
    _write(folder, Seal(made_from, {name: sum_of(folder / name) for name in sorted(names)}))


def renew(folder: Path, names: Iterable[str]) -> None:
    """Notes that files of a finished folder were written anew on purpose; a folder without DONE stays without."""
    if seal := read(folder):
        _write(folder, Seal(seal.made_from, seal.files | {name: sum_of(folder / name) for name in names}))


def read(folder: Path) -> Seal | None:
    """None if there is no DONE, or one that is not, to the byte, as it was written: then nothing is known."""
    try:
        text = read_file(folder / DONE_FILE)
        content = json.loads(text)
        seal = Seal(content["made_from"], content["files"])
        return seal if text == _text(seal) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def intact(setting: str, folder: Path, names: Iterable[str]) -> None:
    """Raises UserError, one line, if one of the files is not what the finished study wrote."""
    seal = read(folder)
    found = seal.problems(folder) if seal else {}
    for name in names:
        if name in found:
            raise UserError(f"{setting}={folder}: {found[name]}; run the study again, which makes it anew")


def results(setting: str, folder: Path, columns: Iterable[str] = table.COLUMNS) -> pd.DataFrame:
    """The results table. Raises UserError, one line, if there is none, or none that can be read, with `columns`."""
    intact(setting, folder, [RESULTS])
    path = folder / RESULTS
    try:
        found = table.read(path) if path.is_file() else None
    except (OSError, ValueError, pa.ArrowException):
        found = None
    if found is None:
        raise UserError(
            f"{setting}={folder}: there is no {RESULTS} that can be read; name a study's output folder, or run it again"
        )
    missing = [name for name in columns if name not in found]
    if missing and "variant" in found:
        raise UserError(
            f"{setting}={folder}: {RESULTS} has a column variant, so an older version wrote it; run the study again"
        )
    if missing:
        raise UserError(
            f"{setting}={folder}: {RESULTS} has no column {missing[0]}, so no study wrote it; "
            "name a study's output folder"
        )
    return found


def models(setting: str, folder: Path) -> dict[str, dict[str, Places]]:
    """What MODELS holds. Raises UserError, one line, if it is not there or is not what a study writes."""
    intact(setting, folder, [MODELS])
    try:
        found = json.loads(read_file(folder / MODELS))
    except FileNotFoundError:
        raise UserError(f"{setting}={folder}: there is no finished study; name its output folder") from None
    except (OSError, ValueError):
        found = None
    if not _is_models(found):
        raise UserError(f"{setting}={folder}: {MODELS} is damaged; run the study again, which makes it anew")
    return found


def _is_models(found: Any) -> bool:
    """Whether it is folders by part, by model, by cell; at least one cell of at least one model."""
    cells = found.values() if isinstance(found, Mapping) else ()
    of_cells = [cell.values() if isinstance(cell, Mapping) and cell else (None,) for cell in cells]
    places = [place for of_cell in of_cells for place in of_cell]
    return bool(places) and all(
        isinstance(place, Mapping) and isinstance(place.get("weights"), str) for place in places
    )


def _write(folder: Path, seal: Seal) -> None:
    write_whole(folder / DONE_FILE, _text(seal))


def _text(seal: Seal) -> str:
    body = json.dumps(seal._asdict(), indent=1)
    return json.dumps({**seal._asdict(), "sha256": hashlib.sha256(body.encode()).hexdigest()}, indent=1)
