"""A method whose batch is no labelled pair is one file: here with three responses to each prompt, ranked by one.

It goes through a study from settings, its own coefficient among them, to table.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from experiments import figures
from experiments.settings.config import load, output_folder
from experiments.study import run as study
from models.likelihood import score
from models.training import tuning
from models.training.loop import Terms, across, fit
from models.training.method import Method, labelled_pairs
from models.training.methods import METHODS
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig, Params, forward
from synth import sequences, tuning_data
from synth.prompts import Prompt
from synth.segments import ANSWER, Batch, Segment, laid_out
from synth.settings import UserError
from synth.tuning_data import TuningData
from synth.world import World
from tests.experiments.conftest import FEW_FAMILIES
from tests.experiments.said import Said
from tests.experiments.test_study import TINY

pytestmark = pytest.mark.usefixtures("with_optax")


class Three(NamedTuple):
    best: Batch
    second: Batch
    echo: Batch


@jax.tree_util.register_dataclass
@dataclass(unsafe_hash=True)
class Ranked:
    beta: float = 2.0
    """Inverse temperature"""


def batch(world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int) -> Three:
    """The response that the label asks for, the other one, and the prompt's own text said again."""
    prompts = tuning_data.draw(world, data, key, step, size).prompts

    def echo(prompt: Prompt) -> Batch:
        said = Segment(prompt.text + world.vocab.first_letter, prompt.length, ANSWER, scored=True)
        return laid_out(sequences.sequence(world, prompt, [said]))[0]

    pair = labelled_pairs(world, data, key, step, size)
    return Three(pair.preferred, pair.dispreferred, jax.vmap(echo)(prompts))


def ranked(model: ModelConfig, params: Params, reference: Params, batch: Three, hyper: Ranked) -> Terms:
    """-log of the share that the best response has of the softmax of -beta l over the three."""
    likely = jnp.stack([-score(model, params, of).cross_entropy for of in batch])
    return Terms(-jax.nn.log_softmax(hyper.beta * likely, axis=0)[0], {"best": likely[0]})


METHOD = Method(__name__, ranked, Ranked, part="repair", batch=batch)


def numpy_loss(model: ModelConfig, params: Params, batch: Three, beta: float) -> float:
    """Of the whole batch, by a loop over its tokens."""
    likely = []
    for tokens, _, _, scored, *_ in batch:
        found = log_softmax(np.asarray(jax.jit(forward, static_argnums=0)(model, params, tokens), np.float64), axis=-1)
        of = [[found[n, t - 1, tokens[n, t]] for t in np.flatnonzero(row)] for n, row in enumerate(np.asarray(scored))]
        likely.append([np.mean(row) for row in of])
    return float(np.mean([-log_softmax(beta * row)[0] for row in np.transpose(likely)]))


def test_it_is_trained_as_any_row_is(
    world: World, model: ModelConfig, params: Params, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "ranked", METHOD)
    row, config, keys = METHODS["ranked"], TuningConfig(steps=30, batch_size=8, learning_rate=1e-2), jnp.stack([key])
    one, coefficients = jax.tree.map(lambda w: w[None], params), Ranked(1.5)
    schedule = across([tuning.schedule(config, row, coefficients, world.config)], 1)
    program = tuning.program(config, row, model, world.config)
    _, log = fit(program, schedule, one, one, keys)
    first = batch(world, TuningData(0, 0.5, 0.0), key, 0, 8)
    np.testing.assert_allclose(log["loss"][0, 0], numpy_loss(model, params, first, 1.5), rtol=1e-5)
    assert np.mean(log["loss"][-5:]) < 0.7 * np.mean(log["loss"][:5])
    assert np.mean(log["best"][-5:]) > np.mean(log["best"][:5])


SHORT = (
    *(*TINY, *FEW_FAMILIES, "methods=[ranked]", "random_model=false", "model.layers=1"),
    *("pretrain.watch.every=0", "tuning.watch.every=0", "analysis.measurements=[behaviour]"),
)
OWN = "method.ranked.beta=0"


def test_a_study_of_it_has_its_coefficient_among_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^method\.ranked\.beta: there is no such setting; "):
        load([OWN])
    with monkeypatch.context() as patched:
        patched.setitem(METHODS, "ranked", METHOD)
        patched.setattr(figures, "FIGURES", {"behaviour": figures.FIGURES["behaviour"]})
        config = load([*SHORT, OWN, f"output_dir={tmp_path}/outputs", f"store_dir={tmp_path}/store"])
        assert config.method.ranked == Ranked(0.0)
        table = study.run(config, Said()).table
        assert load([f"resume={output_folder(config)}"]) == config
        with pytest.raises(UserError, match=r"^method\.ranked\.beta=much: Value 'much' of type 'str' could not be"):
            load([*SHORT, "method.ranked.beta=much"])
    assert set(zip(table["node"], table["method"], strict=True)) == {("untouched", "untouched"), ("ranked", "ranked")}
    places = json.loads((output_folder(config) / "models.json").read_text())[""]["ranked"]
    log = pd.read_parquet(Path(places["weights"]) / "log.parquet")
    # All three responses are equally likely where beta is 0, which it is in no study that does not say so.
    np.testing.assert_allclose(log["loss"], np.log(3), rtol=1e-6)
    assert Ranked().beta != 0
    with pytest.raises(UserError, match=r"^method\.ranked\.beta: there is no such setting; "):
        load([OWN])
