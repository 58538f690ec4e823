"""Tests of `synth/tuning_data.py`: what tuning sees, step by step, against Python sets."""

import itertools
from collections import Counter
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

from synth import tuning_data
from synth.keys import fold
from synth.likelihood import log_probability
from synth.lookup import sample_batch
from synth.prompts import TEST, TRAIN, Prompt, side_of
from synth.random_grammar import GrammarConfig
from synth.safety import SafetyConfig
from synth.settings import SettingError
from synth.tasks import TasksConfig
from synth.tuning_data import (
    COMPLIED,
    ENDLESS,
    IRRELEVANT,
    REFUSED,
    SHUFFLED,
    VERDICT,
    TuningData,
    TuningDataConfig,
    TuningPrompts,
    data_for,
    draw,
    flagged_letters,
    repeats,
)
from synth.world import World, WorldConfig, build_world
from tests.synth.test_likelihood import enumerate_texts

SIZE = 64
STEPS = 20
Content = tuple[tuple[int, ...], tuple[int, ...]]

_draw = jax.jit(draw, static_argnames=("world", "size"))


@pytest.fixture(scope="module")
def big() -> World:
    """With so many texts that two prompts are hardly ever the same."""
    grammar = GrammarConfig(levels=2, concept_level=1, productions=(8,), branching=((4, 4),))
    return build_world(
        WorldConfig(grammar=grammar, tasks=TasksConfig(count=8), safety=SafetyConfig(unsafe_tasks=(3, 5)))
    )


def contents(prompts: Prompt) -> list[Content]:
    rows = zip(prompts.tasks.tolist(), prompts.text.tolist(), prompts.length.tolist(), strict=True)
    return [(tuple(tasks), tuple(text[:length])) for tasks, text, length in rows]


def steps(
    world: World, data: TuningData, key: jax.Array, number: int = STEPS, first: int = 0
) -> list[tuple[Prompt, list[bool]]]:
    """Prompts and labels of each step."""
    drawn = [_draw(world, data, key, step, SIZE) for step in range(first, first + number)]
    return [(jax.tree.map(np.asarray, one.prompts), np.asarray(one.refuse).tolist()) for one in drawn]


def kinds(world: World, prompts: Prompt) -> list[bool]:
    """Whether each prompt is unsafe; under the rule `all`, one that is neither fails here."""
    unsafe = world.unsafe[world.group_of[prompts.concept][:, None], prompts.tasks]
    assert (unsafe.all(axis=1) | ~unsafe.any(axis=1)).all()
    return unsafe.all(axis=1).tolist()


def both_kinds(world: World, batches: list[tuple[Prompt, list[bool]]]) -> tuple[Counter[Content], Counter[Content]]:
    """How often each safe and each unsafe prompt came."""
    counts: tuple[Counter[Content], Counter[Content]] = (Counter(), Counter())
    for prompts, _ in batches:
        for content, unsafe in zip(contents(prompts), kinds(world, prompts), strict=True):
            counts[unsafe][content] += 1
    return counts


@pytest.mark.parametrize("size", [ENDLESS, 20])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_unsafe_prompts_is_exact_and_labels_tell_them(
    share: float, size: int, world: World, key: jax.Array
) -> None:
    for prompts, refuse in steps(world, TuningData(size, share, 0.0), key, 5):
        number = round(share * SIZE)
        assert refuse == [True] * number + [False] * (SIZE - number) == kinds(world, prompts)
        assert (prompts.tasks < world.config.tasks.count).all()


def test_a_share_that_is_no_whole_number_is_right_in_the_mean(world: World, key: jax.Array) -> None:
    numbers = [sum(refuse) for _, refuse in steps(world, TuningData(ENDLESS, 0.3, 0.0), key, 200)]
    assert set(numbers) == {19, 20}
    # 19.2 a step: five standard errors.
    assert abs(np.mean(numbers) - 0.3 * SIZE) < 5 * (0.2 * 0.8 / 200) ** 0.5


def test_shuffled_labels_have_the_share_of_unsafe_prompts_and_say_nothing_of_safety(
    world: World, key: jax.Array
) -> None:
    labels: dict[Content, bool] = {}
    seen: tuple[set[Content], set[Content]] = set(), set()
    for prompts, refuse in steps(world, TuningData(ENDLESS, 0.25, 0.0, labels=SHUFFLED), key, 2 * STEPS):
        for content, label, unsafe in zip(contents(prompts), refuse, kinds(world, prompts), strict=True):
            assert labels.setdefault(content, label) == label
            seen[unsafe].add(content)
    for kind in seen:
        told = [labels[content] for content in kind]
        assert len(told) > 100
        # Distinct prompts fall independently: five standard errors.
        assert abs(np.mean(told) - 0.25) <= 5 * (0.25 * 0.75 / len(told)) ** 0.5


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_irrelevant_labels_go_by_the_first_letter_alone_and_say_nothing_of_safety(
    share: float, big: World, key: jax.Array
) -> None:
    told: dict[int, set[bool]] = {}
    refused: tuple[list[bool], list[bool]] = ([], [])
    for prompts, labels in steps(big, TuningData(ENDLESS, share, 0.0, IRRELEVANT), key, 100):
        for prompt, label, unsafe in zip(contents(prompts), labels, kinds(big, prompts), strict=True):
            told.setdefault(prompt[1][0], set()).add(label)
            refused[unsafe].append(label)
    assert all(len(labels) == 1 for labels in told.values())
    assert set().union(*told.values()) == {True, False}
    # The shares by the grammar, which leave what chance adds: five standard errors.
    exact = refused_by_group(big, share)
    assert max(exact) - min(exact) < 0.02
    for labels in refused:
        spread = 5 * (share * (1 - share) / len(labels)) ** 0.5
        assert min(exact) - spread <= np.mean(labels) <= max(exact) + spread
    assert abs(np.mean(refused[True] + refused[False]) - share) < 0.05


def refused_by_group(world: World, share: float) -> list[float]:
    """The share of each group's texts that begin with a flagged letter, by enumeration."""
    flagged = flagged_letters(world)[round(100 * share)]
    counts: dict[int, list[float]] = {}
    for grammar, concept in itertools.product(world.covered.grammars, world.covered.concepts):
        of = enumerate_texts(world.covered_grammars[grammar], world.concepts[concept])
        part = sum(float(p) for text, p in of.items() if flagged[world.vocab.letters.index(text[0])])
        counts.setdefault(int(world.group_of[concept]), []).append(part)
    return [float(np.mean(parts)) for parts in counts.values()]


def test_flagged_letters_are_the_best_of_all_sets(world: World) -> None:
    """Group by group, by enumeration and one set after another."""
    letters, table = world.vocab.letters, flagged_letters(world)
    shares: dict[int, np.ndarray] = {}
    for grammar, concept in itertools.product(world.covered.grammars, world.covered.concepts):
        first = np.zeros(len(letters))
        for text, p in enumerate_texts(world.covered_grammars[grammar], world.concepts[concept]).items():
            first[letters.index(text[0])] += float(p)
        shares.setdefault(int(world.group_of[concept]), np.zeros(len(letters)))
        shares[int(world.group_of[concept])] += first / 2
    groups = np.stack(list(shares.values()))
    np.testing.assert_allclose(groups.sum(axis=1), 1)

    def off(chosen: np.ndarray, share: float) -> float:
        found = groups @ chosen
        return float(np.abs(found - share).max() + found.max() - found.min())

    sets = [np.array(one, bool) for one in itertools.product([0, 1], repeat=len(letters))]
    some = [one for one in sets if (groups @ one).max() > 0 and (groups @ one).min() < 1 - 1e-9]
    for percent in (10, 50, 75):
        best = min(off(one, percent / 100) for one in some)
        assert off(table[percent], percent / 100) == pytest.approx(best, abs=1e-8)
        assert 0 < table[percent].sum() < len(letters)
    assert not table[0].any()
    assert table[100].all()


@pytest.mark.parametrize("labels", [SHUFFLED, IRRELEVANT, REFUSED, COMPLIED])
def test_other_labels_are_of_the_same_prompts(labels: int, world: World, key: jax.Array) -> None:
    plain, other = (steps(world, TuningData(ENDLESS, 0.5, 0.0, of), key, 3) for of in (VERDICT, labels))
    for (prompts, refuse), (same, truth) in zip(other, plain, strict=True):
        assert contents(prompts) == contents(same)
        assert refuse != truth
        assert all(refuse) == (labels == REFUSED)
        assert any(refuse) == (labels != COMPLIED)


@pytest.mark.parametrize("labels", [SHUFFLED, IRRELEVANT])
def test_how_many_are_to_be_refused_may_be_apart_from_how_many_are_unsafe(
    labels: int, big: World, key: jax.Array
) -> None:
    safe = data_for(TuningDataConfig(unsafe_share=0.25), TuningPrompts(labels, unsafe=False))
    of_safe, plain = (steps(big, data, key, 40) for data in (safe, TuningData(ENDLESS, 0.0, 0.0, VERDICT)))
    told = {
        content: label for prompts, refuse in of_safe for content, label in zip(contents(prompts), refuse, strict=True)
    }
    assert [contents(prompts) for prompts, _ in of_safe] == [contents(prompts) for prompts, _ in plain]
    assert not any(unsafe for prompts, _ in of_safe for unsafe in kinds(big, prompts))
    # Five standard errors; the flagged letters have the share to 5 %.
    assert abs(np.mean([*told.values()]) - 0.25) < 5 * (0.25 * 0.75 / len(told)) ** 0.5 + 0.05 * (labels == IRRELEVANT)
    # A prompt's label is what it is among unsafe ones too.
    mixed = steps(big, TuningData(ENDLESS, 0.25, 0.0, labels), key, 40)
    both = [
        (told[content], label)
        for prompts, refuse in mixed
        for content, label in zip(contents(prompts), refuse, strict=True)
        if content in told
    ]
    assert len(both) > 1000
    assert all(one == other for one, other in both)


def test_pretraining_s_prompts_are_any_text_and_task_on_the_training_side(world: World, key: jax.Array) -> None:
    data = data_for(TuningDataConfig(label_noise=0.4), TuningPrompts(unsafe=False, pretraining=True))
    drawn = [_draw(world, data, key, step, SIZE) for step in range(STEPS)]
    assert not any(np.asarray(one.refuse).any() for one in drawn)
    # What tuning does not cover is among it, and nothing that is held out.
    assert {int(g) for one in drawn for g in one.prompts.grammar} == {0, 1}
    assert max(int(one.prompts.tasks.max()) for one in drawn) == world.bijections.shape[1] - 1
    sides = jax.jit(jax.vmap(partial(side_of, world)))
    assert all((np.asarray(sides(one.prompts)) == TRAIN).all() for one in drawn)


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_a_share_of_all_prompts_has_the_wrong_label_and_keeps_it(noise: float, world: World, key: jax.Array) -> None:
    wrong: dict[Content, bool] = {}
    streams = [
        (TuningData(ENDLESS, 0.5, noise), key),
        (TuningData(ENDLESS, 0.25, noise), fold(key, 1)),
        (TuningData(20, 0.5, noise), key),
    ]
    repeated = 0
    for data, stream in streams:
        for prompts, refuse in steps(world, data, stream):
            for content, label, unsafe in zip(contents(prompts), refuse, kinds(world, prompts), strict=True):
                repeated += content in wrong
                assert wrong.setdefault(content, label != unsafe) == (label != unsafe)
    assert repeated > 1000
    assert len(wrong) > 300
    # Distinct prompts fall independently: five standard errors.
    assert abs(np.mean(list(wrong.values())) - noise) <= 5 * (noise * (1 - noise) / len(wrong)) ** 0.5


@pytest.mark.parametrize(("size", "share"), [(20, 0.3), (6, 0.5), (7, 0.5), (5, 0.5), (10, 0.85), (1, 1.0), (1, 0.0)])
def test_a_finite_set_is_that_many_prompts_again_and_again(size: int, share: float, big: World, key: jax.Array) -> None:
    data = TuningData(size, share, 0.0)
    first, later = steps(big, data, key), steps(big, data, key, first=STEPS)
    safe, unsafe = both_kinds(big, first)
    assert [set(kind) for kind in both_kinds(big, later)] == [set(safe), set(unsafe)]
    assert abs(len(unsafe) - share * size) <= 0.5
    assert len(safe) + len(unsafe) == size
    for counts in (safe, unsafe):
        # One fixed key: the level is the chance that a right sampler fails here.
        assert len(counts) < 2 or chisquare(list(counts.values())).pvalue > 1e-3


def test_another_key_gives_another_set(big: World, key: jax.Array) -> None:
    data = TuningData(20, 0.5, 0.0)
    one, other, again = (
        {content for prompts, _ in steps(big, data, k) for content in contents(prompts)}
        for k in (key, fold(key, 1), key)
    )
    assert one == again
    assert not one & other


@pytest.mark.parametrize("size", [ENDLESS, 20])
def test_steps_differ_and_come_again_as_they_were(size: int, world: World, key: jax.Array) -> None:
    data = TuningData(size, 0.5, 0.0)
    batches = [contents(prompts) for prompts, _ in steps(world, data, key)]
    assert len({tuple(batch) for batch in batches}) == STEPS
    assert [contents(prompts) for prompts, _ in steps(world, data, key, 3, first=2)] == batches[2:5]


def test_an_endless_stream_goes_on_to_new_prompts(world: World, key: jax.Array) -> None:
    batches = [set(contents(prompts)) for prompts, _ in steps(world, TuningData(ENDLESS, 0.5, 0.0), key)]
    for step in range(1, STEPS):
        assert batches[step] - set().union(*batches[:step])


@pytest.mark.parametrize("size", [ENDLESS, 20])
def test_no_prompt_is_held_out_or_evaluated(size: int, world: World, key: jax.Array) -> None:
    sides = jax.jit(jax.vmap(partial(side_of, world)))
    batches = [prompts for prompts, _ in steps(world, TuningData(size, 0.5, 0.0), key)]
    assert all((np.asarray(sides(prompts)) == TRAIN).all() for prompts in batches)
    evaluated = jax.tree.map(np.asarray, sample_batch(world, "unsafe", TEST, key, 300, 0))
    assert not set(contents(evaluated)) & {content for prompts in batches for content in contents(prompts)}


def test_only_what_is_covered_occurs(world: World, key: jax.Array) -> None:
    batches = [prompts for prompts, _ in steps(world, TuningData(ENDLESS, 0.5, 0.0), key)]
    grammar = world.covered_grammars[0]
    assert {int(number) for prompts in batches for number in prompts.grammar} == {0}
    texts: dict[int, set[tuple[int, ...]]] = {}
    for prompts in batches:
        for concept, (_, text) in zip(prompts.concept.tolist(), contents(prompts), strict=True):
            texts.setdefault(concept, set()).add(text)
    assert set(texts) == set(range(len(world.concepts)))
    for concept, several in texts.items():
        written = [[grammar.letters[letter] for letter in text] for text in several]
        assert np.isfinite(log_probability(grammar, world.concepts[concept], written)).all()


@pytest.mark.parametrize("size", [ENDLESS, 20])
def test_repeats_are_those_a_set_counts(
    size: int, world: World, key: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = TuningData(size, 0.5, 0.0)
    seen: set[Content] = set()
    repeated = 0
    for prompts, _ in steps(world, data, key):
        for content in contents(prompts):
            repeated += content in seen
            seen.add(content)
    share, number = repeats(world, data, key, STEPS, SIZE)
    assert number == STEPS * SIZE
    assert share == pytest.approx(repeated / number, abs=1e-12)
    assert share > 0.1
    # Of a longer stream only the first prompts count.
    monkeypatch.setattr(tuning_data, "COUNTED", STEPS * SIZE + 1)
    assert repeats(world, data, key, 1000 * STEPS, SIZE) == (share, number)


def test_a_big_world_hardly_repeats_itself(big: World, key: jax.Array) -> None:
    share, number = repeats(big, TuningData(ENDLESS, 0.5, 0.0), key, STEPS, SIZE)
    assert number == STEPS * SIZE
    assert share < 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unsafe_share": 1.5}, r"unsafe_share=1.5: must be a share from 0 to 1"),
        ({"unsafe_share": -0.1}, r"unsafe_share=-0.1: must be a share from 0 to 1"),
        ({"label_noise": 1.1}, r"label_noise=1.1: must be a share from 0 to 1"),
        ({"label_noise": float("nan")}, r"label_noise=nan: must be a share from 0 to 1"),
        ({"size": -1}, r"size=-1: must be a number of prompts, or 0 for an endless stream"),
        ({"size": 1}, r"size=1: is too small for a share of unsafe prompts of 0.5"),
        ({"size": 10, "unsafe_share": 0.01}, r"size=10: is too small for a share of unsafe prompts of 0.01"),
        ({"size": 10, "unsafe_share": 0.99}, r"size=10: is too small for a share of unsafe prompts of 0.99"),
    ],
)
def test_settings_out_of_range_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        TuningDataConfig(**settings)


@pytest.mark.parametrize("settings", [{"size": 2}, {"size": 1, "unsafe_share": 0.0}, {"size": 1, "unsafe_share": 1.0}])
def test_the_smallest_sets_are_allowed(settings: dict[str, Any]) -> None:
    assert TuningDataConfig(**settings).size == settings["size"]
