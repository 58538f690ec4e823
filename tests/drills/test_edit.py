"""An edit of three models at once is one file: here one's logits and, added to them, what a second has over a third."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from analysis import paths
from analysis.edit import Edit, Fed, Kind, Label, Made, Weights
from analysis.edits import EDITS
from analysis.edits.mixtures import PathsConfig
from analysis.rows import Samples, Subject
from analysis.scores import generated, stacked
from models.transformer import ModelConfig, Params, forward
from synth import sequences
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.segments import of_response
from synth.sequences import Prompts
from synth.world import World
from tests.models.one_by_one import one_by_one


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Steered:
    """Proxy tuning (Liu et al. 2024, arXiv 2401.08565): log p of own, plus strength times (log p of one - of other)."""

    of: tuple[Edit, ...]
    strength: float
    model: ModelConfig = field(metadata={"static": True})

    def logits(self, fed: Fed) -> jax.Array:
        own, plus, minus = (jax.nn.log_softmax(one.logits(fed)) for one in self.of)
        return own + self.strength * (plus - minus)


def edits(subject: Subject, config: PathsConfig) -> Iterator[Made[Steered]]:
    for other, params in subject.others.items():
        of = tuple(Weights(weights, subject.model) for weights in (subject.params, params, subject.reference))
        for strength in config.transfer:
            yield Made(Label("steer", strength, other), partial(Steered, of, strength, subject.model))


def test_it_is_judged_and_generated_from_as_any_model_is(
    world: World, model: ModelConfig, params: Params, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EDITS, "steered", Kind(__name__, "paths", edits))
    both = {name: sequences.both(world, sample_batch(world, name, TEST, key, 5)) for name in ("safe", "unsafe")}
    prompts = {name: Prompts(*of) for name, of in both.items()}
    rng = np.random.default_rng(3)
    noisy = partial(jax.tree.map, lambda w: w + 0.1 * rng.standard_normal(w.shape).astype(w.dtype))
    tuned: dict[str, Params] = {name: noisy(params) for name in "ab"}
    apply = jax.jit(partial(forward, model))

    def mixed(tokens: np.ndarray) -> np.ndarray:
        """[B, T, V] from three forward passes, in double precision."""
        models = (tuned["a"], tuned["b"], params)
        own, plus, minus = (log_softmax(np.asarray(apply(of, tokens), float), axis=-1) for of in models)
        return np.asarray(own + 0.5 * (plus - minus))

    found = paths.measure(model, tuned, params, prompts, PathsConfig(5, (), (0.5,)), key)["a"]
    own = {(one.family, one.metric): one for one in found if one.intervention == "steer"}
    assert {(one.strength, one.other) for one in own.values()} == {(0.5, "b")}
    of = tuple(Weights(weights, model) for weights in (tuned["a"], tuned["b"], params))
    said = np.asarray(generated(Steered(of, 0.5, model), stacked(prompts, 5)))
    for i, (family, both) in enumerate(prompts.items()):
        logp = []
        for batch in both:
            logits = log_softmax(mixed(np.asarray(batch.tokens[:, :-1])), axis=-1)
            chosen = np.take_along_axis(logits, np.asarray(batch.tokens)[:, 1:, None], axis=-1)[..., 0]
            logp.append(np.sum(chosen, axis=1, where=of_response(np.asarray(batch.roles[:, 1:]))))
        odds = own[family, "log_odds"]
        assert isinstance(odds, Samples)
        np.testing.assert_allclose(odds.values, logp[0] - logp[1], rtol=1e-4, atol=1e-4)
        for row, go, response in zip(both.complying.tokens, both.complying.go, said[i], strict=True):
            assert response.tolist() == one_by_one(mixed, row.tolist(), int(go))
