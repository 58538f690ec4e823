"""Prompt and response as token sequences: the one type that crosses packages."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from synth import vocab
from synth.prompts import NOT_FOUND, Prompt
from synth.tasks import compose
from synth.world import World

# The role of each position, so that any mask is one comparison.
PADDING, START, TASK, TEXT_START, TEXT, RESPONSE_START, RESPONSE, END = range(8)


class Batch(NamedTuple):
    """Token sequences [..., T] of `world.sequence_length`, padded at the end."""

    tokens: jax.Array
    roles: jax.Array
    """[..., T] what each position is, one of the roles of this module"""
    go: jax.Array
    """[...] position of EOT, the last one before the response: it predicts the response's first token"""


class Pair(NamedTuple):
    """The same prompts with the response to prefer and the one not to (the paper's y^p, y^l)."""

    preferred: Batch
    dispreferred: Batch


class Prompts(NamedTuple):
    """The same prompts with both responses, whatever should be preferred."""

    complying: Batch
    refusing: Batch


def compliant(world: World, prompt: Prompt) -> jax.Array:
    """[max_text] token ids of the composed tasks applied to one prompt's text."""
    letters = compose(jnp.asarray(world.bijections)[prompt.grammar], prompt.tasks, prompt.text)
    return letters + world.vocab.first_letter


def refusal(world: World) -> jax.Array:
    """[max_text] the null token, repeated."""
    return jnp.full((world.max_text,), vocab.NULL, jnp.int32)


def assemble(world: World, prompt: Prompt, response: jax.Array) -> Batch:
    """The sequence of one prompt with `response` [max_text], cut to the text's length, then EOS."""
    composed, length = prompt.tasks.shape[0], prompt.length
    position = jnp.arange(world.sequence_length)
    text_from = composed + 2
    go = text_from + length
    response_from = go + 1
    end = response_from + length
    text_index = jnp.clip(position - text_from, 0, world.max_text - 1)
    response_index = jnp.clip(position - response_from, 0, world.max_text - 1)
    tasks = (prompt.tasks + world.vocab.first_task)[jnp.clip(position - 1, 0, composed - 1)]
    # Later rows win: each gives the role and token from its first position on.
    parts = (
        (0, START, jnp.int32(vocab.BOS)),
        (1, TASK, tasks),
        (1 + composed, TEXT_START, jnp.int32(vocab.SOT)),
        (text_from, TEXT, prompt.text[text_index] + world.vocab.first_letter),
        (go, RESPONSE_START, jnp.int32(vocab.EOT)),
        (response_from, RESPONSE, response[response_index]),
        (end, END, jnp.int32(vocab.EOS)),
        (end + 1, PADDING, jnp.int32(vocab.PAD)),
    )
    tokens, roles = jnp.zeros_like(position), jnp.zeros_like(position)
    for first, role, token in parts:
        tokens = jnp.where(position >= first, token, tokens)
        roles = jnp.where(position >= first, role, roles)
    # No part of a prompt that was not found counts as anything.
    roles = jnp.where(length == NOT_FOUND, PADDING, roles)
    return Batch(tokens.astype(jnp.int32), roles.astype(jnp.int32), go)


def comply(world: World, prompt: Prompt) -> Batch:
    """One prompt answered in full."""
    return assemble(world, prompt, compliant(world, prompt))


def refuse(world: World, prompt: Prompt) -> Batch:
    """One prompt refused."""
    return assemble(world, prompt, refusal(world))


def answers(world: World, prompts: Prompt) -> Prompts:
    """A batch of prompts, answered in full and refused."""
    return Prompts(jax.vmap(partial(comply, world))(prompts), jax.vmap(partial(refuse, world))(prompts))


both = jax.jit(answers, static_argnames="world")
"""`answers` as a program of its own."""


def no_reply(world: World, prompt: Prompt, slot: jax.Array) -> Batch:
    """One prompt whose task `slot` is replaced by NO_REPLY, answered by the null token."""
    batch = refuse(world, prompt)
    position = jnp.arange(batch.tokens.shape[-1])
    return batch._replace(tokens=jnp.where(position == 1 + slot, vocab.NO_REPLY, batch.tokens))
