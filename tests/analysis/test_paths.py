"""Tests of `analysis/paths.py`: each mixture worked out in NumPy, and none scored twice."""

from typing import Any

import jax
import numpy as np
import pytest

from analysis import paths
from analysis.edit import Weights
from analysis.edits.mixtures import PathsConfig
from analysis.rows import Result, Samples, rows
from analysis.scores import scores, stacked
from models.transformer import ModelConfig, Params
from synth import sequences
from synth.lookup import sample_batch
from synth.prompts import TEST
from synth.sequences import Prompts
from synth.settings import SettingError
from synth.world import World

CONFIG = PathsConfig(prompts=4, between=(0.1, 0.5, 0.9), transfer=(0.5, 1.0))


@pytest.fixture(scope="module")
def tuned(params: Params) -> dict[str, Params]:
    rng = np.random.default_rng(1)
    return {
        name: jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(leaf.dtype), params)
        for name in ("a", "b", "c")
    }


@pytest.fixture(scope="module")
def prompts(world: World, key: jax.Array) -> dict[str, Prompts]:
    return {
        name: Prompts(*sequences.both(world, sample_batch(world, name, TEST, key, 5))) for name in ("safe", "unsafe")
    }


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was scored."""
    seen: list[Any] = []

    def counted(*arguments: Any) -> Any:
        seen.append(arguments)
        return scores(*arguments)

    monkeypatch.setattr("analysis.scores.scores", counted)
    return seen


def test_controls_are_compared_with_others_alone(
    model: ModelConfig, params: Params, tuned: dict[str, Params], prompts: dict[str, Prompts], key: jax.Array
) -> None:
    everything = paths.measure(model, tuned, params, prompts, CONFIG, key)
    found = paths.measure(model, tuned, params, prompts, CONFIG, key, controls=("b", "c"))
    assert rows(found["a"]) == rows(everything["a"])
    for method in "bc":
        assert rows(found[method]) == [row for row in rows(everything[method]) if row.other == "a"]


def test_every_mixture_is_the_one_that_its_name_says(
    model: ModelConfig,
    params: Params,
    tuned: dict[str, Params],
    prompts: dict[str, Prompts],
    key: jax.Array,
    calls: list[Any],
) -> None:
    found = paths.measure(model, tuned, params, prompts, CONFIG, key)
    # Of 3 pairs: 3 points of the line between, 2 transfers of half, and one sum of both.
    assert len(calls) == 3 * (3 + 2 + 1)
    batch = stacked(prompts, CONFIG.prompts)
    for method, results in found.items():
        labels = [label for label, _ in expected(method, tuned, params)]
        assert list(dict.fromkeys((one.intervention, one.other, one.strength) for one in results)) == labels
        for label, weights in expected(method, tuned, params):
            theirs = scores(Weights(weights, model), batch)
            for i, family in enumerate(prompts):
                odds = value(results, label, family, "log_odds")
                np.testing.assert_allclose(odds, theirs.log_odds[i], rtol=1e-3, atol=1e-3)


Named = tuple[str, str, float]


def expected(method: str, tuned: dict[str, Params], params: Params) -> list[tuple[Named, Params]]:
    return [
        mixture
        for other in tuned
        if other != method
        for mixture in (
            *((("between", other, a), mixed({method: 1 - a, other: a}, tuned)) for a in CONFIG.between),
            *(
                (("transfer", other, a), mixed({method: 1, other: a, "": -a}, {**tuned, "": params}))
                for a in CONFIG.transfer
            ),
        )
    ]


def mixed(multiples: dict[str, float], models: dict[str, Params]) -> Params:
    """The sum of models, each so many times, in double precision."""

    def add(*leaves: Any) -> np.ndarray:
        total = sum(m * np.asarray(leaf, float) for m, leaf in zip(multiples.values(), leaves, strict=True))
        return np.asarray(total, np.float32)

    weights: Params = jax.tree.map(add, *(models[name] for name in multiples))
    return weights


def value(results: list[Result], label: Named, family: str, metric: str) -> np.ndarray:
    of_family = [r for r in results if (r.family, r.metric) == (family, metric)]
    (found,) = [r for r in of_family if (r.intervention, r.other, r.strength) == label]
    assert isinstance(found, Samples)
    return found.values


def test_one_model_has_no_paths(
    model: ModelConfig, params: Params, tuned: dict[str, Params], prompts: dict[str, Prompts], key: jax.Array
) -> None:
    assert paths.measure(model, {"a": tuned["a"]}, params, prompts, CONFIG, key) == {"a": []}


def test_no_prompts_at_all_is_an_error() -> None:
    with pytest.raises(SettingError, match="prompts=0: must be at least 1"):
        PathsConfig(prompts=0)
