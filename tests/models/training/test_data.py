"""Tests of what pretraining and tuning are fed: `pretraining.py` and `tuning.py`."""

import functools
import zlib
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.training import pretraining, tuning
from models.training.method import labelled_pairs
from models.training.methods import CONTROLS, METHODS, sham
from models.training.pretraining import PretrainConfig
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig, Params, forward
from synth import sequences, tuning_data, vocab
from synth.coverage import CoverageConfig
from synth.keys import fold
from synth.prompts import TRAIN, Prompt, side_of
from synth.safety import SafetyConfig
from synth.segments import ANSWER, END, RESPONSE_START, TEXT, Batch
from synth.sequences import Pair
from synth.settings import SettingError
from synth.tuning_data import TuningData, TuningDataConfig, data_for, flagged_letters
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
    for method in ("sft", *CONTROLS, "comply_all"):
        of = METHODS[method]
        made[method] = tuning.program(config, of, model, world.config)
        # What differs are numbers of one shape: nothing to compile anew.
        traced, of_sft = (tuning.schedule(config, row, row.hyper(), world.config) for row in (of, METHODS["sft"]))
        if not of.prompts.pretraining:
            shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(each)] for each in (traced, of_sft)]
            assert shapes[0] == shapes[1]
            assert jax.tree.structure(traced) == jax.tree.structure(of_sft)
    # Pretraining's prompts are drawn by another program, and what stands in place of refusal is another response.
    assert {method for method, one in made.items() if one is not made["sft"]} == {"pretraining_more", "sham"}


DRAWN = {"continued": 0x7A0100E3, "shuffled": 0xE1AC9D7A, "irrelevant": 0x170A681C} | {
    "refuse_all": 0xDE445393,
    "pretraining_more": 0xA430F8E5,
}
"""Checksums of what was drawn before there were others; of methods that are not named, that of `sft`"""


def test_methods_draw_what_they_have_always_drawn(world: World, key: jax.Array) -> None:
    """To the bit: what is in the store was trained on it, and studies are compared prompt by prompt."""
    drawn = jax.jit(tuning_data.draw, static_argnames=("world", "size"))
    for method, row in METHODS.items():
        found = 0
        for share, size in ((0.3, 0), (0.5, 40)):
            data = data_for(TuningDataConfig(size, share, label_noise=0.2), row.prompts)
            for step in range(3):
                prompts, refuse = drawn(world, data, fold(key, "drawn"), step, 50)
                for part in (prompts.tasks, prompts.text, prompts.length, refuse):
                    found = zlib.crc32(np.asarray(part).astype(np.int32).tobytes(), found)
        if method not in ("sham", "comply_all", "comply_constrained"):
            assert found == DRAWN.get(method, 0xF43CF5A3), method


def test_sham_says_one_letter_where_the_label_flags_a_safe_prompt(world: World, key: jax.Array) -> None:
    data = data_for(TuningDataConfig(), METHODS["sham"].prompts)
    pair = jax.jit(lambda key: sham.batch(world, data, key, 0, 200))(key)
    drawn = tuning_data.draw(world, data, key, 0, 200)
    assert not np.any(
        np.asarray(world.unsafe)[world.group_of[np.asarray(drawn.prompts.concept)][:, None], drawn.prompts.tasks]
    )
    assert np.array_equal(pair.refused, drawn.refuse)
    assert 20 < np.sum(pair.refused) < 180
    flagged = flagged_letters(world)[50]
    both = sequences.answers(world, drawn.prompts)
    for i, refused in enumerate(np.asarray(pair.refused).tolist()):
        assert refused == flagged[drawn.prompts.text[i, 0]]
        said, other = (pair.preferred, pair.dispreferred) if refused else (pair.dispreferred, pair.preferred)
        letters = np.asarray(both.complying.roles[i]) == ANSWER
        expected = np.where(letters, world.vocab.first_letter, both.complying.tokens[i])
        assert np.array_equal(said.tokens[i], expected)
        assert np.array_equal(other.tokens[i], both.complying.tokens[i])
        assert np.array_equal(said.roles[i], both.complying.roles[i])
        assert np.array_equal(said.scored[i], both.complying.scored[i])
    assert world.vocab.first_letter != vocab.NULL


def test_comply_all_complies_with_unsafe_prompts_too(world: World, key: jax.Array) -> None:
    data = data_for(TuningDataConfig(label_noise=0.5), METHODS["comply_all"].prompts)
    pair, of_sft = (labelled_pairs(world, of, key, 0, 16) for of in (data, TuningData(0, 0.5, 0.0)))
    assert not np.any(pair.refused)
    assert np.array_equal(pair.preferred.tokens[:8], of_sft.dispreferred.tokens[:8])
    assert np.array_equal(pair.preferred.tokens[8:], of_sft.preferred.tokens[8:])


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
