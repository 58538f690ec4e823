"""Tests of what pretraining and tuning are fed: `pretraining.py` and `tuning.py`."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.training import pretraining, tuning
from models.training.method import labelled_pairs
from models.training.methods import CONTROLS, METHODS
from models.training.pretraining import PretrainConfig
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig, Params, forward
from synth import vocab
from synth.coverage import CoverageConfig
from synth.prompts import TRAIN, Prompt, side_of
from synth.safety import SafetyConfig
from synth.segments import ANSWER, END, RESPONSE_START, TEXT, Batch
from synth.sequences import Pair
from synth.settings import SettingError
from synth.tuning_data import TuningData
from synth.world import World, build_world


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_unsafe_share_is_exact_and_the_pair_swaps_the_responses(share: float, world: World, key: jax.Array) -> None:
    pair = labelled_pairs(world, TuningData(0, share, 0.0), key, 0, 16)

    def refused(batch: Batch) -> np.ndarray:
        response = np.asarray(batch.roles) == ANSWER
        return (np.where(response, np.asarray(batch.tokens), vocab.NULL) == vocab.NULL).all(axis=1)

    assert refused(pair.preferred).sum() == share * 16
    assert (refused(pair.preferred) == pair.refused).all()
    assert (refused(pair.preferred) != refused(pair.dispreferred)).all()
    prompt = np.arange(pair.preferred.tokens.shape[1]) <= np.asarray(pair.preferred.go)[:, None]
    same = np.asarray(pair.preferred.tokens) == np.asarray(pair.dispreferred.tokens)
    assert same[prompt].all()


def test_no_reply_has_its_share_and_is_answered_by_null(world: World, key: jax.Array) -> None:
    batch = pretraining.batch(PretrainConfig(batch_size=2000, no_reply=0.1), world, key)
    tokens, response = np.asarray(batch.tokens), np.asarray(batch.roles) == ANSWER
    silent = (tokens == vocab.NO_REPLY).any(axis=1)
    null = (np.where(response, tokens, vocab.NULL) == vocab.NULL).all(axis=1)
    assert (silent == null).all()
    assert abs(silent.mean() - 0.1) < 5 * (0.09 / 2000) ** 0.5


def test_batches_hold_no_held_out_prompt(world: World, key: jax.Array) -> None:
    batch = pretraining.batch(PretrainConfig(batch_size=500, no_reply=0.0), world, key)
    side = jax.jit(functools.partial(side_of, world))
    tokens, roles, count = np.asarray(batch.tokens), np.asarray(batch.roles), world.config.tasks.composed
    for row, role in zip(tokens, roles, strict=True):
        text = row[role == TEXT] - world.vocab.first_letter
        prompt = Prompt(
            jnp.asarray(row[1 : 1 + count] - world.vocab.first_task),
            jnp.zeros(world.max_text, int).at[: len(text)].set(text),
            jnp.int32(len(text)),
            jnp.int32(0),
            jnp.int32(0),
            jnp.zeros(3, bool),
        )
        assert side(prompt) == TRAIN


def test_curriculum_weighs_text_and_response(world: World, model: ModelConfig, params: Params, key: jax.Array) -> None:
    config = PretrainConfig(batch_size=6, text_weight=(0.8, 0.2), response_weight=(0.1, 0.7))
    batch = pretraining.batch(config, world, key)
    logits = jax.jit(functools.partial(forward, model))(params, batch.tokens)
    nll = -np.asarray(jax.nn.log_softmax(logits), np.float64)
    for progress, text_weight, response_weight in ((0.0, 0.8, 0.1), (0.5, 0.5, 0.4), (1.0, 0.2, 0.7)):
        expected = []
        for row, tokens, roles in zip(nll, np.asarray(batch.tokens), np.asarray(batch.roles), strict=True):
            loss = {t: row[t - 1, tokens[t]] for t in range(1, len(tokens))}
            text = [v for t, v in loss.items() if roles[t] in (TEXT, RESPONSE_START)]
            response = [v for t, v in loss.items() if roles[t] in (ANSWER, END)]
            expected.append(text_weight * np.mean(text) + response_weight * np.mean(response))
        got = pretraining.loss(config, model, params, batch, jnp.float32(progress)).loss
        np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize(
    "setting", [{"steps": 0}, {"learning_rate": -1.0}, {"no_reply": 2.0}, {"text_weight": (0.1,)}, {"batch_size": -1}]
)
def test_settings_out_of_range_are_an_error(setting: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(setting))}="):
        PretrainConfig(**setting)  # type: ignore[arg-type]


def test_pretraining_knows_nothing_of_safety(world: World, key: jax.Array) -> None:
    # The store relies on it: worlds that differ in safety and coverage alone share their pretraining.
    safety = SafetyConfig(unsafe_tasks=(2, 1, 1), nested=False, rule="any")
    coverage = CoverageConfig(tasks=(0, 1, 2), concepts=("A0", "B1", "C0"), grammars=(1,))
    other = build_world(replace(world.config, safety=safety, coverage=coverage))
    config = PretrainConfig(batch_size=64, no_reply=0.1)
    one, two = (pretraining.batch(config, made, key) for made in (world, other))
    for first, second in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert (first == second).all()


def test_controls_share_the_compiled_program_of_sft(world: World, model: ModelConfig) -> None:
    config = TuningConfig()
    made = {}
    for method in ("sft", *CONTROLS):
        of = METHODS[method]
        made[method] = tuning.program(config, of, model, world.config)
        # What differs are numbers of one shape: nothing to compile anew.
        traced, of_sft = (tuning.schedule(config, row, row.hyper(), world.config) for row in (of, METHODS["sft"]))
        if not of.prompts.pretraining:
            shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(each)] for each in (traced, of_sft)]
            assert shapes[0] == shapes[1]
            assert jax.tree.structure(traced) == jax.tree.structure(of_sft)
    # Pretraining's prompts are drawn by another program.
    assert {method for method, one in made.items() if one is not made["sft"]} == {"pretraining_more"}


def test_methods_whose_batches_differ_share_no_program(world: World, model: ModelConfig) -> None:
    def exchanged(*arguments: Any) -> Pair:
        pair = labelled_pairs(*arguments)
        return Pair(pair.dispreferred, pair.preferred, ~pair.refused)

    def again(*arguments: Any) -> Pair:
        return labelled_pairs(*arguments)

    sft, other, same = (METHODS["sft"]._replace(batch=batch) for batch in (labelled_pairs, exchanged, again))
    of_sft, of_other, of_same = (tuning.program(TuningConfig(), row, model, world.config) for row in (sft, other, same))
    assert of_sft is not of_other
    assert of_sft is of_same
