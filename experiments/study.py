"""A study from settings to results: build, pretrain, tune, measure, tabulate, draw."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import pandas as pd
import yaml
from filelock import FileLock

from experiments import figures, provenance
from experiments.config import to_dict
from experiments.progress import Reporter
from experiments.results import UNTOUCHED
from experiments.schema import SIDE_SETTINGS, StudyConfig
from experiments.stages import measure, pretrain, tune
from experiments.store import Recipe, Store, write_whole
from experiments.training import Runner

SETTINGS = "config.yaml"
MODELS = "models.json"
"""Where each model's artifact was when the study ended."""

ABOUT_SAFETY = ("safety", "coverage")
"""Settings of a world that pretraining does not depend on."""

COLUMNS = (
    "study", "cell", "world", "model", "method", "learning_rate", "seed",
    "family", "layer", "module", "index", "variant", "metric", "value", "n", "missing",
)  # fmt: skip


class Plan(NamedTuple):
    """The artifacts a study consists of, known before anything is made."""

    pretrain: Recipe
    tune: dict[str, Recipe]
    """By method"""
    measure: dict[str, Recipe]
    """By model: UNTOUCHED and each method"""


class Results(NamedTuple):
    """A finished study."""

    table: pd.DataFrame
    folder: Path


def plan(config: StudyConfig) -> Plan:
    """Which artifacts `config` needs; equal parts of different studies have equal keys."""
    settings = to_dict(config)
    shared = {name: _without(settings[name], "name") for name in ("model", "pretrain")}
    # Pretraining knows nothing of safety: worlds that differ in that alone share it.
    unsafe = {name: settings["world"][name] for name in ABOUT_SAFETY}
    world = _without(settings["world"], "name", *ABOUT_SAFETY)
    pretrained = pretrain.recipe({**shared, "world": world, "seeds": config.seeds})
    tuned = {
        method: tune.recipe(
            {"tuning": settings["tuning"], "method": method, "coefficients": settings["method"][method], **unsafe},
            pretrained,
        )
        for method in config.methods
    }
    measured = {
        model: measure.recipe({"analysis": settings["analysis"], **unsafe}, weights, pretrained)
        for model, weights in {UNTOUCHED: pretrained, **tuned}.items()
    }
    return Plan(pretrained, tuned, measured)


def run(config: StudyConfig, reporter: Reporter) -> Results:
    """Makes what the store does not have yet, then the output folder."""
    store = Store(Path(config.store_dir), reporter.warn)
    _keep_compiled_programs(Path(config.store_dir))
    recipes = plan(config)
    runner = Runner(reporter, config.checkpoint_seconds, config.runs_at_once)
    keep_settings(config)

    pretrained = pretrain.run(
        store, recipes.pretrain, runner, config.world, config.model, config.pretrain, config.seeds
    )
    weights = {UNTOUCHED: pretrained}
    for method in config.methods:
        weights[method] = tune.run(
            store,
            recipes.tune[method],
            runner,
            config.world,
            config.model,
            config.tuning,
            method,
            getattr(config.method, method),
            pretrained,
        )
    tables = {}
    for model, artifact in weights.items():
        if not store.has(recipes.measure[model]):
            reporter.say(f"measure {model}")
        measured = measure.run(
            store, recipes.measure[model], config.world, config.model, config.analysis, artifact, pretrained
        )
        rows = pd.read_parquet(measured.path / measure.TABLE)
        about_data = artifact.path / tune.DATA_TABLE
        tables[model] = pd.concat([rows, pd.read_parquet(about_data)]) if about_data.exists() else rows
    models = {model: str(artifact.path.resolve()) for model, artifact in weights.items()}
    return write(config, tabulate(config, tables), models)


def tabulate(config: StudyConfig, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The tidy table: the measured rows of each model under the study's columns."""
    frames = [
        rows.assign(
            study=config.study,
            cell="",
            world=config.world.name,
            model=config.model.name,
            method=model,
            learning_rate=config.pretrain.learning_rate if model == UNTOUCHED else config.tuning.learning_rate,
        )
        for model, rows in tables.items()
    ]
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)]


def output_folder(config: StudyConfig) -> Path:
    """`<output_dir>/<study>-<hash of all settings that matter to the result>`."""
    settings = {name: value for name, value in to_dict(config).items() if name not in SIDE_SETTINGS}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return Path(config.output_dir) / f"{config.study}-{digest[:8]}"


def keep_settings(config: StudyConfig) -> None:
    """The output folder with SETTINGS alone, from the start: `resume=FOLDER` goes on from it."""
    folder = output_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SETTINGS, yaml.safe_dump(to_dict(config), sort_keys=False))


def write(config: StudyConfig, table: pd.DataFrame, models: dict[str, str]) -> Results:
    """The output folder; DONE is written last, and a folder without it is written anew.

    DONE holds the version of the code that drew the figures, so that new code draws them again.
    """
    folder = output_folder(config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        return _write(config, table, models, folder)


def _write(config: StudyConfig, table: pd.DataFrame, models: dict[str, str], folder: Path) -> Results:
    done = folder / "DONE"
    results = folder / "results.parquet"
    drawn_by = f"{provenance.code_version('experiments.figures')} {figures.style_version()}"
    whole = figures.all_drawn(folder / "figures")
    if done.exists() and done.read_text() == drawn_by and whole and _same_table(results, table):
        return Results(table, folder)
    if folder.exists():
        done.unlink(missing_ok=True)
        shutil.rmtree(folder / "figures", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SETTINGS, yaml.safe_dump(to_dict(config), sort_keys=False))
    write_whole(folder / MODELS, json.dumps(models, indent=1))
    write_whole(folder / "env.json", json.dumps(provenance.environment(), indent=1))
    table.to_parquet(folder / ".results.parquet", index=False)
    (folder / ".results.parquet").replace(results)
    figures.draw_all(pd.read_parquet(results), folder / "figures")
    write_whole(done, drawn_by)
    return Results(table, folder)


def _same_table(path: Path, table: pd.DataFrame) -> bool:
    try:
        return bool(pd.read_parquet(path).equals(table))
    except (OSError, ValueError):
        return False


def _without(settings: dict[str, object], *names: str) -> dict[str, object]:
    """A preset's name, for one, is a label: the same settings under another name are the same thing."""
    return {name: value for name, value in settings.items() if name not in names}


def _keep_compiled_programs(store: Path) -> None:
    """Compiled programs are kept beside the artifacts and serve later runs."""
    jax.config.update("jax_compilation_cache_dir", str((store / "compiled").resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
