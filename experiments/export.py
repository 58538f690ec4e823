"""A trained model for other tools.

`python -m experiments.export run=outputs/quick-1a2b3c4d to=huggingface out=model method=dpo seed=1`
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from experiments.command import command
from experiments.findings import seal
from experiments.findings.results import named_cell
from experiments.progress import Reporter
from experiments.settings.commands import ExportConfig
from experiments.settings.names import UNTOUCHED
from experiments.stages.files import WEIGHTS
from experiments.store.files import remove, unique
from experiments.store.manifest import changed
from models import huggingface
from models.weights import WeightsError, check, described, flatten, from_safetensors, one_seed, to_safetensors
from synth.settings import UserError


def export(config: ExportConfig) -> str:
    """Writes the model to `config.out`; returns which one it is.

    Raises UserError if the study has no such model or it cannot be written so.
    """
    cells = seal.models("run", Path(config.run))
    models = cells[next(iter(cells)) if config.cell is None else named_cell(cells, config.cell)]
    model = config.method or next((name for name in models if name != UNTOUCHED), UNTOUCHED)
    if model not in models:
        raise UserError(f"method={model}: this study has {', '.join(models)}; choose from these")
    worlds = [models[model], *models[model].get("other_worlds", [])]
    if not all("seeds" in one for one in worlds):
        raise UserError(f"run={config.run}: {seal.MODELS} does not name the seeds; run the study again")
    known = [seed for one in worlds for seed in one["seeds"]]
    if config.seed not in known:
        there = f"{known[0]} to {known[-1]}" if known == list(range(known[0], known[-1] + 1)) else f"{known}"
        raise UserError(f"seed={config.seed}: this study has seeds {there}; choose one of them")
    world = next(one for one in worlds if config.seed in one["seeds"])
    file = Path(world["weights"]) / WEIGHTS
    if not os.path.lexists(file):
        raise UserError(f"run={config.run}: {file} is not there any more; run the study again")
    try:
        if changed(file.parent):
            raise WeightsError
        content = file.read_bytes()
        about, stack = described(content), from_safetensors(content)
    except (OSError, WeightsError, SafetensorError):
        raise UserError(f"run={config.run}: {file} is damaged; run the study again") from None
    params = one_seed(stack, world["seeds"].index(config.seed))
    try:
        check(about.model, len(about.vocabulary), params)
        if not all(np.isfinite(leaf).all() for leaf in flatten(params).values()):
            raise WeightsError(f"seed {config.seed} of {model} diverged while it was trained")
        if config.to == "safetensors":
            _whole_file(Path(config.out), to_safetensors(params, about))
        else:
            _whole_folder(Path(config.out), huggingface.files(params, about))
    except WeightsError as error:
        raise UserError(str(error)) from None
    return f"{model}, seed {config.seed}"


def _whole_file(path: Path, content: bytes) -> None:
    if path.is_dir() or path.suffix != ".safetensors":
        raise UserError(f"out={path}: must be a file that ends in .safetensors; for example out=model.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unique(path)
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _whole_folder(path: Path, files: dict[str, bytes]) -> None:
    """Replaces an exported model, but nothing else that may be there."""
    if path.exists() and (not path.is_dir() or {file.name for file in path.iterdir()} not in ({*files}, set())):
        raise UserError(f"out={path}: there is something else; name a new folder")
    path = Path(os.path.realpath(path))
    unfinished = unique(path)
    try:
        unfinished.mkdir(parents=True)
        for name, content in files.items():
            (unfinished / name).write_bytes(content)
        shutil.rmtree(path, ignore_errors=True)
        unfinished.rename(path)
    finally:
        remove(unfinished)


def _run(config: ExportConfig, reporter: Reporter) -> None:
    reporter.say(f"{export(config)} in {config.out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    return command("experiments.export", __doc__, ExportConfig, _run, arguments)


if __name__ == "__main__":
    sys.exit(main())
