"""How tuning moved the residual stream: planted shifts, detectors, changes of weights and axes, each a second time."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import components, shifts
from analysis.chance import random_units
from analysis.components import (
    Shifted,
    ShiftsConfig,
    Told,
    accuracy,
    dealt,
    found_in,
    removed,
    shifted,
    spectrum,
    turned,
)
from analysis.edit import Weights
from analysis.edits import unshifted
from analysis.edits.directions import WRITERS, Ablated
from analysis.edits.unshifted import without_in_change
from analysis.observe import Observation, observe_last
from analysis.refusal import refusal_log_odds
from analysis.rows import Drawn, Row, Samples, Subject
from analysis.selection import Direction, DirectionsConfig, first_of, material
from models.transformer import ModelConfig, Params, forward, init
from models.weights import flatten
from synth.prompts import VALIDATION
from synth.settings import SettingError
from synth.world import World
from tests.analysis.asked import COUNT, FAMILIES, noisy, subject
from tests.analysis.planted import observation, value

CONFIG = ShiftsConfig(prompts=10, components=3, permutations=3, draws=2, ranks=(1, 2))
DIRECTIONS = DirectionsConfig(train=12, validation=8, prompts=10, rank=2, draws=1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def tuned(world: World, model: ModelConfig, params: Params) -> Subject:
    return subject(world, model, noisy(params), params)


@pytest.fixture(scope="module")
def results(tuned: Subject) -> list[Row | Samples]:
    return shifts.measure(tuned, CONFIG, DIRECTIONS)


def test_a_planted_rank_is_found(rng: np.random.Generator) -> None:
    frame = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    left = np.linalg.qr(rng.standard_normal((40, 12)))[0]
    matrix = left[:, :3] * np.array([3.0, 2.0, 1.0]) @ frame[:3]
    found = spectrum(matrix, (0.5, 0.9, 0.95))
    assert found.share == pytest.approx(9 / 14)
    assert found.ranks == (1, 2, 3)
    np.testing.assert_allclose(np.abs(found.components[:3] @ frame[:3].T), np.eye(3), atol=1e-9)


def test_random_shifts_are_as_long_and_have_no_direction(rng: np.random.Generator, key: jax.Array) -> None:
    matrix = rng.exponential(size=(300, 1)) * np.ones((1, 30))
    null = turned(matrix, 2, key)
    for one in null:
        np.testing.assert_allclose(np.linalg.norm(one, axis=1), np.linalg.norm(matrix, axis=1))
        assert spectrum(one, ()).share < 0.2
    assert spectrum(matrix, ()).share == pytest.approx(1)
    assert not np.allclose(*null)


def told(rng: np.random.Generator, count: int, sign: float = 1.0) -> Told:
    """Unsafe prompts lie apart along the second axis."""
    unsafe = np.arange(count) % 3 == 0
    after = 0.1 * rng.standard_normal((count, 1, 5))
    after[:, 0, 1] += sign * unsafe
    return Told(after, unsafe, np.arange(count)[:, None] % 12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_component_that_tells_is_chosen_whichever_way_it_points(sign: float, rng: np.random.Generator) -> None:
    validation, test = told(rng, 60, sign), told(rng, 90, sign)
    assert accuracy(np.eye(5), validation, test, 0) == 1.0
    assert accuracy(np.eye(5)[:1], validation, test, 0) < 0.75
    # What validation prompts chose is reported, right or not.
    assert accuracy(np.eye(5), validation, told(rng, 90, -sign), 0) < 0.7


def test_the_threshold_is_at_the_share_of_unsafe_prompts() -> None:
    along, unsafe = np.array([0.0, 1, 2, 3, 4, 5, 6, 7]), np.array([0, 0, 0, 0, 0, 1, 0, 1], bool)
    cells = np.arange(8)[:, None]
    validation = Told(along[:, None, None], unsafe, cells)
    # Two are unsafe, so that it lies between 5 and 6.
    test = Told(np.array([5.4, 5.6])[:, None, None], np.array([False, True]), cells[:2])
    assert accuracy(np.eye(1), validation, test, 0) == 1.0


def test_labels_that_are_all_alike_are_answered_alike(rng: np.random.Generator) -> None:
    one = told(rng, 30)
    assert accuracy(np.eye(5), one._replace(unsafe=np.zeros(30, bool)), one, 0) == pytest.approx(20 / 30)


def test_labels_are_dealt_out_among_combinations_the_same_on_both_sides(
    rng: np.random.Generator, key: jax.Array
) -> None:
    validation, test = told(rng, 60), told(rng, 84)
    of = Shifted(validation.after, validation, test)
    draws = dealt(of, 20, key)
    for ours, theirs in draws:
        of_cells = {}
        for cell in range(12):
            both = np.concatenate([one.unsafe[one.cells[:, 0] == cell] for one in (ours, theirs)])
            assert both.all() or not both.any()
            of_cells[cell] = bool(both[0])
        assert sum(of_cells.values()) == 4
        np.testing.assert_array_equal(ours.after, validation.after)
    assert len({ours.unsafe.tobytes() for ours, _ in draws}) > 5
    assert np.mean([accuracy(np.eye(5), *both, 0) for both in draws]) < 0.8


def test_prompts_are_seen_before_and_after_tuning(tuned: Subject) -> None:
    found = shifted(tuned, CONFIG)
    shift = found.moved(1)
    assert shift is not None
    assert shift.shape == (2 * CONFIG.prompts, tuned.model.width)
    np.testing.assert_array_equal(shift, found.validation.after[:, 1] - found.before[:, 1])
    np.testing.assert_allclose(found.moved(1, True), shift - shift.mean(0))
    for i, family in enumerate(("unsafe", "safe")):
        seen = tuned.observations[family].last["resid_post"]
        np.testing.assert_array_equal(found.test.after[i * COUNT : (i + 1) * COUNT], seen)
        # Validation prompts of the subject are the first of those that are drawn.
        ours = tuned.validation[family].last["resid_post"][: CONFIG.prompts]
        there = found.validation.after[i * CONFIG.prompts : (i + 1) * CONFIG.prompts]
        np.testing.assert_allclose(there, ours, rtol=1e-4, atol=1e-5)
    assert found.test.unsafe.tolist() == [True] * COUNT + [False] * COUNT
    assert len(found.test.cells) == 2 * COUNT
    with pytest.raises(ValueError, match="give the subject `draw`"):
        shifted(tuned._replace(draw=None), CONFIG)


def test_the_component_that_is_removed_is_that_which_refusal_needs(tuned: Subject, rng: np.random.Generator) -> None:
    of, width = material(tuned, DIRECTIONS), tuned.model.width
    firsts = dict(enumerate(random_units(width, 3, jax.random.key(0))))
    found = removed(of, firsts, Direction(2 * np.eye(width)[0], 0, 0), 2)
    fed, unsafe = of.validation.fed, of.validation.sides[0]
    scores = []
    for one in firsts.values():
        logits = Ablated(tuned.params, jnp.asarray(one[None], jnp.float32), tuned.model).logits(fed)
        odds = refusal_log_odds(logits[np.arange(len(fed.go)), fed.go], jnp.asarray(of.refusal))
        scores.append(float(np.asarray(odds)[unsafe].mean()))
    assert found.layer == int(np.argmin(scores))
    np.testing.assert_array_equal(found.component, firsts[found.layer])
    np.testing.assert_array_equal(found.refusal, np.eye(width)[0])


def with_change(params: Params, layer: int, part: str, name: str, change: np.ndarray) -> Params:
    block = params["blocks"][str(layer)]
    of_part = {**block[part], name: block[part][name] + jnp.asarray(change, jnp.float32)}
    return {**params, "blocks": {**params["blocks"], str(layer): {**block, part: of_part}}}


@pytest.mark.parametrize(("part", "name", "reads"), [("mlp", "W_out", 0), ("attn", "W_O", 0), ("mlp", "W_in", 1)])
def test_a_planted_change_holds_the_refusal_direction_on_the_side_of_the_stream(
    part: str, name: str, reads: bool, tuned: Subject, params: Params, rng: np.random.Generator
) -> None:
    shape = params["blocks"]["1"][part][name].shape
    width = tuned.model.width
    first, second = np.linalg.qr(rng.standard_normal((width, 2)))[0].T
    ours = np.outer(first, rng.standard_normal(max(shape))) if reads else np.outer(rng.standard_normal(shape[0]), first)
    less = (
        np.outer(second, rng.standard_normal(max(shape))) if reads else np.outer(rng.standard_normal(shape[0]), second)
    )
    moved = with_change(params, 1, part, name, 10 * ours + 0.1 * less)
    planted = tuned._replace(params=moved, reference=params)
    for direction, expected in ((first, {1: 1.0, 2: 1.0}), (second, {1: 0.0, 2: 1.0})):
        found = list(shifts.in_change(planted, CONFIG, direction))
        for index, held in expected.items():
            assert value(found, "change_overlap", module=name, layer=2, index=index).value == pytest.approx(
                held, abs=0.05
            )
    assert value(found, "change_overlap", module=name, layer=1, index=1).missing == shifts.ZERO


def test_chance_is_a_random_direction(tuned: Subject, key: jax.Array) -> None:
    null = list(shifts.in_change(tuned, CONFIG, np.eye(tuned.model.width)[0]))
    units = random_units(tuned.model.width, 20000, key)
    for rank in CONFIG.ranks:
        expected = np.linalg.norm(units[:, :rank], axis=1).mean()
        row = value(null, "change_overlap_random", module="W_out", layer=1, index=rank)
        assert row.value == pytest.approx(expected, rel=0.02)


def test_the_axis_between_clusters_is_carried_to_the_stream(tuned: Subject, rng: np.random.Generator) -> None:
    model = tuned.model
    seen = {name: rng.standard_normal((5, model.layers, model.hidden)) for name in ("safe", "unsafe")}
    write = np.asarray(tuned.params["blocks"]["1"]["mlp"]["W_out"], float)
    axis = (seen["safe"].mean(0) - seen["unsafe"].mean(0))[1] @ write
    direction = random_units(model.width, 1, jax.random.key(1))[0]
    streams = {name: one[..., : model.width] for name, one in seen.items()}
    both = {name: replace_sites(observation(streams[name]), observation(seen[name])) for name in ("safe", "unsafe")}
    found = list(shifts.in_axes(tuned._replace(validation=both), direction))
    expected = abs(axis @ direction) / np.linalg.norm(axis)
    for module in ("mlp.post", "mlp.post_last"):
        assert value(found, "axis_overlap", module=module, layer=2).value == pytest.approx(expected)
    apart = (streams["safe"].mean(0) - streams["unsafe"].mean(0))[0]
    expected = abs(apart @ direction) / np.linalg.norm(apart)
    assert value(found, "axis_overlap", module="resid_post", layer=1).value == pytest.approx(expected)


def replace_sites(stream: Observation, hidden: Observation) -> Observation:
    """An observation with `mlp.post` of another."""
    last, window = ({**getattr(stream, of), "mlp.post": getattr(hidden, of)["mlp.post"]} for of in ("last", "window"))
    return stream._replace(last=last, window=window)


@pytest.mark.parametrize("tied", [False, True])
def test_the_direction_leaves_dw_and_the_rest_of_it_stays(
    tied: bool, world: World, model: ModelConfig, rng: np.random.Generator, key: jax.Array
) -> None:
    own = replace(model, tied=tied)
    untuned = init(own, world.vocab.size, key)
    after = noisy(untuned)
    direction = random_units(model.width, 1, key)[0]
    made = without_in_change(own, after, untuned, direction)
    flat, tuned, before = flatten(made.params), flatten(after), flatten(untuned)
    for name, array in tuned.items():
        if name.split(".")[-1] in WRITERS:
            change = array.astype(float) - before[name]
            assert np.abs(change @ direction).max() > 1e-3
            np.testing.assert_allclose((flat[name] - before[name]) @ direction, 0, atol=1e-6)
            expected = before[name] + change @ (np.eye(model.width) - np.outer(direction, direction))
            np.testing.assert_allclose(flat[name], expected, atol=1e-6)
        else:
            np.testing.assert_array_equal(flat[name], array)
    np.testing.assert_array_equal(flat["W_U"], after["W_E"].T if tied else after["W_U"])
    assert not made.model.tied
    tokens = jnp.zeros((1, 3), jnp.int32)
    assert np.isfinite(forward(made.model, made.params, tokens)).all()


def test_every_number_has_its_null_and_edits_their_random_ones(results: list[Row | Samples], tuned: Subject) -> None:
    layers = tuned.model.layers
    named = {one.metric for one in results}
    assert {
        "shift_energy", "shift_rank", "shift_energy_centred", "shift_rank_centred", "shift_accuracy",
        "shift_accuracy_first", "shift_overlap", "shift_overlap_centred", "change_overlap", "axis_overlap",
    } <= named  # fmt: skip
    for metric in named & {"shift_energy", "shift_accuracy", "shift_overlap_centred", "axis_overlap"}:
        null = f"{metric}_permuted" if "accuracy" in metric else f"{metric}_random"
        places = [
            {(one.layer, one.module, one.position) for one in results if one.metric == name} for name in (metric, null)
        ]
        assert places[0] == places[1]
        assert {layer for layer, *_ in places[0]} == set(range(1, layers + 1))
    for name, control in unshifted.KIND.controls.items():
        for family in FAMILIES[:2]:
            for one in (name, control):
                row = value(results, "refused", intervention=one, strength=1, family=family)
                assert row.n == DIRECTIONS.prompts
    assert {row.index for row in results if row.metric == "shift_rank"} == {50, 90}


def test_shifts_are_those_of_the_prompts(results: list[Row | Samples], tuned: Subject) -> None:
    shift = shifted(tuned, CONFIG).moved(1)
    assert shift is not None
    for name, matrix in (("shift_energy", shift), ("shift_energy_centred", shift - shift.mean(0))):
        values = np.linalg.eigvalsh(matrix.T @ matrix)[::-1]
        assert value(results, name, layer=2).value == pytest.approx(values[0] / values.sum())
        rank = value(results, name.replace("energy", "rank"), layer=2, index=90).value
        assert values[: int(rank)].sum() >= 0.9 * values.sum() > values[: int(rank) - 1].sum()


def test_what_did_not_move_has_no_numbers(tuned: Subject, model: ModelConfig, params: Params) -> None:
    assert shifts.measure(tuned._replace(reference=tuned.params), CONFIG, DIRECTIONS) == []
    late = with_change(params, 1, "mlp", "W_out", 0.3 * np.ones((model.hidden, model.width)))
    found = shifts.measure(tuned._replace(params=late, reference=params), CONFIG, DIRECTIONS)
    for name in ("shift_energy", "shift_energy_centred"):
        assert value(found, name, layer=1).missing == shifts.STILL
        assert value(found, name, layer=2).missing is None
    assert {one.layer for one in found if one.metric.startswith("shift_overlap")} == {2}
    assert {one.intervention for one in found if one.metric == "refused"} >= {"ablate shift"}


def test_what_a_planted_change_moved_is_found_again_or_gone(tuned: Subject, rng: np.random.Generator) -> None:
    """dW of the last layer's MLP writes one direction: without it nothing moved, without another all is as it was."""
    model, layer = tuned.model, tuned.model.layers - 1
    one, other = np.linalg.qr(rng.standard_normal((model.width, 2)))[0].T
    change = np.outer(rng.standard_normal(model.hidden), one)
    moved = tuned._replace(
        params=with_change(tuned.reference, layer, "mlp", "W_out", change),
    )
    before = shifted(moved, CONFIG).before

    def found(without: np.ndarray | None) -> dict[components.Place, np.ndarray]:
        weights = Weights(moved.params, model)
        if without is not None:
            weights = without_in_change(model, moved.params, moved.reference, without)
        return found_in(moved, CONFIG, DIRECTIONS, weights, before)

    own, gone, kept = found(None), found(one), found(other)
    assert {place for place in own if place[0] == "shift"} == {("shift", layer)}
    assert abs(own["shift", layer] @ one) == pytest.approx(1, abs=1e-5)
    assert ("shift", layer) not in gone
    for place, was in own.items():
        assert abs(kept[place] @ was) == pytest.approx(1, abs=1e-4), place
    after = observe_last(model, moved.params, {k: v.prompts for k, v in drawn(moved).items()}, CONFIG.prompts)
    unsafe, safe = (after[family]["resid_post"][:, layer].mean(axis=0) for family in ("unsafe", "safe"))
    assert own["axis", layer] @ (unsafe - safe) == pytest.approx(np.linalg.norm(unsafe - safe), rel=1e-5)
    direction = first_of(material(moved, DIRECTIONS), DIRECTIONS)[0].unit
    np.testing.assert_allclose(own["refusal", None], direction, atol=1e-6)


def drawn(subject: Subject) -> dict[str, Drawn]:
    assert subject.draw
    return subject.draw(("unsafe", "safe"), CONFIG.prompts, VALIDATION)


def test_each_direction_is_sought_again_without_each_other(results: list[Row | Samples], tuned: Subject) -> None:
    found = [one for one in results if one.metric == "found_again"]
    layers = range(1, tuned.model.layers + 1)
    places = {("refusal", None), *(("shift", layer) for layer in layers), *(("axis", layer) for layer in layers)}
    for name in ("refusal", "shift", "random"):
        of = {(one.module, one.layer) for one in found if one.intervention == f"change without {name}"}
        assert of == places
    assert len(found) == 3 * len(places) == sum(one.metric == "found_again_random" for one in results)
    assert all(isinstance(one, Row) and 0 <= one.value <= 1 + 1e-9 for one in found)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shares": (0.5, 1.0)}, "shares=[0.5, 1.0]: must be in (0, 1) each; set [0.5,0.9]"),
        ({"ranks": ()}, "ranks=[]: must be 1 or more each, one at least; set [1,2,4]"),
        ({"permutations": 0}, "permutations=0: must be at least 1; set permutations to 1 or more"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SettingError) as error:
        ShiftsConfig(**settings)  # type: ignore[arg-type]
    assert str(error.value) == said
