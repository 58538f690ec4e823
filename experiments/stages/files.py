"""What the training stages write: weights as safetensors, the log of each step as Parquet."""

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.store import Artifact
from experiments.training import LOGGED, Trained
from models.transformer import Params
from models.weights import from_safetensors, to_safetensors

WEIGHTS, LOG = "weights.safetensors", "log.parquet"


def save_training(folder: Path, trained: Trained) -> None:
    """Weights with a leading axis of seeds, and a row for each step and seed."""
    (folder / WEIGHTS).write_bytes(to_safetensors(trained.params))
    steps, seeds = trained.log["loss"].shape
    step, seed = np.divmod(np.arange(steps * seeds), seeds)
    columns = {metric: trained.log[metric].ravel() for metric in LOGGED}
    pd.DataFrame({"step": step, "seed": seed, **columns}).to_parquet(folder / LOG, index=False)


def load_weights(artifact: Artifact) -> Params:
    """The weights of a training stage, with a leading axis of seeds."""
    return from_safetensors((artifact.path / WEIGHTS).read_bytes())
