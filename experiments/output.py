"""The output folder of a study: settings, table, claims, figures, and which cells there are."""

import functools
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock

from experiments import figures, provenance, report, samples, scorecard, table
from experiments.artifacts import Store, write_whole
from experiments.cells import Cell, swept
from experiments.config import output_folder, to_dict
from experiments.engine import Failures
from experiments.plan import Plan
from experiments.results import UNTOUCHED
from experiments.schema import StudyConfig
from experiments.stages import measure, over_training, paths, tune
from experiments.table import Part

SETTINGS, ENVIRONMENT, RESULTS, CLAIMS = "config.yaml", "env.json", "results.parquet", "claims.json"
CELLS = "cells.json"
"""Of each cell its settings, whether it is done, and why not."""
MODELS = "models.json"
"""By cell and model, the folders of its weights and of what was measured."""
DONE_FILE = "DONE"

DONE, FAILED, PENDING = "done", "failed", "pending"

SPARE = 20.0
"""The table is written anew at most every so many times as long as that takes."""


class Results:
    """A finished study."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """All of it."""
        return table.read(self.folder / RESULTS)

    def cell(self, name: str) -> pd.DataFrame:
        """The rows of one cell."""
        return table.read(self.folder / RESULTS, name)


def keep_settings(config: StudyConfig) -> None:
    """The output folder with SETTINGS alone, from the start: `resume=FOLDER` goes on from it."""
    folder = output_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SETTINGS, yaml.safe_dump(to_dict(config), sort_keys=False))


def keep_environment(folder: Path) -> list[str]:
    """ENVIRONMENT from the start; where the study goes on from another one, what of it changes rounding."""
    now = provenance.environment()
    try:
        begun = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        begun = None
    write_whole(folder / ENVIRONMENT, json.dumps(now, indent=1))
    return provenance.rounds_otherwise(begun, now)


class Output:
    """Writes the output folder of a study, from artifacts in `store`."""

    def __init__(self, config: StudyConfig, planned: Sequence[tuple[Cell, Plan]], store: Store) -> None:
        self.config, self.planned, self.store = config, planned, store
        self.swept = swept([cell for cell, _ in planned])
        self.folder = output_folder(config)
        self.logs = self.folder.resolve() / "logs"
        self.lock = FileLock(self.folder.with_name(f".{self.folder.name}.lock"))
        self.refreshed, self.cost = 0.0, 0.0

    def failed(self, failures: Failures) -> list[str]:
        """The names of the cells that failed."""
        return [cell.name for cell, needed in self.planned if any(r.key in failures for r in needed.recipes)]

    def refresh(self, failures: Failures, at_once: bool = False) -> None:
        """Table and CELLS of what there is, unless they were written a moment ago."""
        began = time.monotonic()
        if not (at_once or began - self.refreshed > SPARE * self.cost):
            return
        with self.lock:
            # Another process may have finished the folder while this one waited.
            if self._done().exists():
                return
            self._write_cells(failures)
            self._write_table()
        self.refreshed, self.cost = time.monotonic(), time.monotonic() - began

    def finish(self, failures: Failures) -> Results:
        """The whole folder. DONE is written last, and only if no cell failed.

        DONE says what the folder was made from, artifacts and code alike, so that a folder with
        one of something else is written anew.
        """
        with self.lock:
            # Also where nothing else is new: the same study may have been made again in another store.
            models = self._models()
            write_whole(self.folder / MODELS, json.dumps(models, indent=1))
            made_from = self._made_from()
            if not failures and self._is_done(made_from):
                return Results(self.folder)
            self._done().unlink(missing_ok=True)
            shutil.rmtree(self.folder / "figures", ignore_errors=True)
            write_whole(self.folder / ENVIRONMENT, json.dumps(provenance.environment(), indent=1))
            self._write_cells(failures)
            self._write_table()
            results = Results(self.folder)
            write_whole(self.folder / CLAIMS, scorecard.to_json(scorecard.of_cells(results.table)))
            names = [cell.name for cell, _ in self.planned]
            points = samples.coordinates(models[names[0]]) if len(names) == 1 else figures.NO_POINTS
            figures.draw_all(results.table, self.folder / "figures", planned=names, points=points)
            report.write(self.folder)
            if not failures:
                digest = provenance.sha256(self.folder / RESULTS)
                write_whole(self._done(), json.dumps({"made_from": made_from, RESULTS: digest}))
            return results

    def _done(self) -> Path:
        return self.folder / DONE_FILE

    def _is_done(self, made_from: str) -> bool:
        try:
            said = json.loads(self._done().read_text())
            intact = said == {"made_from": made_from, RESULTS: provenance.sha256(self.folder / RESULTS)}
        except (OSError, ValueError):
            return False
        there = all((self.folder / name).is_file() for name in (CELLS, CLAIMS, ENVIRONMENT, report.PAGE))
        return intact and there and figures.all_drawn(self.folder / "figures")

    def _made_from(self) -> str:
        """A hash of the artifacts, the settings said in the table, and the code and style of all else."""
        code = [
            provenance.code_version(f"experiments.{name}")
            for name in ("figures", "samples", "scorecard", "report", "table")
        ]
        parts = [[part.path.parent.name, part.path.name, part.common] for part in self._parts()]
        looks = [figures.style_version(), report.assets_version()]
        content = json.dumps([parts, code, looks], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def _write_table(self) -> None:
        table.assemble(self._parts(), self.swept, self.folder / RESULTS)

    def _write_cells(self, failures: Failures) -> None:
        said = [
            {"cell": cell.name, "settings": cell.settings, **self._status(needed, failures)}
            for cell, needed in self.planned
        ]
        write_whole(self.folder / CELLS, json.dumps(said, indent=1))

    def _status(self, needed: Plan, failures: Failures) -> dict[str, Any]:
        failure = next((failures[recipe.key] for recipe in needed.recipes if recipe.key in failures), None)
        if failure:
            where = {"trace": failure.trace} if failure.trace else {}
            return {"status": FAILED, "error": failure.error, **where}
        return {"status": DONE if all(map(self.store.is_whole, needed.recipes)) else PENDING, "error": None}

    def _models(self) -> dict[str, dict[str, dict[str, str]]]:
        def place(recipe: Any) -> str:
            return str(self.store.path(recipe).resolve())

        return {
            cell.name: {
                model: {"weights": place(weights), "measured": place(needed.measure[model])}
                for model, weights in needed.weights.items()
                if self.store.has(weights)
            }
            for cell, needed in self.planned
        }

    def _parts(self) -> Iterator[Part]:
        """What there is, and is whole, of every cell, in their order."""
        for i, (cell, needed) in enumerate(self.planned):
            config = cell.config
            common = {
                "study": self.config.study,
                "cell": cell.name,
                "world": config.world.name,
                "model": config.model.name,
                "learning_rate": config.tuning.learning_rate,
                **{name: values[i] for name, values in self.swept.items()},
            }
            for model, recipe in needed.measure.items():
                of_model = {**common, "method": model}
                if model == UNTOUCHED:
                    of_model["learning_rate"] = config.pretrain.learning_rate
                if self.store.is_whole(recipe):
                    yield Part(self.store.path(recipe) / measure.TABLE, of_model)
                    if model in needed.tune and self.store.is_whole(needed.tune[model]):
                        yield Part(self.store.path(needed.tune[model]) / tune.DATA_TABLE, of_model)
            for method, recipe in needed.over_training.items():
                if self.store.is_whole(recipe):
                    yield Part(self.store.path(recipe) / over_training.TABLE, {**common, "method": method})
            if needed.paths and self.store.is_whole(needed.paths):
                yield Part(self.store.path(needed.paths) / paths.TABLE, common)
