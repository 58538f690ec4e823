"""Harmfulness beside refusal: planted directions, prompts and models, and each number a second time."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import contrast, harmfulness
from analysis.chance import random_units
from analysis.contrast import Contrast, HarmfulnessConfig, Steered, halves, leaning, steered
from analysis.edit import Fed
from analysis.edits import steering
from analysis.edits.directions import Added
from analysis.refusal import refusal_log_odds
from analysis.rows import Row, Samples, Subject
from analysis.selection import Asked, DirectionsConfig, Material, material
from analysis.soft_tokens import start
from models.taps import capture
from models.transformer import ModelConfig, Params, forward
from synth import sequences
from synth.keys import fold
from synth.lookup import sample_batch
from synth.prompts import TEST, VALIDATION
from synth.sequences import Prompts
from synth.settings import SettingError
from synth.world import World
from tests.analysis.asked import COUNT, FAMILIES, noisy, subject
from tests.analysis.planted import value

CONFIG = HarmfulnessConfig(draws=2)
DIRECTIONS = DirectionsConfig(train=12, validation=8, prompts=10, rank=2, draws=1)
WIDTH = 16


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def planted(model: ModelConfig, seen: np.ndarray, unsafe: np.ndarray, cells: np.ndarray | None = None) -> Contrast:
    """What is found of a stream `seen` [N, L, 2, D]."""
    kept = np.ones(len(seen), bool)
    asked = Asked(Fed(np.zeros((len(seen), 1)), kept), unsafe, kept, kept[:, None] if cells is None else cells)
    of = Material(replace(model, width=seen.shape[-1]), {}, asked, asked, np.zeros(3, bool))
    vectors = seen[unsafe].mean(0) - seen[~unsafe].mean(0)
    return Contrast(of, seen, vectors, np.linalg.norm(vectors, axis=-1).min(axis=-1) > 0)


def streams(rng: np.random.Generator, axes: np.ndarray, unsafe: np.ndarray, noise: float) -> np.ndarray:
    """[N, 1, 2, D] noise, and for unsafe prompts the row of `axes` [2, D] of each place."""
    return np.asarray(
        noise * rng.standard_normal((len(unsafe), 1, 2, axes.shape[1])) + unsafe[:, None, None, None] * axes
    )


@pytest.mark.parametrize(("same", "expected"), [(True, 1.0), (False, 0.0)])
def test_two_directions_are_told_from_one(
    same: bool, expected: float, model: ModelConfig, rng: np.random.Generator, key: jax.Array
) -> None:
    axes, unsafe = np.eye(WIDTH)[[0, 0 if same else 1]], np.arange(80) < 40
    found = list(harmfulness.cosines(planted(model, streams(rng, axes, unsafe, 0.05), unsafe), key))
    for metric in ("harm_refuse_cosine", "harm_refuse_cosine_halves"):
        assert value(found, metric).value == pytest.approx(expected, abs=0.05)
    for position in (-1, 0):
        assert value(found, "halves_cosine", position=position).value == pytest.approx(1, abs=0.01)
    by_chance = np.abs(random_units(WIDTH, 4000, key)[:, 0]).mean()
    assert value(found, "harm_refuse_cosine_random").value == pytest.approx(by_chance, rel=0.05)


def test_noise_lowers_both_cosines_alike(model: ModelConfig, rng: np.random.Generator, key: jax.Array) -> None:
    """So that one direction, seen through noise, is not two."""
    axes, unsafe = np.eye(400)[[0, 0]], np.arange(400) < 200
    found = list(harmfulness.cosines(planted(model, streams(rng, axes, unsafe, 1.0), unsafe), key))
    one, other = (value(found, "halves_cosine", position=position).value for position in (-1, 0))
    assert max(one, other) < 0.4
    assert value(found, "harm_refuse_cosine_halves").value == pytest.approx(np.sqrt(one * other), abs=0.1)


def test_halves_share_no_prompt_and_have_as_many_of_each_side(rng: np.random.Generator, key: jax.Array) -> None:
    sides = np.arange(50) < 21, (np.arange(50) >= 21) & (rng.random(50) < 0.6)
    for side, one, other in zip(sides, *halves(sides, key), strict=True):
        np.testing.assert_array_equal(one ^ other, side)
        assert not (one & other).any()
        assert other.sum() - one.sum() in (0, 1)


def test_a_side_of_one_prompt_has_no_halves(model: ModelConfig, rng: np.random.Generator, key: jax.Array) -> None:
    unsafe = np.arange(9) < 1
    found = list(harmfulness.cosines(planted(model, rng.standard_normal((9, 1, 2, 4)), unsafe), key))
    assert [row.metric for row in found] == ["harm_refuse_cosine", "harm_refuse_cosine_random"]


def test_the_side_is_the_papers_s_one_by_one(rng: np.random.Generator) -> None:
    seen, means = rng.standard_normal((5, 3, 2, 7)), rng.standard_normal((2, 3, 2, 7))
    layers = np.array([True, False, True])

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.sqrt((one @ one) * (other @ other)))

    for prompt, place in itertools.product(range(5), range(2)):
        of_layers = [
            cosine(seen[prompt, i, place], means[0, i, place]) - cosine(seen[prompt, i, place], means[1, i, place])
            for i in (0, 2)
        ]
        assert leaning(seen, means, layers)[prompt, place] == pytest.approx(np.mean(of_layers))


def test_how_far_apart_scores_are_is_in_standard_deviations() -> None:
    one, other = np.array([[3.0, 1], [5, 1]]), np.array([[0.0, 1], [2, 1]])
    apart, without_spread = harmfulness.gaps(one, other)
    assert apart == pytest.approx((4 - 1) / 1)
    assert np.isnan(without_spread)


def test_a_part_of_a_combination_is_found_among_safe_prompts_alone(
    model: ModelConfig, rng: np.random.Generator
) -> None:
    """Tasks 2 and 3 are unsafe with concept 1 alone; what tells them lies along the first axis, and harm along it too,
    but along the second at EOT."""
    cells = np.array(list(itertools.product(range(4), range(2)))).repeat(12, axis=0)
    unsafe = (cells[:, 0] >= 2) & (cells[:, 1] == 1)
    seen = 0.02 * rng.standard_normal((len(cells), 1, 2, WIDTH))
    seen[:, 0, :, 0] += cells[:, 0, None] >= 2
    seen[:, 0, 1, 1] += 40 * unsafe
    found = list(harmfulness.columns(planted(model, seen, unsafe, cells)))
    at_text, at_eot = (value(found, "column_cosine", index=1, position=place).value for place in (-1, 0))
    assert at_text == pytest.approx(1, abs=0.02)
    assert at_eot < 0.05
    few = list(harmfulness.columns(planted(model, seen[::6], unsafe[::6], cells[::6])))
    assert few == []


@pytest.fixture(scope="module")
def batches(world: World, key: jax.Array) -> dict[int, dict[str, Prompts]]:
    return {
        side: {name: Prompts(*sequences.both(world, sample_batch(world, name, side, key, 9))) for name in FAMILIES[:2]}
        for side in (VALIDATION, TEST)
    }


@pytest.fixture(scope="module")
def made(
    model: ModelConfig, params: Params, batches: dict[int, dict[str, Prompts]], key: jax.Array
) -> tuple[Subject, Contrast]:
    """A model whose stream is what it embeds, that refuses where EOT has something along one direction, and whose
    logits do not see another: v_refuse and v_harm."""
    nothing = {"W_O", "b_O", "W_out", "b_out"}
    harm, refuse = (np.eye(model.width)[i] - np.eye(model.width)[i + 1] for i in (0, 2))
    unit = np.stack([harm, refuse]) / np.sqrt(2)

    def without(x: jax.Array) -> jax.Array:
        return jnp.asarray(x - (x @ unit.T) @ unit, jnp.float32)

    blocks = {
        layer: {
            part: {name: 0 * x if name in nothing else x for name, x in weights.items()}
            for part, weights in block.items()
        }
        for layer, block in params["blocks"].items()
    }
    batch = batches[TEST]["safe"].refusing
    first = int(batch.tokens[0, int(batch.go[0]) + 1])
    unembed = without(params["W_U"].T).T.at[:, first].set(jnp.asarray(30 * unit[1], jnp.float32))
    plain = {"w": jnp.ones(model.width), "b": jnp.zeros(model.width)}
    own = {"W_E": without(params["W_E"]), "W_pos": without(params["W_pos"]), "W_U": unembed, "ln_final": plain}
    own["blocks"] = blocks
    validation = batches[VALIDATION]["safe"].complying
    fed = Fed(validation.tokens[:, :-1], validation.go)
    nobody = np.zeros(len(fed.go), bool)
    asked = Asked(fed, nobody, ~nobody, np.zeros((len(nobody), 1), int))
    of = Material(model, own, asked, asked, np.arange(len(own["W_E"])) == first)
    vectors = np.broadcast_to(np.stack([90 * harm, 30 * refuse]), (model.layers, 2, model.width))
    found = Contrast(of, np.zeros(0), vectors, np.ones(model.layers, bool))
    return Subject(model, own, params, batches[TEST], {}, {}, key), found


def refused(results: list[Row | Samples], name: str, position: int | None) -> float:
    return value(results, "first_refused", intervention=name, position=position).value


def test_a_model_is_steered_by_the_direction_that_it_reads_where_it_reads_it(made: tuple[Subject, Contrast]) -> None:
    found = list(harmfulness.changed(*made, CONFIG, 9))
    assert refused(found, "steer", None) < 0.2
    assert refused(found, "steer refuse", 0) == refused(found, "steer refuse own", 0) == 1
    # Nothing moves on from where it is added in this model.
    for name, position in (("steer refuse", -1), ("steer harm", -1), ("steer harm own", -1), ("steer harm", 0)):
        assert refused(found, name, position) == refused(found, "steer", None)
    for name, control in steering.KIND.controls.items():
        assert any(getattr(one, "intervention", None) == control for one in found), name
    assert {one.strength for one in found if one.intervention != "steer"} == {2.0}


def test_what_is_added_is_as_long_as_what_it_stands_beside(made: tuple[Subject, Contrast], key: jax.Array) -> None:
    harm, refuse = 2 * 90 * np.sqrt(2), 2 * 30 * np.sqrt(2)
    chosen = steered(made[1], CONFIG, key)
    for one in chosen:
        own = {"steer harm own": harm, "steer refuse own": refuse}
        expected = own.get(one.name.removesuffix(" random"), np.sqrt(harm * refuse))
        assert np.linalg.norm(one.vector) == pytest.approx(expected)
    spans = {(one.name, one.last) for one in chosen}
    assert {last for name, last in spans if name == "steer random"} == {-1, 0}
    assert {(name, last) for name, last in spans if "own" in name} == {
        ("steer harm own", -1), ("steer harm own random", -1), ("steer refuse own", 0), ("steer refuse own random", 0)
    }  # fmt: skip
    assert sum(one.name == "steer random" for one in chosen) == 2 * CONFIG.draws


def test_layers_are_those_where_validation_prompts_are_refused_most(
    model: ModelConfig, params: Params, made: tuple[Subject, Contrast], rng: np.random.Generator, key: jax.Array
) -> None:
    vectors = rng.standard_normal((model.layers, 2, model.width))
    of = made[1].of._replace(params=params)
    found = made[1]._replace(of=of, vectors=vectors)

    def score(one: Steered, layer: int, vector: np.ndarray) -> float:
        shifts = np.zeros((model.layers, model.width), np.float32)
        shifts[layer] = vector
        fed = of.validation.fed
        logits = Added(params, jnp.asarray(shifts), np.int32(one.last), model).logits(fed)
        at_eot = logits[np.arange(len(fed.go)), fed.go]
        return float(refusal_log_odds(at_eot, jnp.asarray(of.refusal)).mean())

    chosen = steered(found, CONFIG, key)
    norms = np.linalg.norm(vectors, axis=-1)
    equal = vectors / norms[..., None] * np.sqrt(norms.prod(axis=-1))[:, None, None]
    for one in (one for one in chosen if one.name == "steer harm"):
        both = [np.mean([score(one, i, 2 * equal[i, j]) for j in range(2)]) for i in range(model.layers)]
        assert one.layer == int(np.argmax(both))
        np.testing.assert_allclose(one.vector, 2 * equal[one.layer, 0])
    (own,) = (one for one in chosen if one.name == "steer refuse own")
    assert own.layer == int(np.argmax([score(own, i, 2 * vectors[i, 1]) for i in range(model.layers)]))


@pytest.fixture(scope="module")
def tuned(world: World, model: ModelConfig, params: Params) -> Subject:
    return subject(world, model, noisy(params), params)


@pytest.fixture(scope="module")
def results(tuned: Subject) -> list[Row | Samples]:
    return harmfulness.measure(tuned, CONFIG, DIRECTIONS)


def test_a_model_is_measured_at_both_places(results: list[Row | Samples], tuned: Subject) -> None:
    named = [one for one in results if one.metric == "side_score"]
    assert [(one.family, one.position) for one in named] == list(itertools.product(FAMILIES, (-1, 0)))
    assert all(isinstance(one, Samples) and len(one.values) == DIRECTIONS.prompts < COUNT for one in named)
    for family in FAMILIES:
        complied = np.asarray(tuned.observations[family].complied[: DIRECTIONS.prompts])
        for metric, count in (("successful", complied.sum()), ("failed", (~complied).sum())):
            one = value(results, f"side_score_{metric}", family=family, position=0)
            assert (one.n, bool(one.missing)) == (count, count == 0)


def test_places_are_what_each_layer_reads_at_the_end_of_the_text_and_at_eot(tuned: Subject) -> None:
    batch = tuned.prompts["safe"].complying
    found = contrast.places(tuned.model, tuned.params, Fed(batch.tokens[:, :-1], batch.go))
    for layer in range(tuned.model.layers):
        site = f"blocks.{layer}.resid_pre"
        seen = capture(tuned.model, tuned.params, batch.tokens[:, :-1], [site])[site]
        for i, place in enumerate((-1, 0)):
            expected = seen[np.arange(len(batch.go)), batch.go + place]
            np.testing.assert_allclose(found[:, layer, i], expected, rtol=1e-4, atol=1e-5)


def test_sides_are_by_the_means_of_training_prompts_at_the_same_position_or_swapped(
    results: list[Row | Samples], tuned: Subject
) -> None:
    of, count = material(tuned, DIRECTIONS), DIRECTIONS.prompts
    found = contrast.contrast(of)
    means = [found.seen[side].mean(axis=0) for side in of.train.sides]
    layers = np.flatnonzero(found.apart)
    scored = {}
    for family, metric, place in itertools.product(FAMILIES, ("side_score", "side_score_swapped"), (0, 1)):
        batch = tuned.prompts[family].complying
        seen = contrast.places(tuned.model, tuned.params, Fed(batch.tokens[:count], batch.go[:count]))[:, :, place]
        by = 1 - place if metric.endswith("swapped") else place
        unsafe, safe = (
            np.sum(seen * mean[:, by], axis=-1) / np.linalg.norm(seen, axis=-1) / np.linalg.norm(mean[:, by], axis=-1)
            for mean in means
        )
        expected = (unsafe - safe)[:, layers].mean(axis=1)
        (one,) = (x for x in results if (x.metric, x.family, x.position) == (metric, family, place - 1))
        assert isinstance(one, Samples)
        np.testing.assert_allclose(one.values, expected, atol=1e-6)
        scored[metric, family, place] = expected
    for part, place in itertools.product(("", "_swapped"), (0, 1)):
        ours, theirs = (scored[f"side_score{part}", family, place] for family in ("unsafe", "safe"))
        expected = (ours.mean() - theirs.mean()) / np.sqrt((ours.var() + theirs.var()) / 2)
        assert value(results, f"side_gap{part}", position=place - 1).value == pytest.approx(expected)


def test_a_model_that_did_not_move_is_as_far_apart_by_its_start(tuned: Subject) -> None:
    copied = tuned._replace(params=jax.tree.map(jnp.copy, tuned.reference))
    assert not copied.untouched
    own = list(harmfulness.sides(copied, contrast.contrast(material(copied, DIRECTIONS)), DIRECTIONS.prompts))
    for place in (-1, 0):
        expected = value(own, "side_gap", position=place).value
        found = value(list(harmfulness.by_start(copied, DIRECTIONS)), "side_gap_start", position=place)
        assert found.value == pytest.approx(expected, abs=1e-6)
    assert list(harmfulness.by_start(copied._replace(reference=copied.params), DIRECTIONS)) == []


def test_what_an_attack_left_is_read_by_the_means_of_its_start(results: list[Row | Samples], tuned: Subject) -> None:
    start = contrast.contrast(material(tuned._replace(params=tuned.reference), DIRECTIONS))
    means = np.stack([start.seen[side].mean(axis=0) for side in start.of.train.sides])
    scored = []
    for family in ("unsafe", "safe"):
        batch = tuned.prompts[family].complying
        fed = Fed(batch.tokens[: DIRECTIONS.prompts], batch.go[: DIRECTIONS.prompts])
        scored.append(leaning(contrast.places(tuned.model, tuned.params, fed), means, start.apart))
    apart = (scored[0].mean(axis=0) - scored[1].mean(axis=0)) / np.sqrt((scored[0].var(0) + scored[1].var(0)) / 2)
    for i, place in enumerate((-1, 0)):
        assert value(results, "side_gap_start", position=place).value == pytest.approx(apart[i], rel=1e-5)


def test_soft_tokens_are_read_at_the_last_of_them_and_at_eot(tuned: Subject) -> None:
    count, model = 2, replace(tuned.model, context=tuned.model.context + 2)
    params = {**tuned.params, "W_pos": jnp.pad(tuned.params["W_pos"], ((0, 2), (0, 0)))}
    longer = tuned._replace(model=model, params=params, reference=params)
    found = contrast.contrast(material(longer, DIRECTIONS))
    rows = list(harmfulness.under_attack(longer, found, replace(DIRECTIONS, soft_tokens=count)))
    assert {(one.metric, one.position) for one in rows} == set(
        itertools.product(("adv_side_score", "adv_random_side_score", "adv_side_score_successful"), (-1, 0))
    )
    assert {one.index for one in rows} == {count}
    missing = list(harmfulness.under_attack(tuned, found, DIRECTIONS))
    assert {one.missing for one in missing if isinstance(one, Row)} == {
        f"longer than the model's context of {tuned.model.context}"
    }
    assert list(harmfulness.under_attack(tuned, found, replace(DIRECTIONS, soft_tokens=0))) == []
    # By an embedding that is put together here, with the positions that tokens have without soft ones.
    key = fold(longer.key, "harmfulness", "soft")
    batch = jax.tree.map(lambda x: x[: DIRECTIONS.prompts], longer.prompts["unsafe"].complying)
    soft = np.asarray(start(key, DIRECTIONS.prompts, count, model.width, 1.0))
    plain = np.asarray(params["W_E"])[batch.tokens] + np.asarray(params["W_pos"])[: batch.tokens.shape[1]]
    go = np.asarray(batch.go)
    whole = np.stack([np.concatenate([plain[i, : go[i]], soft[i], plain[i, go[i] :]]) for i in range(len(go))])

    def tap(site: str, x: jax.Array) -> jax.Array:
        return jnp.asarray(whole, jnp.float32) if site == "embed" else x

    sites = [f"blocks.{layer}.resid_pre" for layer in range(model.layers)]
    seen: dict[str, np.ndarray] = {}

    def keeping(site: str, x: jax.Array) -> jax.Array:
        x = tap(site, x)
        if site in sites:
            seen[site] = np.asarray(x)
        return x

    forward(model, params, jnp.zeros(whole.shape[:2], jnp.int32), keeping)
    for i, place in enumerate((-1, 0)):
        held = np.stack([seen[site][np.arange(len(go)), go + count + place] for site in sites], axis=1)[:, :, None]
        expected = leaning(held, found.means[:, :, [i]], found.apart)[:, 0]
        (one,) = (x for x in rows if (x.metric, x.position) == ("adv_random_side_score", place))
        assert isinstance(one, Samples)
        np.testing.assert_allclose(one.values, expected, atol=1e-5)


def test_where_prompts_leave_the_same_a_row_says_so(tuned: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(model: ModelConfig, params: Params, fed: Fed) -> np.ndarray:
        return np.ones((len(fed.go), model.layers, 2, model.width))

    monkeypatch.setattr(contrast, "places", same)
    (row,) = harmfulness.measure(tuned, CONFIG, DIRECTIONS)
    assert isinstance(row, Row)
    assert (row.metric, row.n, row.missing) == ("harm_refuse_cosine", 0, harmfulness.SAME)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"coefficient": 0.0}, "coefficient=0.0: must be a finite number above 0; set coefficient above 0"),
        ({"draws": 0}, "draws=0: must be at least 1; set draws to 1 or more"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(settings: dict[str, float], said: str) -> None:
    with pytest.raises(SettingError) as error:
        HarmfulnessConfig(**settings)  # type: ignore[arg-type]
    assert str(error.value) == said
