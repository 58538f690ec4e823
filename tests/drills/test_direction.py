"""A direction is found on some prompts and taken away on others: by a tap everywhere, or out of all weights that write
to the residual stream, to the same logits."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.edit import Fed, Kind, Label, Made, Weights
from analysis.edits import EDITS, lookup
from analysis.edits.directions import Ablated, orthogonalised
from analysis.rows import Subject
from analysis.scores import generated, scores, stacked, tried
from models.taps import capture
from models.transformer import ModelConfig, Params
from synth import sequences
from synth.lookup import sample_batch
from synth.prompts import TEST, VALIDATION
from synth.sequences import Prompts
from synth.world import World

LAYER = 1


def chosen(model: ModelConfig, params: Params, prompts: dict[str, Prompts]) -> jax.Array:
    """[D] from the mean of unsafe prompts to that of safe ones, in one layer, before the response."""
    site, means = f"blocks.{LAYER}.resid_post", []
    for batch in (of.complying for of in prompts.values()):
        seen = capture(model, params, batch.tokens, [site])[site]
        means.append(seen[jnp.arange(len(batch.go)), batch.go].mean(0))
    apart = means[0] - means[1]
    return apart / jnp.linalg.norm(apart)


def edits(subject: Subject, direction: jax.Array) -> Iterator[Made[Ablated | Weights]]:
    model, params, basis = subject.model, subject.params, direction[None]
    yield Made(Label("without", layer=LAYER, module="resid"), partial(Ablated, params, basis, model))
    yield Made(
        Label("without", layer=LAYER, module="weights"), partial(orthogonalised, model, params, np.asarray(basis))
    )


def test_by_tap_and_by_weights_it_is_the_same_model(
    world: World, model: ModelConfig, params: Params, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EDITS, "a direction", Kind(__name__, "interventions", edits))
    assert __name__ in lookup.modules("interventions")
    found, asked = (
        {name: Prompts(*sequences.both(world, sample_batch(world, name, side, key, 6))) for name in ("safe", "unsafe")}
        for side in (VALIDATION, TEST)
    )
    direction, prompts = chosen(model, params, found), stacked(asked, 6)
    subject = Subject(model, params, params, asked, {}, {}, key)
    made = {one.label.module: one.make() for one in edits(subject, direction)}
    batch = asked["unsafe"].complying
    fed = Fed(batch.tokens[:, :-1], batch.go)
    by_tap, by_weights, plain = (of.logits(fed) for of in (*made.values(), Weights(params, model)))
    np.testing.assert_allclose(by_tap, by_weights, rtol=1e-4, atol=1e-4)
    assert np.abs(by_tap - plain).max() > 0.1
    (one,), (other,) = tried(edits(subject, direction), prompts).values()
    np.testing.assert_allclose(one.log_odds, other.log_odds, rtol=1e-4, atol=1e-4)
    assert np.abs(one.log_odds - scores(Weights(params, model), prompts).log_odds).min() > 1e-3
    np.testing.assert_array_equal(*(generated(of, prompts) for of in made.values()))
