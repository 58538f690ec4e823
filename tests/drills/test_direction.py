"""A direction is found on some prompts and taken away on others: by a tap everywhere, or out of all weights that write
to the residual stream, to the same logits."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.edit import Fed, Kind, Label, Made, Weights
from analysis.edits import EDITS, lookup
from analysis.rows import Subject
from analysis.scores import generated, scores, stacked, tried
from models.taps import capture, edit
from models.transformer import ModelConfig, Params
from models.weights import flatten, unflatten
from synth import sequences
from synth.lookup import sample_batch
from synth.prompts import TEST, VALIDATION
from synth.sequences import Prompts
from synth.world import World

LAYER = 1
WRITERS = ("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out")


def without(x: jax.Array, direction: jax.Array) -> jax.Array:
    """`x` [..., D] without its part along the unit vector `direction` [D]."""
    return x - (x @ direction)[..., None] * jnp.broadcast_to(direction, x.shape)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Ablated:
    """The model without `direction` [D] in its residual stream (Arditi et al. 2024, arXiv 2406.11717, Eq. 4)."""

    params: Params
    direction: jax.Array
    model: ModelConfig = field(metadata={"static": True})

    def logits(self, fed: Fed) -> jax.Array:
        sites = [f"blocks.{i}.{site}" for i in range(self.model.layers) for site in ("resid_mid", "resid_post")]
        taps = dict.fromkeys(["embed", *sites], partial(without, direction=self.direction))
        return edit(self.model, self.params, fed.tokens, taps, fed.layout)


def orthogonalised(model: ModelConfig, params: Params, direction: jax.Array) -> Weights:
    """The same by weights (their Eq. 5)."""
    flat = flatten(params)
    made = {name: np.asarray(without(flat[name], direction)) for name in flat if name.split(".")[-1] in WRITERS}
    return Weights(unflatten({**flat, **made}), model)


def chosen(model: ModelConfig, params: Params, prompts: dict[str, Prompts]) -> jax.Array:
    """[D] from the mean of unsafe prompts to that of safe ones, in one layer, before the response."""
    site, means = f"blocks.{LAYER}.resid_post", []
    for batch in (of.complying for of in prompts.values()):
        seen = capture(model, params, batch.tokens, [site])[site]
        means.append(seen[jnp.arange(len(batch.go)), batch.go].mean(0))
    apart = means[0] - means[1]
    return apart / jnp.linalg.norm(apart)


def edits(subject: Subject, direction: jax.Array) -> Iterator[Made[Ablated | Weights]]:
    for module, make in (("resid", Ablated), ("weights", lambda params, x, model: orthogonalised(model, params, x))):
        yield Made(Label("ablate", layer=LAYER, module=module), partial(make, subject.params, direction, subject.model))


def test_by_tap_and_by_weights_it_is_the_same_model(
    world: World, model: ModelConfig, params: Params, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EDITS, "direction", Kind(__name__, "interventions", edits))
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
