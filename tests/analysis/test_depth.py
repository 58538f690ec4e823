"""How deep tuning goes along a response: each number by a loop, and planted divergences at unequal entropies."""

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from analysis import depth
from analysis.depth import DepthConfig, Tokens, divergences, first_share, matched, ranks, tokens
from analysis.rows import Row, Samples, Subject
from analysis.scores import stacked
from models.transformer import ModelConfig, Params, forward
from synth.begun import letters
from synth.settings import SettingError
from synth.world import World
from tests.analysis.asked import FAMILIES, noisy, subject
from tests.analysis.planted import value

CONFIG = DepthConfig(prompts=10, bins=2, ranks=(1, 3))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def tuned(world: World, model: ModelConfig, params: Params) -> Subject:
    return subject(world, model, noisy(params), params)


@pytest.fixture(scope="module")
def results(tuned: Subject) -> list[Row | Samples]:
    return depth.measure(tuned, CONFIG)


def test_every_token_is_what_a_loop_finds(tuned: Subject) -> None:
    prompts = stacked(tuned.prompts, CONFIG.prompts)
    seen = tokens(tuned.model, tuned.params, tuned.reference, prompts)
    forwards = jax.jit(forward, static_argnums=0)
    for j, batch in enumerate(prompts):
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        ours, theirs = (
            np.asarray(forwards(tuned.model, weights, flat.tokens), float)
            for weights in (tuned.params, tuned.reference)
        )
        of = [np.asarray(x)[:, :, j].reshape(len(flat.go), -1) for x in seen]
        counts = np.asarray(letters(flat)) + 1
        for n in range(len(flat.go)):
            go = int(flat.go[n])
            assert of[3][n].tolist() == [k < counts[n] for k in range(of[3].shape[1])]
            for k in range(counts[n]):
                own, start, token = ours[n, go + k], theirs[n, go + k], int(flat.tokens[n, go + k + 1])
                assert of[0][n, k] == pytest.approx(entropy(softmax(own), softmax(start)), rel=1e-4, abs=1e-6)
                assert of[1][n, k] == pytest.approx(entropy(softmax(start)), rel=1e-4, abs=1e-6)
                assert of[2][n, k] == 1 + (log_softmax(own) > log_softmax(own)[token]).sum()


def test_rows_are_means_over_the_prompts_that_have_the_token(tuned: Subject, results: list[Row | Samples]) -> None:
    seen = tokens(tuned.model, tuned.params, tuned.reference, stacked(tuned.prompts, CONFIG.prompts))
    kl, _, rank, there = (np.asarray(x, float) for x in seen)
    at_first = kl[1, :, 0, 0].mean()
    assert value(results, "token_kl_comply", family="unsafe", index=1).value == pytest.approx(at_first)
    most = int(there[1, :, 0].sum(axis=1).max()) - 1
    sums = sum(
        np.mean([kl[1, n, 0, k] for n in range(CONFIG.prompts) if there[1, n, 0, k + 1 :].any()]) for k in range(most)
    )
    assert value(results, "kl_first_comply", family="unsafe").value == pytest.approx(at_first / sums)
    assert value(results, "kl_first_comply_even", family="unsafe").value == pytest.approx(1 / most)
    # The end, one place later, is of no divergence.
    assert {one.index for one in results if (one.metric, one.family) == ("token_kl_comply", "unsafe")} == set(
        range(1, most + 1)
    )
    for k in CONFIG.ranks:
        right = [(rank[0, n, 0][there[0, n, 0] > 0] <= k).all() for n in range(CONFIG.prompts)]
        assert value(results, "rank_complied", family="safe", index=k).value == np.mean(right)
    forced = tuned.observations["safe"].teacher_complied[: CONFIG.prompts]
    assert value(results, "rank_complied", family="safe", index=1).value == np.mean(forced)
    assert {one.family for one in results} == set(FAMILIES)


def planted(kl: np.ndarray, spread: np.ndarray) -> Tokens:
    return Tokens(kl, spread, np.ones_like(kl, int), np.ones(kl.shape, bool))


def test_divergences_that_follow_entropy_alone_are_even_once_it_is_matched(rng: np.random.Generator) -> None:
    """Of certain tokens the divergence is 1, of others 3, and later tokens are more often certain."""
    certain = rng.random((4000, 5)) < np.array([0.2, 0.5, 0.6, 0.7, 0.8])
    spread = np.where(certain, 0.0, 1.0) + 0.1 * rng.random((4000, 5))
    kl = np.where(certain, 1.0, 3.0)
    found = matched(kl, spread, np.ones(kl.shape, bool), 2)
    assert found is not None
    np.testing.assert_allclose(found, found[0], atol=0.35)
    assert np.ptp(kl.mean(axis=0)) > 1
    exact = matched(kl, certain * 1.0, np.ones(kl.shape, bool), 2)
    assert exact is not None
    np.testing.assert_allclose(exact, exact[0])


def test_places_of_entropies_that_have_nothing_in_common_are_not_compared(rng: np.random.Generator) -> None:
    spread = np.tile([0.0, 1.0], (50, 1)) + 0.1 * rng.random((50, 2))
    kl, there = np.ones((50, 2)), np.ones((50, 2), bool)
    assert matched(kl, spread, there, 2) is None
    rows = list(
        divergences(Tokens(*planted(np.ones((50, 3)), np.c_[spread, spread[:, :1]])), CONFIG, "unsafe", "comply")
    )
    row = value(rows, "kl_first_matched_comply")
    assert (row.missing, value(rows, "kl_first_comply").value) == (depth.UNEQUAL, 0.5)


def test_ranks_are_of_the_worst_token() -> None:
    rank = np.array([[1, 3, 9], [2, 1, 1], [1, 1, 4]])
    there = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
    rows = list(ranks(Tokens(rank, rank, rank, there), DepthConfig(ranks=(1, 2, 3, 4)), "unsafe"))
    assert [value(rows, "rank_complied", index=k).value for k in (1, 2, 3, 4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert value(rows, "token_rank", index=3).value == pytest.approx(2.5)


def test_a_share_of_nothing_is_missing() -> None:
    assert first_share(np.array([3.0, 1.0])) == (0.75, None)
    assert first_share(np.zeros(2))[1] == "nothing was moved"
    assert first_share(np.array([np.inf, 1.0]))[1] == "divergences are not finite"


def test_a_model_that_did_not_move_has_ranks_alone(tuned: Subject) -> None:
    found = depth.measure(tuned._replace(params=tuned.reference), CONFIG)
    assert {one.metric for one in found} == {"token_rank", "rank_complied"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ranks": (0, 1)}, "ranks=[0, 1]: must be 1 or more each, one at least; set [1,2,3,5]"),
        ({"bins": 0}, "bins=0: must be at least 1; set bins to 1 or more"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SettingError) as error:
        DepthConfig(**settings)  # type: ignore[arg-type]
    assert str(error.value) == said
