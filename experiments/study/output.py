"""The output folder of a study: settings, table, claims, figures, and which cells there are."""

import functools
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock

from experiments import figures, report
from experiments.findings import samples, scorecard, seal, table
from experiments.findings.claims import PAPERS
from experiments.findings.seal import CELLS, CLAIMS, DONE_FILE, ENVIRONMENT, FIGURES, MODELS, RESULTS, SETTINGS, Places
from experiments.findings.table import Part
from experiments.settings.config import output_folder
from experiments.settings.names import RANDOM, UNTOUCHED
from experiments.settings.plain import to_dict
from experiments.settings.schema import StudyConfig
from experiments.stages import measure, paths, tune
from experiments.stages.stage import Stage
from experiments.store import provenance
from experiments.store.artifacts import Store
from experiments.store.files import make_way, remove, set_aside, write_whole
from experiments.study.cells import Cell, swept
from experiments.study.engine import Failures
from experiments.study.plan import Plan

FILES = (SETTINGS, ENVIRONMENT, CELLS, RESULTS, CLAIMS, MODELS, report.PAGE)
"""Of every study; its figures are files of the folder FIGURES."""
EVERY_RUN = (SETTINGS, MODELS)
"""Written by every run: where the store is may change without anything else."""

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


def keep_settings(config: StudyConfig, warn: Callable[[str], None] = print) -> None:
    """The output folder with SETTINGS alone, from the start: `resume=FOLDER` goes on from it."""
    folder = output_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    make_way(folder / SETTINGS, folder, warn)
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
        self.logs = self.folder.absolute() / "logs"
        self.refreshed, self.cost = 0.0, 0.0

    def failed(self, failures: Failures) -> list[str]:
        """What failed, a name for each cell and world."""
        several = self.config.worlds > 1
        return [
            ", ".join(filter(None, (cell.name, f"world {cell.world_seed}" if several else "")))
            for cell, needed in self.planned
            if any(recipe.key in failures for recipe in needed.recipes)
        ]

    def refresh(self, failures: Failures, at_once: bool = False) -> None:
        """Table and CELLS of what there is, unless they were written a moment ago."""
        began = time.monotonic()
        if not (at_once or began - self.refreshed > SPARE * self.cost):
            return
        with self._alone():
            # Another process may have finished the folder while this one waited.
            if (self.folder / DONE_FILE).exists():
                return
            self._write_cells(failures)
            self._write_table()
        self.refreshed, self.cost = time.monotonic(), time.monotonic() - began

    def finish(self, failures: Failures) -> Results:
        """The whole folder. DONE is written last, and only if no cell failed.

        DONE says what the folder was made from, artifacts and code alike, and what each file was: a
        folder made from something else is written anew, and so is one of which a file is not as it
        was, which is set aside.
        """
        with self._alone():
            # Also where nothing else is new: the same study may have been made again in another store.
            models = self._models()
            write_whole(self.folder / MODELS, json.dumps(models, indent=1))
            made_from = self._made_from()
            if not failures and self._is_done(made_from):
                seal.renew(self.folder, EVERY_RUN)
                return Results(self.folder)
            (self.folder / DONE_FILE).unlink(missing_ok=True)
            remove(self.folder / FIGURES)
            write_whole(self.folder / ENVIRONMENT, json.dumps(provenance.environment(), indent=1))
            self._write_cells(failures)
            self._write_table()
            results, papers = Results(self.folder), [PAPERS[name] for name in self.config.papers]
            write_whole(self.folder / CLAIMS, scorecard.to_json(scorecard.of_cells(results.table, papers)))
            names = list(self._by_cell())
            points = samples.coordinates(models[names[0]]) if len(names) == 1 else figures.NO_POINTS
            figures.draw_all(results.table, self.folder / FIGURES, planned=names, points=points, papers=papers)
            report.write(self.folder)
            if not failures:
                drawn = [f"{FIGURES}/{path.name}" for path in (self.folder / FIGURES).iterdir()]
                seal.write(self.folder, made_from, [*FILES, *drawn])
            return results

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process writes the folder, and nothing stands in the place of its files."""
        lock = self.folder.with_name(f".{self.folder.name}.lock")
        make_way(lock, self.folder, self.store.warn)
        with FileLock(lock):
            for name in (*FILES, DONE_FILE):
                make_way(self.folder / name, self.folder, self.store.warn)
            make_way(self.folder / FIGURES, self.folder, self.store.warn, stat.S_ISDIR)
            yield

    def _is_done(self, made_from: str) -> bool:
        """Whether the folder is finished and whole; what is not as it was written is set aside."""
        said = seal.read(self.folder)
        if said is None or said.made_from != made_from:
            return False
        wrong = [name for name in said.problems(self.folder) if name not in EVERY_RUN]
        damaged = [name for name in wrong if os.path.lexists(self.folder / name)]
        for name in damaged:
            set_aside(self.folder / name, self.folder)
        if damaged:
            named = ", ".join(damaged[:3]) + f" and {len(damaged) - 3} more" * (len(damaged) > 3)
            self.store.warn(
                f"{self.folder}: {named}: not what was written; set aside in its folder damaged and made again"
            )
        return not wrong

    def _made_from(self) -> str:
        """A hash of the artifacts, the settings said in the table, and the code and style of all else."""
        code = [
            provenance.code_version(f"experiments.{name}")
            for name in (
                "figures",
                "findings.claims",
                "findings.samples",
                "findings.scorecard",
                "report",
                "findings.table",
            )
        ]
        parts = [[part.path.parent.name, part.path.name, part.common] for part in self._parts()]
        looks = [figures.style_version(), report.assets_version()]
        content = json.dumps([parts, code, looks], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def _write_table(self) -> None:
        table.assemble(self._parts(), self.swept, self.folder / RESULTS)

    def _write_cells(self, failures: Failures) -> None:
        said = [
            {"cell": name, "settings": of[0][0].settings, **self._status([needed for _, needed in of], failures)}
            for name, of in self._by_cell().items()
        ]
        write_whole(self.folder / CELLS, json.dumps(said, indent=1))

    def _by_cell(self) -> dict[str, list[tuple[Cell, Plan]]]:
        """By name, a cell in each of its worlds."""
        found: dict[str, list[tuple[Cell, Plan]]] = {}
        for cell, needed in self.planned:
            found.setdefault(cell.name, []).append((cell, needed))
        return found

    def _status(self, of: Sequence[Plan], failures: Failures) -> dict[str, Any]:
        """Of a cell, `of` each of its worlds."""
        recipes = [recipe for needed in of for recipe in needed.recipes]
        failure = next((failures[recipe.key] for recipe in recipes if recipe.key in failures), None)
        if failure:
            where = {"trace": failure.trace} if failure.trace else {}
            return {"status": FAILED, "error": failure.error, **where}
        return {"status": DONE if all(map(self.store.is_whole, recipes)) else PENDING, "error": None}

    def _models(self) -> dict[str, dict[str, Places]]:
        def place(stage: Stage) -> str:
            return str(self.store.path(stage.recipe).resolve())

        found: dict[str, dict[str, Places]] = {}
        for cell, needed in self.planned:
            of_cell = found.setdefault(cell.name, {})
            for model, weights in needed.weights.items():
                if not self.store.has(weights.recipe):
                    continue
                world = {"world_seed": cell.world_seed, "seeds": list(cell.seeds)}
                finished = [one for one in needed.measured[model] if one.step is None]
                measured = {one.label: place(one) for one in finished}
                one = {"weights": place(weights), "measured": measured, **world}
                if model in of_cell:
                    of_cell[model].setdefault("other_worlds", []).append(one)
                else:
                    of_cell[model] = one
        return found

    def _parts(self) -> Iterator[Part]:
        """What there is, and is whole, of every cell, in their order."""
        for i, (cell, needed) in enumerate(self.planned):
            config = cell.config
            common = {
                "study": self.config.study,
                "cell": cell.name,
                "world": config.world.name,
                "world_seed": config.world.seed,
                "model": config.model.name,
                "learning_rate": config.tuning.learning_rate,
                **{name: values[i] for name, values in self.swept.items()},
            }
            for model, of in needed.measured.items():
                node = needed.nodes.get(model)
                rate = {UNTOUCHED: config.pretrain.learning_rate, RANDOM: None}
                of_model = {
                    **common,
                    "node": model,
                    "start": node.start if node else None,
                    "method": node.method if node else model,
                    "learning_rate": node.tuning.learning_rate if node else rate[model],
                }
                for one in of:
                    yield from self._part(one, measure.TABLE, of_model)
                if model in needed.tuned:
                    yield from self._part(needed.tuned[model], tune.DATA_TABLE, of_model)
            if needed.paths:
                yield from self._part(needed.paths, paths.TABLE, {**common, "start": UNTOUCHED})

    def _part(self, stage: Stage, file: str, common: dict[str, Any]) -> Iterator[Part]:
        """A table of it, if it is there and whole."""
        if self.store.is_whole(stage.recipe):
            yield Part(self.store.path(stage.recipe) / file, common)
