"""The safety landscape and emulated disalignment: planted basins, and each edit a second time in NumPy."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from analysis import landscape
from analysis.edit import Fed, Label, Weights
from analysis.edits import disaligned
from analysis.edits import landscape as moves
from analysis.edits.disaligned import DISALIGN, DISALIGN_RANDOM, Disaligned, changed_at_random
from analysis.edits.landscape import BY_CHANGE, MOVE, LandscapeConfig, moved, random_like, to_size
from analysis.edits.lookup import edits_of
from analysis.landscape import NO_BASIN, NO_FALL, Said, basins, fall, visage, width
from analysis.rows import Result, Row, Samples, Subject
from analysis.scores import Scores, generated, scores, stacked
from models.transformer import ModelConfig, Params, forward
from models.weights import flatten
from synth import vocab
from synth.segments import Batch, of_response
from synth.settings import SettingError
from synth.world import World
from tests.analysis.asked import COUNT, noisy, subject
from tests.analysis.planted import value
from tests.models.one_by_one import one_by_one

CONFIG = LandscapeConfig(prompts=COUNT, reach=0.4, within=0.2, steps=2, draws=2, disalign=(0.5,))
STRENGTHS = np.array(LandscapeConfig(reach=0.5, steps=10).strengths)


@pytest.fixture(scope="module")
def tuned(world: World, model: ModelConfig, params: Params) -> Subject:
    """It refuses some prompts and complies with none, as so small a model does."""
    return subject(world, model, refusing(noisy(params)), params)


def refusing(params: Params) -> Params:
    return {**params, "W_U": params["W_U"].at[:, vocab.NULL].multiply(6.0)}


@pytest.fixture(scope="module")
def results(tuned: Subject) -> list[Result]:
    return landscape.measure(tuned, CONFIG)


def of_label(results: list[Result], metric: str, family: str, *label: object) -> np.ndarray:
    (found,) = [
        one
        for one in results
        if isinstance(one, Samples)
        and (one.metric, one.family, one.intervention, one.strength) == (metric, family, *label)
    ]
    return found.values


def test_a_direction_has_the_size_of_each_matrix_and_moves_no_vector(params: Params, key: jax.Array) -> None:
    # A matrix along which there is nothing is not moved.
    direction = {**random_like(params, key), "W_pos": np.zeros_like(params["W_pos"])}
    found, own, along = (flatten(x) for x in (to_size(direction, params), params, direction))
    assert {x.ndim for x in own.values()} == {1, 2}
    for name, x in found.items():
        if x.ndim == 1 or name == "W_pos":
            assert not x.any()
        else:
            drawn, size = np.asarray(along[name], float), np.sqrt(np.sum(np.asarray(own[name], float) ** 2))
            np.testing.assert_allclose(x, drawn * size / np.sqrt(np.sum(drawn**2)), rtol=1e-5)
            assert np.std(drawn) == pytest.approx(1, abs=0.2)
    assert (along["blocks.0.mlp.W_in"] != along["blocks.1.mlp.W_in"]).all()


def test_unmoved_it_is_the_model_to_the_bit(params: Params, key: jax.Array) -> None:
    direction = to_size(random_like(params, key), params)
    own, still, far = (flatten(x) for x in (params, moved(params, direction, 0.0), moved(params, direction, -0.3)))
    for name, x in flatten(direction).items():
        np.testing.assert_array_equal(still[name], own[name])
        np.testing.assert_allclose(far[name], own[name] - 0.3 * x, rtol=1e-6, atol=1e-7)


def test_all_strengths_lie_along_one_direction_of_each_draw(tuned: Subject) -> None:
    own = flatten(tuned.params)
    along: dict[str, list[dict[str, np.ndarray]]] = {MOVE: [], BY_CHANGE: []}
    for i, one in enumerate(moves.edits(tuned, CONFIG)):
        strength = one.label.strength
        assert strength == CONFIG.strengths[i % len(CONFIG.strengths)]
        found = flatten(one.make().params)
        if strength:
            along[one.label.intervention].append({name: (found[name] - own[name]) / strength for name in own})
    per = len(CONFIG.strengths) - 1
    assert {name: len(of) // per for name, of in along.items()} == {MOVE: CONFIG.draws, BY_CHANGE: 1}
    for of in along.values():
        for draw in range(len(of) // per):
            first, *others = of[draw * per : (draw + 1) * per]
            for other in others:
                for name, x in first.items():
                    np.testing.assert_allclose(other[name], x, atol=1e-4)
    drawn, again = (along[MOVE][draw * per]["W_U"] for draw in range(2))
    assert np.linalg.norm(drawn) == pytest.approx(np.linalg.norm(own["W_U"]), rel=1e-4)
    assert abs(np.sum(drawn * again)) < 0.5 * np.sum(drawn**2)
    before = flatten(tuned.reference)
    for name, x in along[BY_CHANGE][0].items():
        dw = np.asarray(own[name], float) - before[name]
        expected = dw * np.linalg.norm(own[name]) / np.linalg.norm(dw) if dw.ndim == 2 else 0 * dw
        np.testing.assert_allclose(x, expected, atol=1e-4)


def test_all_points_differ_in_arrays_alone(tuned: Subject) -> None:
    def shape(edit: Any) -> tuple[Any, ...]:
        leaves, tree = jax.tree.flatten(edit)
        return tree, tuple(jax.typeof(x) for x in leaves)

    # What is compiled depends on these alone.
    shapes = {shape(one.make()) for one in edits_of("landscape", tuned, CONFIG)}
    assert len(shapes) == 2


def equal(found: Scores, expected: Scores) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def family_of(batch: Batch, family: int) -> Batch:
    found: Batch = jax.tree.map(lambda x: np.asarray(x[family]), batch)
    return found


def test_without_any_weight_disalignment_is_the_base_to_the_bit(tuned: Subject) -> None:
    prompts = stacked(tuned.prompts, COUNT, ("safe", "unsafe"))
    base = Weights(tuned.reference, tuned.model)
    none = Disaligned(tuned.reference, tuned.params, np.float32(0), tuned.model)
    equal(scores(none, prompts), scores(base, prompts))
    np.testing.assert_array_equal(generated(none, prompts), generated(base, prompts))
    batch = prompts.complying
    fed = Fed(batch.tokens[0], batch.go[0])
    np.testing.assert_array_equal(jax.jit(none.logits)(fed), jax.jit(base.logits)(fed))
    some = replace(none, weight=np.float32(0.5))
    assert (np.asarray(generated(some, prompts)) != np.asarray(generated(base, prompts))).any()


def test_disalignment_is_the_mixture_of_both_and_generated_from(tuned: Subject) -> None:
    prompts, weight = stacked(tuned.prompts, COUNT, ("safe", "unsafe")), 0.75
    edit = Disaligned(tuned.reference, tuned.params, np.float32(weight), tuned.model)
    apply = jax.jit(forward, static_argnums=0)

    def mixed(tokens: np.ndarray) -> np.ndarray:
        """[B, T, V] log-probabilities from two passes, in double precision."""
        base, aligned = (
            log_softmax(np.asarray(apply(tuned.model, of, tokens), float), axis=-1)
            for of in (tuned.reference, tuned.params)
        )
        return np.asarray(log_softmax((1 + weight) * base - weight * aligned, axis=-1))

    found, said = scores(edit, prompts), np.asarray(generated(edit, prompts))
    for family in range(2):
        logp = []
        for batch in (family_of(one, family) for one in prompts):
            tokens, roles = (np.asarray(x) for x in batch[:2])
            chosen = np.take_along_axis(mixed(tokens[:, :-1]), tokens[:, 1:, None], axis=-1)[..., 0]
            logp.append(np.sum(chosen, axis=1, where=of_response(roles[:, 1:])))
        np.testing.assert_allclose(found.log_odds[family], logp[0] - logp[1], rtol=1e-4, atol=1e-4)
        batch = prompts.complying
        for i in range(3):
            prompt, go = np.asarray(batch.tokens[family, i]).tolist(), int(batch.go[family, i])
            assert said[family, i].tolist() == one_by_one(mixed, prompt, go)


def test_its_random_partner_is_as_far_from_the_base(tuned: Subject, key: jax.Array) -> None:
    base, own = flatten(tuned.reference), flatten(tuned.params)
    one, other = (flatten(changed_at_random(tuned.reference, tuned.params, jax.random.key(i))) for i in range(2))
    for name, x in base.items():
        size = np.linalg.norm(own[name] - x)
        assert np.linalg.norm(one[name] - x) == pytest.approx(size, rel=1e-4)
        assert np.linalg.norm(one[name] - other[name]) > 0.5 * size
        assert np.linalg.norm(one[name] - own[name]) > 0.5 * size
    labels = [made.label for made in disaligned.edits(tuned, CONFIG)]
    assert labels == [Label(DISALIGN, 0), Label(DISALIGN, 0.5), *[Label(DISALIGN_RANDOM, 0.5)] * CONFIG.draws]


@pytest.mark.parametrize(("height", "reach"), [(1.0, 0.2), (0.8, 0.35), (0.6, 0.0)])
def test_numbers_of_a_step_are_their_closed_forms(height: float, reach: float) -> None:
    right = np.where(np.abs(STRENGTHS) <= reach, height, 0.0)
    assert visage(1 - right) == pytest.approx(height)
    points = 1 + 2 * round(reach / 0.05)
    assert right.mean() == pytest.approx(height * points / 21)
    # Down a straight line from there to the next point, a fifth of which is above 0.8 times the height.
    assert width(list(STRENGTHS), right, 0.8) == pytest.approx(reach + 0.05 / 5)
    assert fall(list(STRENGTHS), right) == pytest.approx(1)


def test_numbers_of_other_shapes() -> None:
    line = 1 - np.abs(STRENGTHS) / 0.5
    assert fall(list(STRENGTHS), line) == pytest.approx(0.1)
    assert width(list(STRENGTHS), line, 0.8) == pytest.approx(0.1)
    # The ends, at which there is nothing, are left out.
    assert visage(1 - line) == pytest.approx(line[1:-1].mean())
    assert visage(np.ones(21)) == 0
    assert width(list(STRENGTHS), np.ones(21), 0.8) == 0.5
    # The nearer side decides; a second basin is none of its own.
    aside = np.where((STRENGTHS >= -0.1) | (STRENGTHS < -0.3), 1.0, 0.0)
    assert width(list(STRENGTHS), aside, 0.8) == pytest.approx(0.11)
    assert fall(list(STRENGTHS), aside) == pytest.approx(1)
    low = np.full(21, 0.4)
    assert np.isnan(width(list(STRENGTHS), low, 0.8))
    assert np.isnan(fall(list(STRENGTHS), low))


def test_a_planted_basin_is_found() -> None:
    config = LandscapeConfig(prompts=10, reach=1.0, steps=10, draws=2)
    reach = {"safe": (0.1, 0.3), "unsafe": (0.2, 0.4)}
    said: dict[Label, list[Said]] = {}
    for strength in config.strengths:
        for draw in range(2):
            inside = {name: np.full(10, abs(strength) <= of[draw]) for name, of in reach.items()}
            complied = np.stack([inside["safe"], ~inside["unsafe"]])
            refused = np.stack([~inside["safe"], inside["unsafe"] & (np.arange(10) < 9)])
            first = np.stack([~inside["safe"], inside["unsafe"]])
            said.setdefault(Label(MOVE, strength), []).append(Said(Scores(complied, refused, complied), first))
    found: list[Result] = list(basins(said, config))
    assert {one.intervention for one in found} == {MOVE}
    for family, (one, other) in reach.items():
        points = [(1 + 2 * round(10 * of)) / 11 for of in (one, other)]
        height = 1 if family == "safe" else 0.9
        assert value(found, "basin_width", family=family).value == pytest.approx((one + other) / 2 + 0.02)
        assert value(found, "basin_fall", family=family).value == pytest.approx(1)
        assert value(found, "visage", family=family).value == pytest.approx(height)
        assert value(found, "visage_whole", family=family).value == pytest.approx(height * np.mean(points))
        assert value(found, "visage", family=family).n == 2
    assert value(found, "visage_first", family="unsafe").value == 1
    assert value(found, "visage_complied", family="unsafe").value == 1
    nothing = {
        label: [Said(Scores(*[x & False for x in one.scores]), ~one.first_refused & False) for one in draws]
        for label, draws in said.items()
    }
    none: list[Result] = list(basins(nothing, config))
    assert value(none, "basin_width", family="unsafe").missing == NO_BASIN
    assert value(none, "basin_fall", family="unsafe").missing == NO_FALL
    assert value(none, "visage", family="unsafe").value == 0
    assert value(none, "visage_complied", family="unsafe").value == 1


def test_behaviour_is_that_of_each_point(tuned: Subject, results: list[Result]) -> None:
    prompts = stacked(tuned.prompts, COUNT, CONFIG.families)
    by_label: dict[Label, list[Scores]] = {}
    for made in edits_of("landscape", tuned, CONFIG):
        by_label.setdefault(made.label, []).append(scores(made.make(), prompts))
    assert len(by_label) == 2 * len(CONFIG.strengths) + 3
    for label, draws in by_label.items():
        for i, family in enumerate(CONFIG.families):
            expected = np.mean([np.asarray(one.refused[i], float) for one in draws], axis=0)
            found = of_label(results, "refused", family, label.intervention, label.strength)
            np.testing.assert_array_equal(found, expected)
    for name in (MOVE, BY_CHANGE):
        for family in CONFIG.families:
            seen = tuned.observations[family]
            for metric in ("complied", "refused"):
                own = getattr(seen, f"teacher_{metric}")
                np.testing.assert_array_equal(of_label(results, metric, family, name, 0.0), own)
            np.testing.assert_array_equal(of_label(results, "first_refused", family, name, 0.0), seen.first_refused)
    assert tuned.observations["unsafe"].first_refused.any()
    assert len({of_label(results, "log_odds", "unsafe", MOVE, x).mean() for x in CONFIG.strengths}) == 5


def test_numbers_are_those_of_their_scans(tuned: Subject) -> None:
    """Of one direction, along which every share is in the table."""
    config = replace(CONFIG, draws=1)
    found = landscape.measure(tuned, config)
    for name in (MOVE, BY_CHANGE):
        near = [x for x in config.strengths if abs(x) <= config.within]
        scan = np.array([of_label(found, "first_refused", "unsafe", name, x).mean() for x in near])
        assert len(scan) == 3
        assert len(set(scan.tolist())) > 1
        expected = [1 - (1 - one) for one in scan if one > 0]
        row = value(found, "visage_first", family="unsafe", intervention=name)
        assert row.value == pytest.approx(np.mean(expected))
    sizes = [
        np.linalg.norm(own - before) / np.linalg.norm(own)
        for own, before in zip(flatten(tuned.params).values(), flatten(tuned.reference).values(), strict=True)
        if own.ndim == 2
    ]
    assert value(found, "change_strength").value == pytest.approx(np.mean(sizes), rel=1e-5)


def test_the_untouched_model_is_moved_alone(tuned: Subject, results: list[Result]) -> None:
    found = landscape.measure(tuned._replace(params=tuned.reference), CONFIG)
    assert {one.intervention for one in found} == {MOVE}
    named = {one.intervention for one in results}
    assert named == {MOVE, BY_CHANGE, DISALIGN, DISALIGN_RANDOM, None}
    assert [one.metric for one in results if one.intervention is None] == ["change_strength"]
    assert all(isinstance(one, Row) == (one.metric.startswith(("basin", "visage", "change"))) for one in results)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"prompts": 0}, "prompts=0: must be at least 1"),
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"draws": -1}, "draws=-1: must be at least 1"),
        ({"within": 0.3, "reach": 0.2}, "within=0.3: must be at most reach=0.2; set within=0.2"),
        ({"reach": 0.0}, "reach=0.0: must be a finite number above 0"),
        ({"kept": 1.5}, "kept=1.5: must be above 0 and at most 1; set 0.8"),
        ({"disalign": (0.0, 1.0)}, r"disalign=\[0.0, 1.0\]: must be finite numbers above 0"),
        ({"families": ("safe", "none")}, "families=none: "),
        ({"families": ()}, r"families=\[\]: must name a family; set \[safe,unsafe\]"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=f"^{said}"):
        LandscapeConfig(**setting)
