"""What is looked at prompt by prompt: the words of prompts and responses, and where activations lie."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.metrics import METRICS
from analysis.separability import COORDINATES
from experiments.findings.results import select, unchanged, untaught
from experiments.findings.samples import MEASUREMENT, folder
from experiments.findings.samples import read as read_samples
from experiments.report.folder import Study
from experiments.settings.names import UNTOUCHED
from experiments.stages import responses
from experiments.stages.measure import SAMPLES
from experiments.stages.responses import Responses

BUDGET = 1_900_000
"""Bytes of coordinates and words together, about."""
SEEDS = 3
CHOICES = [(SEEDS, 128), (2, 128), (1, 128), (1, 96), (1, 64)]
"""Seeds and prompts of each family, the first that fit."""

CODES = {responses.COMPLIED: "c", responses.REFUSED: "r", responses.NEITHER: "n"}
NONE = -32768
"""In place of a coordinate that there is none of"""
STEPS = 65_000


class _Files(NamedTuple):
    """Where to look for what is shown of a model."""

    cell: str
    model: str
    words: Path
    """Where its responses are"""
    points: Path | None
    """Where the coordinates of its activations are, if they were measured"""


class _Part(NamedTuple):
    """What is taken of every model."""

    seeds: int
    prompts: int
    cells: list[str]


def read(study: Study) -> dict[str, Any]:
    """For the page's script: prompts, answers, coordinates as int16 in base64, and what could not be had.

    `notes` says in words what is left out or missing.
    """
    places = [
        _Files(cell, model, answered, folder(paths, MEASUREMENT))
        for cell, models in study.models.items()
        for model, paths in models.items()
        if (answered := folder(paths, Responses.name))
    ]
    notes: list[str] = []
    words = {}
    for place in places:
        try:
            words[place] = pd.read_parquet(place.words / responses.TABLE)
        except (OSError, pa.ArrowInvalid) as error:
            why = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read"
            notes.append(f"{_named(place)}: {responses.TABLE} of {place.words.name} {why}, so it is left out here.")
    part = _choose(study, list(words))
    kept = {place: _cut(rows, part) for place, rows in words.items() if place.cell in part.cells}
    packed: dict[str, Any] = {"cells": [], "sets": [], "verdicts": [], "why": [], "points": {}, "probe": {}}
    packed["controls"] = [UNTOUCHED, *untaught(study.table)]
    known: dict[str, int] = {}
    for cell in part.cells:
        of_cell = {place.model: rows for place, rows in kept.items() if place.cell == cell}
        if of_cell:
            packed["cells"].append(_cell(cell, of_cell, packed, known))
    for place, rows in kept.items():
        packed["points"] |= _points(place, rows, packed, notes)
    packed["probe"] = _probe(study.table, set(packed["points"]))
    packed["notes"] = [*notes, *_left_out(study, part, kept)]
    return packed


def _named(place: _Files) -> str:
    return f"{place.model} at {place.cell}" if place.cell else place.model


def _choose(study: Study, places: Sequence[_Files]) -> _Part:
    """As much as fits into the budget: fewer seeds, then fewer prompts, then fewer cells."""
    cells = list(dict.fromkeys(place.cell for place in places))
    if not places:
        return _Part(*CHOICES[0], cells)
    coordinates = select(unchanged(study.table), metric="lda")
    arrays = len(COORDINATES) * max(1, len(coordinates[["module", "layer"]].drop_duplicates()))
    families = max(1, coordinates["family"].nunique())
    # Two bytes a coordinate in base64, and a few for how each answer differs from the right one.
    each = families * (arrays * 8 / 3 + 6)
    cost = 0.0
    for seeds, prompts in CHOICES:
        cost = (
            len(places) / len(cells) * min(seeds, max(1, len(study.seeds))) * prompts * each + families * prompts * 60
        )
        if cost * len(cells) <= BUDGET:
            return _Part(seeds, prompts, cells)
    seeds, prompts = CHOICES[-1]
    number = max(1, int(BUDGET // cost))
    chosen = np.unique(np.linspace(0, len(cells) - 1, number).round().astype(int))
    return _Part(seeds, prompts, [cells[i] for i in chosen])


def _cut(rows: pd.DataFrame, part: _Part) -> pd.DataFrame:
    """The part's seeds and prompts, families in the order of the file."""
    seeds = sorted(rows["seed"].unique())[: part.seeds]
    return rows[rows["seed"].isin(seeds) & (rows["prompt"] < part.prompts)].reset_index(drop=True)


def _cell(cell: str, models: dict[str, pd.DataFrame], packed: dict[str, Any], known: dict[str, int]) -> dict[str, Any]:
    """The answers of a cell's models, and which set of prompts they answered; equal sets are kept once."""
    first = next(iter(models.values()))
    prompts = first[first["seed"] == first["seed"].iloc[0]]
    whole = json.dumps(prompts[["family", "prompt", "asked", "compliant", "verdict", "reason"]].to_numpy().tolist())
    if whole not in known:
        known[whole] = len(packed["sets"])
        families = prompts.groupby("family", sort=False).size()
        packed["sets"].append(
            {
                "families": [{"name": name, "count": int(count)} for name, count in families.items()],
                "asked": prompts["asked"].tolist(),
                "compliant": prompts["compliant"].tolist(),
                "verdict": [_code(packed["verdicts"], one) for one in prompts["verdict"]],
                "why": [_code(packed["why"], one) for one in prompts["reason"]],
            }
        )
    return {
        "name": cell,
        "set": known[whole],
        "seeds": sorted({int(seed) for rows in models.values() for seed in rows["seed"].unique()}),
        "models": list(models),
        "answers": {
            model: {str(seed): _answers(rows[rows["seed"] == seed]) for seed in rows["seed"].unique()}
            for model, rows in models.items()
        },
    }


def _code(names: list[str], name: str) -> int:
    """The place of `name` in `names`, where it is put if it is new."""
    if name not in names:
        names.append(name)
    return names.index(name)


def _answers(rows: pd.DataFrame) -> dict[str, Any]:
    """A letter for each prompt, and the words of what is neither compliance nor refusal."""
    outcomes = rows["outcome"].map(CODES)
    texts = {i: text for i, (code, text) in enumerate(zip(outcomes, rows["generated"], strict=True)) if code == "n"}
    return {"outcomes": "".join(outcomes), "texts": texts}


def _points(place: _Files, rows: pd.DataFrame, packed: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """By `cell|model|seed|site|layer` an entry for each coordinate: lowest value, step, int16s by prompt."""
    if place.points is None:
        return {}
    try:
        samples = read_samples(place.points, [metric for metric, _ in COORDINATES], int(rows["prompt"].max()) + 1)
    except (OSError, pa.ArrowInvalid):
        notes.append(f"{_named(place)}: {SAMPLES} of {place.points.name} cannot be read, so no activations are shown.")
        return {}
    samples = select(samples, seed=rows["seed"].unique().tolist())
    first = rows[rows["seed"] == rows["seed"].iloc[0]]
    order = pd.MultiIndex.from_frame(first[["family", "prompt"]])
    found: dict[str, Any] = {}
    axes = {axis: i for i, axis in enumerate(COORDINATES)}
    for key, group in samples.groupby(["seed", "module", "layer", "metric", "index"], dropna=False, observed=True):
        seed, module, layer, metric, index = cast("tuple[Any, ...]", key)
        axis = axes.get((metric, None if pd.isna(index) else int(index)))
        values = group.set_index(["family", "prompt"])["value"].reindex(order).to_numpy(float)
        if axis is None or not np.isfinite(values).any():
            continue
        place_key = f"{place.cell}|{place.model}|{int(seed)}|{module}|{int(layer)}"
        found.setdefault(place_key, [None] * len(COORDINATES))[axis] = _quantised(values)
    return found


def _quantised(values: np.ndarray) -> list[Any]:
    low, high = np.nanmin(values), np.nanmax(values)
    step = (high - low) / STEPS if high > low else 1.0
    steps = np.round((np.nan_to_num(values, nan=low) - low) / step) - STEPS // 2
    codes = np.where(np.isfinite(values), steps, NONE).astype("<i2")
    return [float(f"{low:.6g}"), float(f"{step:.6g}"), base64.b64encode(codes.tobytes()).decode()]


def _probe(table: pd.DataFrame, wanted: set[str]) -> dict[str, list[float]]:
    """By the keys of the points: accuracy of a linear probe on held-out prompts, and of permuted labels."""
    names = ["probe_accuracy", *METRICS["probe_accuracy"].null.metrics]
    rows = select(unchanged(table), metric=names)
    found: dict[str, list[float]] = {}
    columns = (rows[name] for name in ("cell", "node", "seed", "module", "layer", "metric", "value"))
    for cell, model, seed, module, layer, metric, value in zip(*columns, strict=True):
        key = f"{cell}|{model}|{seed}|{module}|{layer}"
        if key in wanted and np.isfinite(value):
            found.setdefault(key, [0.0] * len(names))[names.index(metric)] = round(float(value), 4)
    return found


def _left_out(study: Study, part: _Part, kept: dict[_Files, pd.DataFrame]) -> list[str]:
    """What the page does not show of what was measured."""
    if not kept:
        return []
    said = []
    shown = next(iter(kept.values()))
    if len(study.seeds) > shown["seed"].nunique():
        said.append(f"{shown['seed'].nunique()} of {len(study.seeds)} seeds")
    said.append(f"the first {int(shown['prompt'].max()) + 1} prompts of each family")
    without = [cell for cell in study.models if cell not in part.cells]
    if without:
        said.append(f"{len(part.cells)} of {len(study.models)} cells")
    return [f"Shown here: {', '.join(said)}; the rest is in the artifacts named under How to make it again."]
