"""Tests of `synth/styles/`: what the registry says, and one contract for all rows."""

import importlib
import pkgutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.settings.commands import DataConfig
from experiments.settings.config import load
from experiments.settings.schema import StudyConfig
from synth import sequences, styles, vocab
from synth.judging import judge
from synth.lookup import sample_batch
from synth.prompts import TRAIN, Prompt
from synth.segments import ANSWER, TRACE, laid_out, of_response, size_of
from synth.settings import UserError
from synth.styles import STYLES, late_refusal
from synth.styles.comply import compliant
from synth.world import StylesConfig, World, build_world

EVERY = pytest.mark.parametrize("name", STYLES)
COUNT = 200


def in_style(world: World, name: str) -> World:
    """The world that refuses in a style."""
    return build_world(replace(world.config, styles=StylesConfig(refuse=name)))


@pytest.fixture(scope="module")
def asked(world: World, key: jax.Array) -> Prompt:
    return sample_batch(world, "pretraining", TRAIN, key, COUNT)


@EVERY
def test_a_row_is_the_style_of_the_module_with_its_name(name: str) -> None:
    assert STYLES[name].module == f"{styles.__name__}.{name}"
    assert importlib.import_module(STYLES[name].module).STYLE is STYLES[name]


def test_every_module_of_the_package_is_a_row() -> None:
    assert sorted(module.name for module in pkgutil.iter_modules(styles.__path__)) == sorted(STYLES)


@EVERY
def test_responses_are_laid_out_whole_and_as_long_as_the_text_or_longer(name: str, world: World, asked: Prompt) -> None:
    own = in_style(world, name)
    refusing = sequences.both(own, asked).refusing
    lengths = jax.vmap(lambda p: sum(part.length for part in STYLES[name].respond(own, p)))(asked)
    np.testing.assert_array_equal(np.sum(of_response(refusing.roles), axis=1), lengths + 1)
    assert (lengths >= asked.length).all()
    assert lengths.max() < refusing.room == sequences.size(own).response
    ends = refusing.go + lengths + 1
    assert (np.asarray(refusing.tokens)[np.arange(COUNT), ends] == vocab.EOS).all()
    assert np.asarray(refusing.scored)[np.arange(COUNT), ends].all()
    assert (np.asarray(refusing.scored) <= of_response(np.asarray(refusing.roles))).all()


@EVERY
def test_the_last_token_of_a_trace_ends_it(name: str, world: World, asked: Prompt) -> None:
    refusing = sequences.both(in_style(world, name), asked).refusing
    for tokens, roles in zip(np.asarray(refusing.tokens), np.asarray(refusing.roles), strict=True):
        trace = tokens[roles == TRACE].tolist()
        assert trace.count(trace[-1]) == 1 if trace else True


@EVERY
def test_a_response_in_a_style_is_judged_to_be_one(name: str, world: World, asked: Prompt) -> None:
    own = in_style(world, name)
    prompts = sequences.both(own, asked)
    assert judge(own, asked, prompts, prompts.refusing.tokens).refused.all()
    # Without its end it is none.
    ended = np.where(prompts.refusing.tokens == vocab.EOS, vocab.NULL, prompts.refusing.tokens)
    assert not judge(own, asked, prompts, ended).refused.any()


@EVERY
def test_how_long_a_response_may_be_goes_by_the_shape_of_prompts(name: str) -> None:
    """`sequences.size` relies on it."""
    shapes = set()
    for more in ("world.seed=1", "world.tasks.count=5", "world.grammar.alphabet=7"):
        own = in_style(build_world(load([more], DataConfig).world), name)
        prompt = jax.tree.map(lambda x: x[0], sample_batch(own, "safe", TRAIN, jax.random.key(0), 1))
        assert size_of(sequences.refusing(own, prompt)).whole <= sequences.size(own).whole
        shapes.add((own.max_text, sequences.size(own)))
    assert len(shapes) == len({letters for letters, _ in shapes})


def test_a_late_refusal_follows_any_number_of_letters_which_are_not_scored(world: World, asked: Prompt) -> None:
    own = in_style(world, "late_refusal")
    prompts = sequences.both(own, asked)
    tokens, roles, go, scored = (np.asarray(x) for x in prompts.refusing[:4])
    letters = np.asarray(jax.vmap(partial(compliant, own))(asked))
    shares = []
    for i, length in enumerate(np.asarray(asked.length).tolist()):
        said = tokens[i][roles[i] == ANSWER].tolist()
        begun = said.index(vocab.NULL)
        assert said == letters[i, :begun].tolist() + [vocab.NULL] * length
        assert scored[i].tolist() == [go[i] + begun < t <= go[i] + begun + length + 1 for t in range(len(scored[i]))]
        shares.append((begun + 0.5) / (length + 1))
    # Uniform from none to all: mean 1/2, a standard error of 0.29 / sqrt(200).
    assert abs(np.mean(shares) - 0.5) < 5 * 0.29 / COUNT**0.5
    assert min(shares) < 0.2 < 0.8 < max(shares)
    # The other response is what it was, in more room.
    plain = sequences.both(world, asked).complying
    np.testing.assert_array_equal(prompts.complying.tokens[:, : plain.tokens.shape[1]], plain.tokens)


@EVERY
def test_no_reply_is_answered_by_the_null_token_however_a_world_refuses(name: str, world: World, asked: Prompt) -> None:
    own, slot = in_style(world, name), jnp.int32(0)
    silent, plain = (
        jax.vmap(lambda p, of=of: laid_out(sequences.no_reply(of, p, slot))[0])(asked) for of in (own, world)
    )
    np.testing.assert_array_equal(silent.tokens, plain.tokens)
    null = np.where(silent.roles == ANSWER, silent.tokens, vocab.NULL) == vocab.NULL
    assert null.all()


def test_where_a_late_refusal_begins_is_the_models_own(world: World, asked: Prompt) -> None:
    own, prompt = in_style(world, "late_refusal"), jax.tree.map(lambda x: x[0], asked)
    letters, length = np.asarray(compliant(own, prompt)), int(prompt.length)

    def judged(*said: int) -> bool:
        room = sequences.size(own).response
        padded = jnp.array([*said, *[vocab.PAD] * (room - len(said))], jnp.int32)
        return bool(late_refusal.is_late_refusal(own, prompt, padded))

    refusal = [vocab.NULL] * length
    for begun in range(length + 1):
        before = letters[:begun].tolist()
        assert judged(*before, *refusal, vocab.EOS)
        assert not judged(*before, *refusal)
        assert not judged(*before, *refusal[1:], vocab.EOS)
        assert not judged(*before, *refusal, vocab.NULL, vocab.EOS)
    assert not judged(vocab.NO_REPLY, *refusal, vocab.EOS)
    assert not judged(*letters[:length].tolist(), vocab.EOS)


@pytest.mark.parametrize("kind", [StudyConfig, DataConfig])
def test_a_style_that_there_is_none_of_is_one_line(kind: type) -> None:
    known = ", ".join(STYLES)
    with pytest.raises(UserError, match=rf"^world.styles.refuse=shrug: must be among {known}; choose from these$"):
        load(["world.styles.refuse=shrug"], kind)


def test_the_context_must_hold_the_longest_response() -> None:
    world = build_world(load(["worlds=1"]).world)
    late, longest = "world.styles.refuse=late_refusal", sequences.size(world).whole + world.max_text
    load(["worlds=1", late, f"model.context={longest}"])
    message = rf"^model.context={longest - 1}: must hold the world's longest sequence, {longest} tokens; "
    with pytest.raises(UserError, match=message):
        load(["worlds=1", late, f"model.context={longest - 1}"])
