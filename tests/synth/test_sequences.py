"""Tests of `synth/sequences.py` against a plain loop."""

from functools import partial

import jax
import numpy as np
import pytest

from synth import sequences, vocab
from synth.families import FAMILIES
from synth.lookup import sample_batch
from synth.prompts import TRAIN, Prompt
from synth.segments import ANSWER, END, PADDING, RESPONSE_START, START, TASK, TEXT, TEXT_START, laid_out
from synth.styles.comply import compliant
from synth.world import World


def layout(world: World, prompt: Prompt, refuse: bool) -> tuple[list[int], list[int]]:
    """Tokens and roles of one prompt, written out."""
    letters, first = prompt.text[: prompt.length].tolist(), world.vocab.first_letter
    response = []
    for letter in letters:
        for task in prompt.tasks:
            letter = world.bijections[prompt.grammar, task, letter]
        response.append(vocab.NULL if refuse else int(letter) + first)
    parts = [
        (START, [vocab.BOS]),
        (TASK, [int(task) + world.vocab.first_task for task in prompt.tasks]),
        (TEXT_START, [vocab.SOT]),
        (TEXT, [letter + first for letter in letters]),
        (RESPONSE_START, [vocab.EOT]),
        (ANSWER, response),
        (END, [vocab.EOS]),
    ]
    tokens = [token for _, part in parts for token in part]
    roles = [role for role, part in parts for _ in part]
    padding = 4 + world.config.tasks.composed + 2 * world.max_text - len(tokens)
    return tokens + [vocab.PAD] * padding, roles + [PADDING] * padding


def test_sequences_are_what_a_loop_writes(world: World, key: jax.Array) -> None:
    prompts = sample_batch(world, "pretraining", TRAIN, key, 100)
    assert len(set(np.asarray(prompts.length).tolist())) > 2
    for refuse, batch in zip((False, True), sequences.both(world, prompts), strict=True):
        for i in range(100):
            tokens, roles = layout(world, jax.tree.map(lambda a, i=i: np.asarray(a[i]), prompts), refuse)
            assert batch.tokens[i].tolist() == tokens
            assert batch.roles[i].tolist() == roles
            assert tokens[int(batch.go[i])] == vocab.EOT


@partial(jax.jit, static_argnames="world")
def responses_to(world: World, prompts: Prompt) -> jax.Array:
    return jax.vmap(partial(compliant, world))(prompts)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_complied_with_by_its_grammars_bijections(name: str, world: World, key: jax.Array) -> None:
    # As large as the batches of `families.drawn`, so that the two compile once.
    prompts = jax.tree.map(np.asarray, sample_batch(world, name, TRAIN, key, 300, 0))
    responses = np.asarray(responses_to(world, prompts))
    for i, length in enumerate(prompts.length):
        text = prompts.text[i, :length]
        for task in prompts.tasks[i]:
            text = world.bijections[prompts.grammar[i]][task][text]
        assert responses[i, :length].tolist() == (text + world.vocab.first_letter).tolist()


def test_no_reply_replaces_one_task_and_is_answered_by_null(world: World, key: jax.Array) -> None:
    prompt = jax.tree.map(lambda a: a[0], sample_batch(world, "pretraining", TRAIN, key, 1))
    plain, silent = laid_out(sequences.refusing(world, prompt), sequences.no_reply(world, prompt, jax.numpy.int32(1)))
    changed = np.flatnonzero(np.asarray(plain.tokens != silent.tokens))
    assert changed.tolist() == [2]
    assert silent.tokens[2] == vocab.NO_REPLY


def test_decode_names_every_token(world: World) -> None:
    names = world.vocab.names()
    assert len(names) == world.vocab.size == len(set(names))
    assert world.vocab.decode(np.array([vocab.BOS, world.vocab.first_task, world.vocab.first_letter, vocab.PAD])) == (
        "<bos> t0 a"
    )
