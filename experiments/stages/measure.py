"""Measuring: what one model does on held-out prompts of each family, and where it changed."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import suite
from analysis.observe import observe, observe_last
from analysis.rows import Result, Row, Samples, Subject, rows
from analysis.suite import MEASUREMENTS, AnalysisConfig
from experiments.artifacts import Artifact, Recipe, Store
from experiments.provenance import code_version
from experiments.stages import files, responses
from experiments.stages.prompts import drawn, held_out
from experiments.stages.seeds import of_each
from experiments.training import DivergedError, finite_runs
from models.transformer import ModelConfig, Params
from models.weights import one_seed
from synth.families import existing
from synth.keys import fold
from synth.prompts import distinct
from synth.sequences import Prompts
from synth.world import WorldConfig, build_world

TABLE, SAMPLES = "rows.parquet", "samples.parquet"


def recipe(settings: dict[str, object], model: Recipe, reference: Recipe) -> Recipe:
    """`settings`: analysis, measurements if not all, and what is about safety in the world, as plain dictionaries."""
    return Recipe("measure", settings, (model.key, reference.key), code_version(__name__))


def run(
    store: Store,
    recipe: Recipe,
    world: WorldConfig,
    model: ModelConfig,
    config: AnalysisConfig,
    weights: Artifact,
    reference: Artifact,
    first_seed: int,
    measurements: tuple[str, ...] = tuple(MEASUREMENTS),
) -> Artifact:
    """TABLE of `measurements` of every seed that has not diverged, SAMPLES with the values of single prompts.

    And in words, `responses.TABLE`. `first_seed` is the number of the first seed.
    """

    def make(folder: Path, partial: Path) -> None:
        params, untouched = files.load_weights(weights), files.load_weights(reference)
        same = jax.tree.all(jax.tree.map(np.array_equal, params, untouched))
        prompts, groups = prompts_of(world, config), groups_of(world, config)
        different = [_distinct(world, family, config.prompts) for family in prompts]
        whole = finite_runs(params)
        if not whole.any():
            raise DivergedError("there is nothing to measure: every seed of the model diverged while it was trained")

        def of_seed(place: int) -> tuple[pd.DataFrame, pa.Table, pd.DataFrame]:
            seed = first_seed + place
            before = one_seed(untouched, place)
            own = before if same else one_seed(params, place)
            seen = subject(model, config, own, before, prompts, seed, groups=groups)
            results = [*suite.measure(config, seen, measurements), *different]
            found = pd.DataFrame(rows(results)).assign(seed=seed)
            return found, _samples_table(results, seed), responses.table(world, seen.observations, seed)

        tables, samples, answers = zip(*of_each(of_seed, np.flatnonzero(whole).tolist()), strict=True)
        pd.concat(tables, ignore_index=True).to_parquet(folder / TABLE, index=False)
        pq.write_table(pa.concat_tables(samples), folder / SAMPLES)
        pd.concat(answers, ignore_index=True).to_parquet(folder / responses.TABLE, index=False)

    return store.fetch(recipe, make)


def prompts_of(world: WorldConfig, config: AnalysisConfig) -> dict[str, Prompts]:
    """The prompts that are measured, by family."""
    families = config.families or existing(build_world(world))
    return {family: held_out(world, family, config.prompts) for family in families}


def groups_of(world: WorldConfig, config: AnalysisConfig) -> dict[str, np.ndarray]:
    """[N, groups] bool, by family: the concept groups that each of these prompts' texts was derived from."""
    families = config.families or existing(build_world(world))
    return {family: np.asarray(drawn(world, family, config.prompts)[0].groups) for family in families}


def subject(
    model: ModelConfig,
    config: AnalysisConfig,
    params: Params,
    reference: Params,
    prompts: dict[str, Prompts],
    seed: int,
    before: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    groups: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Subject:
    """One model of one seed, having seen all prompts; `before`, if known, is what `observe_last` saw with the weights
    `reference`, and `groups` is `groups_of` these prompts."""
    seen = {family: observe(model, params, batch, config.clusters.window) for family, batch in prompts.items()}
    if before is None:
        most = config.prompts_before
        before = (
            {family: {site: acts[:most] for site, acts in of.last.items()} for family, of in seen.items()}
            if params is reference
            else observe_last(model, reference, prompts, most)
        )
    key = fold(jax.random.key(0), "measure", seed)
    return Subject(model, params, reference, prompts, seen, before, key, groups)


def _distinct(world: WorldConfig, family: str, count: int) -> Row:
    """How many of the first `count` prompts of a family differ: a small world gives some of them again."""
    return Row("distinct", float(distinct(drawn(world, family, count)[0])), count, family=family)


def _samples_table(results: list[Result], seed: int) -> pa.Table:
    """A row for each prompt of each of the samples."""
    samples = [result for result in results if isinstance(result, Samples)]
    sizes = [len(sample.values) for sample in samples]
    which = pa.array(np.repeat(np.arange(len(samples)), sizes))

    def label(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array([getattr(sample, name) for sample in samples], kind).dictionary_encode().take(which)

    return pa.table(
        {
            "seed": pa.array(np.full(len(which), seed, np.int32)),
            "family": label("family", pa.string()),
            "prompt": pa.array(np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])),
            "metric": label("metric", pa.string()),
            "layer": label("layer", pa.int16()),
            "module": label("module", pa.string()),
            "index": label("index", pa.int32()),
            "variant": label("variant", pa.string()),
            "value": pa.array(np.concatenate([sample.values for sample in samples]).astype(np.float32)),
        }
    )
