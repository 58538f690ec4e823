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

from experiments import claims, figures, provenance
from experiments.config import to_dict
from experiments.progress import Reporter
from experiments.results import UNTOUCHED
from experiments.schema import SIDE_SETTINGS, StudyConfig
from experiments.stages import measure, paths, pretrain, tune
from experiments.artifacts import Recipe, Store, write_whole
from experiments.training import Runner
from synth.families import existing
from synth.world import build_world

SETTINGS = "config.yaml"
CLAIMS = "claims.json"
MODELS = "models.json"
"""Where each model's artifact was when the study ended."""

ABOUT_SAFETY = ("safety", "coverage")
"""Settings of a world that pretraining does not depend on."""

COLUMNS = (
    "study", "cell", "world", "model", "method", "learning_rate", "seed",
    "family", "layer", "module", "index", "variant", "metric", "value", "n", "missing",
)  # fmt: skip


TYPES = {
    **dict.fromkeys(("family", "module", "variant", "metric", "missing"), "str"),
    "layer": "Int16",
    "index": "Int32",
}
"""Of columns that may be without a value, which would else come back from a file as something else."""


class Plan(NamedTuple):
    """The artifacts a study consists of, known before anything is made."""

    pretrain: Recipe
    tune: dict[str, Recipe]
    """By method"""
    measure: dict[str, Recipe]
    """By model: UNTOUCHED and each method"""
    paths: Recipe | None
    """None where there is but one tuned model"""


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
    families = settings["analysis"]["families"]
    between = paths.recipe({"families": families, "paths": settings["paths"], **unsafe}, tuned, pretrained)
    return Plan(pretrained, tuned, measured, between if len(tuned) > 1 else None)


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
    tables = []
    for model, artifact in weights.items():
        if not store.has(recipes.measure[model]):
            reporter.say(f"measure {model}")
        measured = measure.run(
            store, recipes.measure[model], config.world, config.model, config.analysis, artifact, pretrained
        )
        tables.append(pd.read_parquet(measured.path / measure.TABLE).assign(method=model))
        about_data = artifact.path / tune.DATA_TABLE
        if about_data.exists():
            tables.append(pd.read_parquet(about_data).assign(method=model))
    if recipes.paths:
        if not store.has(recipes.paths):
            reporter.say("measure what lies between the models")
        tuned = {method: weights[method] for method in config.methods}
        families = config.analysis.families or existing(build_world(config.world))
        compared = paths.run(
            store, recipes.paths, config.world, config.model, config.paths, families, tuned, pretrained
        )
        tables.append(pd.read_parquet(compared.path / paths.TABLE))
    models = {model: str(artifact.path.resolve()) for model, artifact in weights.items()}
    return write(config, tabulate(config, tables), models)


def tabulate(config: StudyConfig, tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The tidy table: measured rows, with the model they are of as `method`, under the study's columns."""
    table = pd.concat(tables, ignore_index=True)
    rate = {UNTOUCHED: config.pretrain.learning_rate}
    return table.assign(
        study=config.study,
        cell="",
        world=config.world.name,
        model=config.model.name,
        learning_rate=table["method"].map(rate).fillna(config.tuning.learning_rate),
    )[list(COLUMNS)].astype(TYPES)


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

    DONE holds the version of the code that drew and judged, so that new code does it again.
    """
    folder = output_folder(config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        return _write(config, table, models, folder)


def _write(config: StudyConfig, table: pd.DataFrame, models: dict[str, str], folder: Path) -> Results:
    folder.mkdir(parents=True, exist_ok=True)
    # Also where nothing else is new: the same study may have been made again in another store.
    write_whole(folder / MODELS, json.dumps(models, indent=1))
    done = folder / "DONE"
    results = folder / "results.parquet"
    code = [provenance.code_version(f"experiments.{module}") for module in ("figures", "claims")]
    drawn_by = " ".join([*code, figures.style_version()])
    whole = figures.all_drawn(folder / "figures")
    if done.exists() and done.read_text() == drawn_by and whole and _same_table(results, table):
        return Results(table, folder)
    done.unlink(missing_ok=True)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    write_whole(folder / SETTINGS, yaml.safe_dump(to_dict(config), sort_keys=False))
    write_whole(folder / "env.json", json.dumps(provenance.environment(), indent=1))
    table.to_parquet(folder / ".results.parquet", index=False)
    (folder / ".results.parquet").replace(results)
    write_whole(folder / CLAIMS, claims.to_json(claims.scorecard(table)))
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
