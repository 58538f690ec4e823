"""Tests of `models/training/watch.py` against generation and a plain loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.training.watch import WatchConfig, look
from models.transformer import ModelConfig, Params
from synth import sequences, vocab
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.segments import ANSWER, END, PADDING, Batch, of_response
from synth.settings import SettingError
from synth.world import World
from tests.models.test_decode import continuing, generated, loglikelihood

SIZE = 8


def answered(batch: Batch, tokens: np.ndarray, rows: slice) -> Batch:
    """`batch` with `tokens` for the sequences of `rows`: prompt, response, EOS, padding."""
    place = np.arange(tokens.shape[1])
    behind = place[None] > np.asarray(batch.go)[:, None]
    response = np.where(tokens == vocab.EOS, END, np.where(tokens == vocab.PAD, PADDING, ANSWER))
    roles = np.where(behind, response, batch.roles)
    return batch._replace(
        tokens=batch.tokens.at[rows].set(tokens[rows]),
        roles=batch.roles.at[rows].set(jnp.asarray(roles[rows])),
        scored=batch.scored.at[rows].set(jnp.asarray(of_response(roles[rows]))),
    )


def test_a_look_equals_a_plain_loop_over_generated_responses(
    world: World, model: ModelConfig, params: Params, key: jax.Array
) -> None:
    """Of two runs; some compliant responses and refusals are what the first run generates."""
    weights = [params, jax.tree.map(lambda w: w * 0.8, params)]
    prompts, expected = {}, {}
    drawn = sample_batch(world, "pretraining", TEST, key, SIZE)
    comply, refuse = sequences.both(world, drawn)
    said = np.asarray(continuing(model)(params, comply.tokens, comply.go))
    for family, comply_rows, refuse_rows in (("safe", slice(0, 3), slice(3, 4)), ("unsafe", slice(0, 0), slice(0, 8))):
        batches = answered(comply, said, comply_rows), answered(refuse, said, refuse_rows)
        prompts[family] = batches
        for run, own in enumerate(weights):
            complied, refused = (np.mean(generated(model, own, batch)) for batch in batches)
            comply_logp, refuse_logp = (np.mean(loglikelihood(model, own, batch)) for batch in batches)
            expected[family, run] = [complied, refused, comply_logp, refuse_logp]
    assert expected["safe", 0][:2] == [3 / SIZE, 1 / SIZE]
    assert expected["unsafe", 0][1] == 1.0
    assert expected["safe", 1][:2] != expected["safe", 0][:2]
    seen = look(model, jax.tree.map(lambda *w: jnp.stack(w), *weights), prompts)
    for (family, run), values in expected.items():
        metrics = ("complied", "refused", "logp_comply", "logp_refuse")
        # Log-likelihoods are sums of some ten float32 numbers of order 10.
        np.testing.assert_allclose([seen[family][metric][run] for metric in metrics], values, rtol=1e-5)


@pytest.mark.parametrize("setting", [{"every": -1}, {"prompts": 0}, {"guard": "halt"}, {"floor": 1.5}], ids=str)
def test_settings_out_of_range_are_an_error(setting: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(setting))}="):
        WatchConfig(**setting)
