"""Cones of directions found by gradient: a planted one is found, its loss by a second way, and what is said of it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import cones
from analysis.cone_search import ARBITRARY, CONE, INDEPENDENT, Cones, ConesConfig, Sought, sampled, search
from analysis.cone_training import Rows, Target, answers, coordinates, loss, orthonormal, rows, tangent
from analysis.edit import Edit, Fed, Label, Weights
from analysis.edits.directions import EVERYWHERE, Ablated, Added
from analysis.edits.lookup import edits_of
from analysis.metric import nulls
from analysis.metrics import METRICS
from analysis.metrics.cones import ROWS as OWN
from analysis.refusal import at_layer, stream
from analysis.rows import Drawn, Result, Subject
from analysis.rows import rows as rows_of
from analysis.scores import scores, stacked
from analysis.selection import SIDES, DirectionsConfig, NoDirectionError
from models.transformer import ModelConfig, Params, init
from synth import sequences
from synth.lookup import sample_batch
from synth.prompts import TEST, TRAIN
from synth.segments import ANSWER, END, PADDING, RESPONSE_START, START, TASK, Batch, Room
from synth.sequences import Prompts
from synth.settings import SettingError
from synth.world import World
from tests.analysis.planted import value

pytestmark = pytest.mark.usefixtures("with_optax")

WIDTH, EOT, COMPLIANCE, REFUSAL, FIRST, KINDS = 16, 3, 4, 5, 6, 8
"""Tokens that ask are FIRST and those behind it: KINDS safe ones, then as many unsafe ones."""
MODEL = ModelConfig(layers=1, heads=1, width=WIDTH, context=8)
FOUND_BY = DirectionsConfig(train=48, validation=32, positions=(-1,))
CONFIG = ConesConfig(steps=160, checks=4, learning_rate=0.03, prompts=24, samples=6)
SIZE, LEAST = 4.0, 0.34


def planted(least: float = LEAST) -> tuple[Params, np.ndarray]:
    """A model that refuses where the stream at EOT has more than a share of what unsafe tokens have along a direction,
    which is returned.

    Attention takes that from the token that asks to EOT, so that ablating r leaves (1 - cos(r, direction)^2)^2 of it.
    """
    rng = np.random.default_rng(3)
    # At right angles to what LayerNorm takes away.
    frame = np.linalg.qr(np.concatenate([np.ones((1, WIDTH)), rng.standard_normal((4, WIDTH))]).T)[0].T[1:]
    direction, always, ends, bias = frame
    params: Params = jax.tree.map(jnp.zeros_like, init(MODEL, FIRST + 2 * KINDS, jax.random.key(0)))
    embedded = np.tile(2 * always, (FIRST + 2 * KINDS, 1))
    noise = 0.3 * rng.standard_normal((2 * KINDS, WIDTH))
    embedded[FIRST:] += noise - (noise @ frame.T) @ frame
    embedded[FIRST + KINDS :] += SIZE * direction
    embedded[[COMPLIANCE, REFUSAL]] += 16 * ends
    spread = np.linalg.norm(embedded[FIRST + KINDS :], axis=1).mean() / np.sqrt(WIDTH)
    unembedding = np.zeros((WIDTH, FIRST + 2 * KINDS))
    unembedding[:, REFUSAL] = 4 * direction
    unembedding[:, COMPLIANCE] = 4 * least * SIZE * always / 2
    unembedding[:, 2] = 12 * ends
    # Always somewhat likely, so that compliance is as sure as it can be where nothing else is changed.
    unembedding[:, 0] = 8 * bias
    attention = params["blocks"]["0"]["attn"]
    attention |= {"W_V": jnp.eye(WIDTH), "W_O": _float(3 * spread * np.outer(direction, direction))}
    for norm in (params["ln_final"], params["blocks"]["0"]["ln1"], params["blocks"]["0"]["ln2"]):
        norm["w"] = jnp.ones(WIDTH)
    params["ln_final"]["b"] = _float(bias)
    return {**params, "W_E": _float(embedded), "W_U": _float(unembedding)}, direction


_logits = jax.jit(lambda edit, fed: edit.logits(fed))


def _float(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def asked(tokens: np.ndarray) -> Prompts:
    """BOS, one of `tokens` [N], EOT, and both answers of one token."""

    def answered(by: int) -> Batch:
        whole = np.stack([np.full_like(tokens, 1), tokens, *(np.full_like(tokens, i) for i in (EOT, by, 2, 0))], 1)
        roles = np.tile([START, TASK, RESPONSE_START, ANSWER, END, PADDING], (len(tokens), 1))
        scored = np.isin(roles, (ANSWER, END))
        go = np.full(len(tokens), 2, np.int32)
        return Batch(*(jnp.asarray(x) for x in (whole.astype(np.int32), roles.astype(np.int32), go, scored)), Room(2))

    return Prompts(answered(COMPLIANCE), answered(REFUSAL))


def draw(families: Iterable[str], count: int, side: int) -> dict[str, Drawn]:
    found = {}
    for family in families:
        rng = np.random.default_rng([side, family == "unsafe"])
        tokens = FIRST + KINDS * (family == "unsafe") + rng.integers(KINDS, size=count)
        found[family] = Drawn(asked(tokens), tokens[:, None])
    return found


def subject_of(params: Params, model: ModelConfig = MODEL) -> Subject:
    prompts = {family: one.prompts for family, one in draw(("safe", "unsafe"), 30, TEST).items()}
    return Subject(model, params, params, prompts, {}, {}, jax.random.key(5), draw=draw)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subject_of(planted()[0])


@pytest.fixture(scope="module")
def found(subject: Subject) -> Cones:
    return search(subject, FOUND_BY, CONFIG)


@pytest.fixture(scope="module")
def results(subject: Subject, found: Cones, module_patch: pytest.MonkeyPatch) -> list[Result]:
    module_patch.setattr(cones, "search", lambda *of: found)
    return cones.measure(subject, FOUND_BY, CONFIG)


@pytest.fixture(scope="module")
def module_patch() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_a_planted_direction_is_found(found: Cones, subject: Subject) -> None:
    _, direction = planted()
    assert abs(found.first.unit @ direction) > 0.99
    # From a random start, and turned so that adding it refuses; by a margin the loss is as low at some angle to it.
    assert found.basis(CONE)[0] @ direction > 0.85
    assert np.asarray(found.found[Sought(CONE, 1)].losses).min() < 0.03
    prompts = stacked(subject.prompts, 24, SIDES)
    intact = scores(Weights(subject.params, MODEL), prompts)
    assert np.asarray(intact.refused).mean(axis=1).tolist() == [1, 0]
    ablated = scores(Ablated(subject.params, _float(found.basis(CONE)), MODEL), prompts)
    assert np.asarray(ablated.complied).all()


def test_of_a_cone_there_is_what_the_margin_leaves_room_for(found: Cones, results: list[Result]) -> None:
    """One of k directions at right angles has 1/k of a direction's square at most: two of them can each leave a quarter
    of what refusal goes by, less than LEAST, and one of three leaves four ninths."""
    _, direction = planted()
    squares = {k: (found.basis(CONE, k) @ direction) ** 2 for k in CONFIG.dims}
    assert ((1 - squares[2]) ** 2).max() < LEAST < ((1 - squares[3]) ** 2).max()
    assert value(results, "cone_dimension").value == 2
    assert value(results, "cone_dimension_random").value == 0
    most = [value(results, "highest_first_refused", intervention="ablate cone", strength=k).value for k in (1, 2, 3)]
    assert most == [0, 0, 1]
    least = [value(results, "lowest_complied", intervention="ablate cone", strength=k).value for k in (0, 1, 2, 3)]
    assert least == [0, 1, 1, 0]
    mean = {
        name: value(results, "complied", family="unsafe", intervention=f"ablate {name}", strength=3).value
        for name in ("cone", "cone random")
    }
    assert mean["cone random"] == 0 < mean["cone"] < 1


def test_adding_it_refuses_and_costs_are_told(results: list[Result]) -> None:
    added = {"family": "safe", "intervention": "add cone", "strength": 1}
    assert value(results, "refused", **added).value == value(results, "first_refused", **added).value == 1
    # Safe prompts have nothing along the planted direction.
    assert value(results, "first_token_kl", family="safe", intervention="ablate cone", strength=1).value < 0.05
    assert value(results, "first_token_kl", family="unsafe", intervention="ablate cone", strength=1).value > 1
    assert value(results, "cone_cosine", intervention="ablate cone", strength=1, index=1).value > 0.85
    draws = np.random.default_rng(0).standard_normal((20000, WIDTH))
    chance = value(results, "cone_cosine_random", intervention="ablate cone", strength=1).value
    assert chance == pytest.approx(np.mean(np.abs(draws[:, 0]) / np.linalg.norm(draws, axis=1)), rel=0.02)


def test_an_independent_direction_has_less_effect_on_the_first(found: Cones, results: list[Result]) -> None:
    effect = {name: value(results, "cross_effect", intervention=f"means, {name}").value for name in (CONE, INDEPENDENT)}
    assert effect[INDEPENDENT] < 0.2 * effect[CONE]
    cosine = value(results, "cross_cosine", intervention="means, independent").value
    assert cosine == pytest.approx(found.basis(INDEPENDENT)[0] @ found.first.unit)


def test_another_behaviour_is_not_found_where_there_is_one_direction(found: Cones, results: list[Result]) -> None:
    at = {"module": "resid", "strength": 1}
    assert value(results, "swapped", intervention="ablate cone", **at).value == 1
    assert value(results, "spared", intervention="ablate cone", **at).value == 1
    wrong = value(results, "swapped", intervention="ablate arbitrary", **at)
    assert wrong.value < 0.8
    cells = np.arange(FIRST, FIRST + 2 * KINDS)[:, None]
    sides = cones.dealt(found, cells)
    assert Counter(sides.tolist()) == {0: KINDS, 1: KINDS}
    assert cones.dealt(found, np.array([[1]])).tolist() == [-1]
    drawn = draw(SIDES, CONFIG.prompts, TEST)
    there = np.concatenate([drawn[family].cells[:, 0] for family in SIDES])
    assert wrong.n == np.sum(sides[there - FIRST] == 1)


def test_rows_are_told_apart_and_have_a_metric(results: list[Result]) -> None:
    given = rows_of(results)
    keys = [
        (r.metric, r.family, r.layer, r.module, r.index, r.position, r.intervention, r.strength, r.other) for r in given
    ]
    assert len(set(keys)) == len(keys)
    of_cones = {metric for metric, of in nulls(METRICS).items() if of in OWN}
    assert {r.metric for r in given} == {
        *OWN, *of_cones, "complied", "refused", "log_odds", "first_refused", "first_token_kl",
    }  # fmt: skip
    assert all(np.isfinite(r.value) for r in given)


def test_what_has_the_least_loss_on_validation_prompts_is_kept(found: Cones, subject: Subject) -> None:
    assert list(found.found) == [*(Sought(CONE, k) for k in (1, 2, 3)), Sought(INDEPENDENT, 1), Sought(ARBITRARY, 1)]
    again = search(subject, FOUND_BY, CONFIG)
    for one, course in found.found.items():
        losses = np.asarray(course.losses)
        assert losses.shape == (CONFIG.checks + 1,)
        assert losses.min() < losses[0]
        np.testing.assert_allclose(course.basis @ course.basis.T, np.eye(one.dim), atol=1e-5)
        np.testing.assert_array_equal(course.basis, again.found[one].basis)


def test_the_loss_by_edits(world: World, model: ModelConfig, params: Params, key: jax.Array) -> None:
    """Prompt by prompt, by the edits that directions are tried with."""
    both = {name: sequences.both(world, sample_batch(world, name, TEST, key, 5)) for name in SIDES}
    complying, refusing = (
        jax.tree.map(lambda *x: jnp.concatenate(x), *(both[name][i] for name in SIDES)) for i in range(2)
    )
    unsafe = np.arange(10) < 5
    rng = np.random.default_rng(0)
    means, basis = rng.standard_normal(model.width), np.linalg.qr(rng.standard_normal((model.width, 2)))[0].T
    unit = means / np.linalg.norm(means)
    of = answers(model, params, complying, refusing, unsafe, unit)
    first, second = np.array([0, 3, 4]), np.array([9, 5, 6])
    along = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    weights = np.array([1.0, 0.2, 0.7, 50.0])
    target = Target(_float(means), jnp.int32(1), _float(weights))
    given = loss(model, params, of, target, _float(basis), Rows(first, second, along))

    def logp(edit: Edit, batch: Batch, i: int) -> np.ndarray:
        fed = Fed(batch.tokens[i : i + 1, :-1], batch.go[i : i + 1])
        return np.asarray(jax.nn.log_softmax(_logits(edit, fed)))[0]

    def entropy(edit: Edit, batch: Batch, i: int) -> float:
        said = np.asarray(batch.scored[i, 1:])
        return -float(logp(edit, batch, i)[said, np.asarray(batch.tokens[i, 1:])[said]].mean())

    def cosines(batch: Batch, i: int, ablated: np.ndarray, read: np.ndarray) -> np.ndarray:
        fed = Fed(batch.tokens[i : i + 1, :-1], batch.go[i : i + 1])
        seen = np.asarray(stream(model, params, fed, _float(ablated[None]), (0,)), float)[0, :, 0]
        return np.asarray(seen @ read / np.linalg.norm(seen, axis=-1))

    terms = np.zeros(4)
    for i, j, s in zip(first, second, along, strict=True):
        r = s @ basis
        ablated = Ablated(params, _float(r[None]), model)
        shifts = at_layer(model, _float(np.linalg.norm(means) * r), 1)
        added = Added(params, shifts, np.int32(EVERYWHERE), model)
        terms[0] += entropy(ablated, complying, i)
        terms[1] += entropy(added, refusing, j)
        said = np.asarray(complying.scored[j, 1:])
        after, before = (logp(edit, complying, j)[said] for edit in (ablated, Weights(params, model)))
        terms[2] += np.mean(np.sum(np.exp(after) * (after - before), axis=-1))
        for which, batch in ((i, refusing), (j, complying)):
            nothing = np.zeros_like(unit)
            for without, read in ((r, unit), (unit, r)):
                change = cosines(batch, which, nothing, read) - cosines(batch, which, without, read)
                terms[3] += np.mean(change**2) / 2
    np.testing.assert_allclose(given, weights @ terms / 3, rtol=1e-4)


def test_what_ablating_changes_of_cosines_by_hand(subject: Subject, found: Cones, results: list[Result]) -> None:
    pair = found.basis(CONE, 2)
    whole = stacked(subject.prompts, CONFIG.prompts, SIDES).complying
    tokens = np.asarray(whole.tokens).reshape(-1, whole.tokens.shape[-1])
    embedding, w_o = np.asarray(subject.params["W_E"], float), subject.params["blocks"]["0"]["attn"]["W_O"]
    assert np.asarray(w_o).any()
    # The only layer reads the embedding of EOT, which is the same of all prompts.
    x = embedding[tokens[0, 2]]
    changes = []
    for read, without in (pair, pair[::-1]):
        after = x - (x @ without) * without
        changes.append(abs(x @ read / np.linalg.norm(x) - after @ read / np.linalg.norm(after)))
    given = value(results, "cross_effect", intervention="basis", strength=2, index=1)
    assert given.value == pytest.approx(np.mean(changes), abs=1e-6)
    assert given.n == 2 * CONFIG.prompts


def test_prompts_are_dealt_through_and_every_second_direction_is_of_the_basis() -> None:
    rng = np.random.default_rng(0)
    sides = np.arange(20) < 7, np.arange(20) >= 15
    given = rows(rng, sides, 14, 4, 3, 5)
    assert given.first.shape == given.second.shape == (14, 4)
    assert Counter(given.first.ravel().tolist()) == dict.fromkeys(range(7), 8)
    assert set(given.second.ravel().tolist()) == set(range(15, 20))
    np.testing.assert_allclose(np.linalg.norm(given.along, axis=-1), 1, rtol=1e-6)
    assert (given.along >= 0).all()
    assert not given.along[..., 3:].any()
    of_basis = given.along[:, ::2].reshape(-1, 5)
    np.testing.assert_array_equal(of_basis.argmax(axis=1), np.arange(28) % 3)
    assert set(of_basis.max(axis=1).tolist()) == {1.0}


def test_samples_of_a_cone_are_its_rows_and_lie_between_them(key: jax.Array) -> None:
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 3)))[0].T
    given = sampled(basis, 50, key)
    np.testing.assert_array_equal(given[:3], basis)
    np.testing.assert_allclose(np.linalg.norm(given, axis=1), 1)
    assert (given @ basis.T).min() >= -1e-9
    np.testing.assert_array_equal(sampled(basis[:1], 50, key), basis[:1])
    # |N(0, 1)| along each: the mean coordinate is that of |u| in three dimensions.
    many = coordinates(np.random.default_rng(2), (4000,), 3, 3)
    np.testing.assert_allclose(many.mean(axis=0), 0.5, atol=0.02)


def test_tangents_keep_rows_orthonormal_and_leave_out_those_that_are_not_active() -> None:
    rng = np.random.default_rng(0)
    basis, gradient = np.linalg.qr(rng.standard_normal((7, 3)))[0].T, rng.standard_normal((3, 7))
    gradient[2] = 0
    given = np.asarray(tangent(_float(gradient), _float(basis), jnp.array([True, True, False])), float)
    # To first order the products of rows stay, and what is orthogonal to all active rows is all there.
    np.testing.assert_allclose((given @ basis.T + basis @ given.T)[:2, :2], 0, atol=1e-6)
    assert not given[2].any()
    out = np.eye(7) - basis[:2].T @ basis[:2]
    np.testing.assert_allclose(given[:2] @ out, gradient[:2] @ out, atol=1e-6)
    # It is the nearest such: what it left out is at right angles to what any tangent has.
    turn = basis[:2][::-1] * np.array([[1.0], [-1.0]])
    assert np.sum((gradient[:2] - given[:2]) * turn) == pytest.approx(0, abs=1e-6)


def test_rows_are_orthonormal_and_span_what_they_did() -> None:
    given = np.random.default_rng(0).standard_normal((3, 7))
    q, r = np.linalg.qr(given.T)
    np.testing.assert_allclose(orthonormal(_float(given)), (q * np.sign(np.diag(r))).T, atol=1e-5)


def test_more_dimensions_than_the_stream_has_are_said_to_be_missing(found: Cones) -> None:
    config = ConesConfig(dims=(1, WIDTH + 1), samples=WIDTH + 1)
    given = list(cones.searched(found._replace(config=config)))
    for metric in cones.LEAST:
        row = value(given, metric, family="unsafe", intervention="ablate cone", strength=WIDTH + 1)
        assert np.isnan(row.value)
        assert row.missing == f"the stream has {WIDTH} dimensions"


def test_where_all_is_dealt_to_one_side_there_is_no_arbitrary_behaviour(subject: Subject) -> None:
    """Of two combinations, of which one alone has prompts to choose by, none can be dealt to both sides there."""

    def few(families: Iterable[str], count: int, side: int) -> dict[str, Drawn]:
        given = draw(families, count, side)
        return {name: Drawn(one.prompts, np.full_like(one.cells, side == TRAIN)) for name, one in given.items()}

    found = search(subject._replace(draw=few), FOUND_BY, CONFIG)
    assert Sought(ARBITRARY, 1) not in found.found
    assert not any("arbitrary" in one.label.intervention for one in edits_of("cones", subject, found))
    answers = cones.answers_of(subject, found)
    given = list(cones.swapped(subject._replace(draw=few), found, answers))
    row = value(given, "swapped", intervention="ablate arbitrary", strength=1)
    assert (row.n, row.missing) == (0, "all combinations were dealt to one side")
    assert value(given, "swapped", intervention="ablate cone", strength=1).value == 1


def test_where_nothing_tells_the_sides_apart_one_row_says_so(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*of: object) -> Cones:
        raise NoDirectionError("nothing")

    monkeypatch.setattr(cones, "search", nothing)
    (row,) = rows_of(cones.measure(subject, FOUND_BY, CONFIG))
    assert (row.metric, row.missing, row.n) == ("cone_dimension", "nothing", 0)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="give the subject `draw`"):
        search(subject._replace(draw=None), FOUND_BY, CONFIG)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dims": (2, 3)}, r"dims=\[2, 3\]: must ascend from 1, a single direction; for example \[1,2,3\]"),
        ({"dims": ()}, r"dims=\[\]: must ascend from 1"),
        ({"dims": (1, 1)}, r"dims=\[1, 1\]: must ascend from 1"),
        ({"steps": 10, "checks": 3}, "checks=3: must divide steps=10; set checks to 1"),
        ({"samples": 2}, r"samples=2: must be at least the largest of dims=\[1, 2, 3\]; set samples to 8"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: must be a finite number above 0"),
        ({"add": -1.0}, "add=-1.0: must be a finite number of 0 or more; set add to 0"),
        ({"threshold": 1.0}, r"threshold=1.0: must be in \[0, 1\); set 0.5"),
        ({"batch": 0}, "batch=0: must be at least 1"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ConesConfig(**settings)


def test_labels_of_what_is_tried(subject: Subject, found: Cones) -> None:
    tried = Counter(one.label for one in edits_of("cones", subject, found))
    for what in ("ablate", "add"):
        for name, k, draws in (("cone", 1, 1), ("cone", 3, 6), ("cone random", 3, 6), ("means", 1, 1)):
            assert tried[Label(f"{what} {name}", k, module="resid")] == draws
