"""Prompts as a file for other tools: Parquet or JSON Lines, whole or absent.

Columns `prompt`, `chosen` and `rejected` are what preference trainers read; chosen is what a
safe model answers: the compliant response to a safe prompt, the refusal of any other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from experiments.progress import Reporter
from experiments.settings.commands import DataConfig
from experiments.store.files import unique
from synth import sequences
from synth.derive import NO_CONCEPT
from synth.keys import fold
from synth.lookup import check_found, sample_batch
from synth.prompts import SIDES, Prompt, verdicts
from synth.safety import SAFE, VERDICTS
from synth.segments import Batch, of_response
from synth.settings import naming
from synth.world import World, build_world

CHUNK = 2**14
"""Prompts made and written at a time: what memory the export takes."""

SCHEMA = pa.schema(
    {
        "family": pa.string(),
        "prompt": pa.string(),
        "chosen": pa.string(),
        "rejected": pa.string(),
        "verdict": pa.string(),
        "tasks": pa.list_(pa.string()),
        "concept": pa.string(),
        "groups": pa.list_(pa.string()),
        "grammar": pa.int32(),
        "compliant": pa.string(),
        "refusing": pa.string(),
        "prompt_tokens": pa.list_(pa.int32()),
        "compliant_tokens": pa.list_(pa.int32()),
        "refusing_tokens": pa.list_(pa.int32()),
    }
)


def export(config: DataConfig, path: Path, reporter: Reporter) -> None:
    """Writes `config.n` prompts of each family of `config` to `path`, .parquet or .jsonl.

    Memory does not depend on `n`. The file appears when it is whole.
    """
    world = build_world(config.world)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unique(path)
    total = config.n * len(config.family)
    done = 0
    try:
        with reporter.stage(f"write {path.name}", total, "prompt") as meter, _writer(unfinished, path.suffix) as write:
            for family in config.family:
                for chunk in _chunks(world, family, config):
                    write(chunk)
                    done += len(chunk)
                    meter.update(done)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _chunks(world: World, family: str, config: DataConfig) -> Iterator[pa.Table]:
    key = fold(jax.random.key(config.seed), "export", family)
    size, side = min(CHUNK, config.n), SIDES.index(config.side)
    for first in range(0, config.n, size):
        prompts = sample_batch(world, family, side, key, size, jnp.int32(first))
        with naming("world"):
            check_found(world, family, side, prompts)
        complying, refusing = sequences.both(world, prompts)
        columns = jax.tree.map(np.asarray, (prompts, complying, refusing, verdicts(world, prompts)))
        yield table(world, family, *columns).slice(0, config.n - first)


def table(
    world: World, family: str, prompts: Prompt, complying: Batch, refusing: Batch, verdict: np.ndarray
) -> pa.Table:
    """Prompts with both responses, all of NumPy arrays, in the columns of SCHEMA."""
    names = pa.array(world.vocab.names())
    asked = _lists(complying.tokens, np.arange(complying.tokens.shape[1]) <= complying.go[:, None])
    answers = {
        name: _lists(batch.tokens, of_response(batch.roles))
        for name, batch in (("compliant", complying), ("refusing", refusing))
    }
    words = {name: _words(tokens, names) for name, tokens in answers.items()}
    # Text is joined to the prompt by whoever trains on it: the blank between belongs to the answer.
    spaced = {name: pc.binary_join_element_wise("", text, " ") for name, text in words.items()}
    safe = pa.array(verdict == SAFE)
    groups = np.asarray(prompts.groups)
    numbers = np.broadcast_to(np.arange(groups.shape[1]), groups.shape)
    concept = np.asarray(prompts.concept)
    columns: dict[str, Any] = {
        "family": pa.array([family]).take(pa.array(np.zeros(len(safe), np.int32))),
        "prompt": _words(asked, names),
        "chosen": pc.if_else(safe, spaced["compliant"], spaced["refusing"]),
        "rejected": pc.if_else(safe, spaced["refusing"], spaced["compliant"]),
        "verdict": pa.array(VERDICTS).take(pa.array(verdict)),
        "tasks": _named(prompts.tasks, np.ones(prompts.tasks.shape, bool), world.vocab.tasks),
        "concept": pa.array(world.concepts).take(pa.array(concept, mask=concept == NO_CONCEPT)),
        "groups": _named(numbers, groups, world.groups),
        "grammar": pa.array(prompts.grammar),
        "compliant": words["compliant"],
        "refusing": words["refusing"],
        "prompt_tokens": asked,
        "compliant_tokens": answers["compliant"],
        "refusing_tokens": answers["refusing"],
    }
    return pa.table(columns, SCHEMA)


def _lists(values: Any, chosen: Any) -> Any:
    """The chosen entries of each row, as a column of lists."""
    offsets = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.asarray(values)[chosen].astype(np.int32)))


def _named(numbers: Any, chosen: Any, names: tuple[str, ...]) -> Any:
    lists = _lists(numbers, chosen)
    return pa.ListArray.from_arrays(lists.offsets, pa.array(names).take(lists.values))


def _words(tokens: Any, names: Any) -> Any:
    """Each list of token ids as names with blanks between."""
    return pc.binary_join(pa.ListArray.from_arrays(tokens.offsets, names.take(tokens.values)), " ")


@contextmanager
def _writer(path: Path, suffix: str) -> Iterator[Callable[[pa.Table], object]]:
    """The function that appends a table to the file."""
    if suffix == ".parquet":
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as parquet:
            yield parquet.write_table
    else:
        with path.open("w", encoding="utf-8") as lines:
            yield lambda chunk: chunk.to_pandas().to_json(lines, orient="records", lines=True)
