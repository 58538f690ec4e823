"""Tests of `analysis/behaviour.py`: what is copied from an observation, and what is made of it."""

import jax
import numpy as np
import pytest

from analysis import behaviour
from models.transformer import ModelConfig
from tests.analysis.planted import observation, subject, value

ROWS = np.zeros((4, 1, 2))


def test_first_tokens_and_log_odds_of_each_prompt(model: ModelConfig, key: jax.Array) -> None:
    seen = observation(ROWS)._replace(
        first_complied=np.array([True, True, True, False]),
        first_refused=np.array([False, False, False, True]),
        logp_comply=np.array([-1, -2, -3, -4], np.float32),
        logp_refuse=np.array([-4, -4, -1, -1], np.float32),
    )
    results = behaviour.measure(subject(model, key, {"mixed": seen}))
    assert value(results, "first_complied", family="mixed").value == 0.75
    assert value(results, "first_refused", family="mixed").value == 0.25
    (odds,) = [result for result in results if result.metric == "log_odds"]
    assert odds.values.tolist() == [3, 2, -2, -3]


def test_every_family_has_every_metric(model: ModelConfig, key: jax.Array) -> None:
    seen = observation(ROWS)._replace(complied=np.array([True, False, False, False]))
    results = behaviour.measure(subject(model, key, {"safe": seen, "unsafe": observation(ROWS)}))
    places = {(result.metric, result.family) for result in results}
    metrics = {metric for metric, _ in places}
    assert len(results) == len(places) == 2 * len(metrics)
    assert value(results, "complied", family="safe").value == 0.25
    assert value(results, "neither", family="safe").value == 0.75


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_log_odds_that_are_not_finite_are_missing(model: ModelConfig, key: jax.Array, bad: float) -> None:
    seen = observation(ROWS)._replace(logp_comply=np.array([0.0, bad, 0.0, 0.0]))
    row = value(behaviour.measure(subject(model, key, {"safe": seen})), "log_odds")
    assert np.isnan(row.value)
    assert row.missing == "log-probabilities that are not finite"


def test_labels_of_a_judge_are_metrics_of_their_own(model: ModelConfig, key: jax.Array) -> None:
    seen = observation(ROWS)._replace(labels={"honest": np.array([True, True, True, False])})
    results = behaviour.measure(subject(model, key, {"safe": seen, "unsafe": observation(ROWS)}))
    (honest,) = [result for result in results if result.metric == "honest"]
    assert honest.family == "safe"
    assert honest.values.tolist() == [True, True, True, False]
    for taken in ("refused", "log_odds"):
        with pytest.raises(ValueError, match=rf"^labels \['{taken}'\] of a judge: must not be metrics of all judges; "):
            behaviour.measure(subject(model, key, {"safe": seen._replace(labels={taken: np.ones(4, bool)})}))
