"""Prompts: how one is drawn, and the division of all of them into three sides: to train, to choose and to test by.

A prompt is drawn again until it is acceptable and its hash puts it on the wanted side of the
world's division, so an evaluation prompt is never one that was trained on or chosen by.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synth.keys import fold
from synth.safety import verdict
from synth.segments import Segment
from synth.world import World

SIDES = ("train", "validation", "test")
"""Of the division: what is trained on; what whatever is chosen or fitted is so on; what is reported"""
TRAIN, VALIDATION, TEST = range(len(SIDES))

DIVISION, WRONG_LABEL, SAME_1, SAME_2, SHUFFLED_LABEL = range(5)
"""What a prompt is hashed for, the salts of `content_hash`."""

SMALL = 64
"""Prompts up to which a batch is drawn some at a time from the start: as quick, and half to compile."""


class Prompt(NamedTuple):
    """One request, or a batch of them with leading axes."""

    tasks: jax.Array
    """[..., composed] tasks in the order applied; aliases follow the tasks"""
    text: jax.Array
    """[..., max_text] letters, 0 beyond `length`"""
    length: jax.Array
    """[...] letters in the text"""
    grammar: jax.Array
    """[...] the grammar the text was derived by"""
    concept: jax.Array
    """[...] the concept the text was derived from, or NO_CONCEPT if it lies above the concepts"""
    groups: jax.Array
    """[..., groups] bool: whether a letter of the text was derived from a concept of the group"""
    context: tuple[Segment, ...] = ()
    """What is read before it and not scored: earlier prompts with their answers (`sequences.turn`)"""


class Attempt(NamedTuple):
    """A prompt drawn, and whether it is one of its family."""

    prompt: Prompt
    accepted: jax.Array


Sampler = Callable[..., Attempt]
"""(world, key, ...) -> Attempt"""


def verdicts(world: World, prompts: Prompt) -> jax.Array:
    """[...] SAFE, UNSAFE or MIXED: the ground truth about any prompt.

    It goes by what the text was derived from, which an ambiguous text does not give away.
    """
    return verdict(jnp.asarray(world.unsafe), world.config.safety.rule, prompts.groups, prompts.tasks)


def content_hash(prompt: Prompt, salt: int) -> jax.Array:
    """A uint32 that depends on one prompt's tasks and text alone, another for each salt."""
    size = prompt.tasks.size + prompt.text.size
    odd = jnp.asarray(np.random.default_rng(salt).integers(2**32, size=size, dtype=np.uint32) | 1)
    inside = jnp.arange(prompt.text.size) < prompt.length
    text = jnp.where(inside, prompt.text + 1, 0)
    content = jnp.concatenate([prompt.tasks, text]).astype(jnp.uint32)
    # A multilinear hash, then MurmurHash3's finaliser so that every bit counts.
    code = jnp.sum(content * odd, dtype=jnp.uint32)
    code = (code ^ (code >> 16)) * jnp.uint32(0x85EBCA6B)
    code = (code ^ (code >> 13)) * jnp.uint32(0xC2B2AE35)
    return code ^ (code >> 16)


def codes(prompts: Prompt) -> jax.Array:
    """[N, 2] hashes of N prompts, 64 bits that tell them apart."""
    return jax.vmap(lambda p: jnp.stack([content_hash(p, salt) for salt in (SAME_1, SAME_2)]))(prompts)


def below_share(code: jax.Array, share: float | jax.Array) -> jax.Array:
    """Whether a hash lies in the first `share` of all hashes."""
    # 24 bits, which float32 holds exactly.
    return (code >> 8).astype(jnp.float32) < jnp.float32(2**24) * share


def side_of(world: World, prompt: Prompt) -> jax.Array:
    """On which side of the world's division one prompt is: TRAIN, VALIDATION or TEST."""
    code, held_out = content_hash(prompt, DIVISION), world.config.held_out
    chosen_by = below_share(code, held_out * world.config.validation)
    return jnp.where(chosen_by, VALIDATION, jnp.where(below_share(code, held_out), TEST, TRAIN))


ATTEMPTS = 2**16
"""Draws after which a prompt is given up: those of a family that has one in 2,000 on its side end before."""
NOT_FOUND = -1
"""The length of a prompt that was given up; its sequence has no response, so that a loss on it is NaN."""


class _Drawing(NamedTuple):
    """The state of drawing N prompts."""

    attempts: jax.Array
    """[N] how many draws each prompt has taken"""
    done: jax.Array
    """[N]"""
    prompts: Prompt


def sample(world: World, sampler: Sampler, side: int | jax.Array, keys: jax.Array, *each: jax.Array) -> Prompt:
    """[N] prompts, one for each of `keys` [N], on the wanted `side` of the division.

    A prompt is the first acceptable one of its key's attempts 0, 1, ...; it depends on its
    key alone, not on the others. `each` [N] are passed on to the sampler. Where ATTEMPTS draws give none,
    the prompt has the length NOT_FOUND (`lookup.check_found` says so).
    """

    def attempt(key: jax.Array, number: jax.Array, *each: jax.Array) -> tuple[jax.Array, Prompt]:
        prompt, accepted = sampler(world, fold(key, number), *each)
        return accepted & (side_of(world, prompt) == side), prompt

    size = keys.shape[0]
    few = max(min(size, 8), size // (4 if size <= SMALL else 8))

    def waiting(state: _Drawing) -> jax.Array:
        return ~state.done & (state.attempts < ATTEMPTS)

    def again(state: _Drawing) -> _Drawing:
        index = jnp.nonzero(waiting(state), size=few, fill_value=size)[0]
        here = jnp.minimum(index, size - 1)
        done, prompts = jax.vmap(attempt)(keys[here], state.attempts[here], *(given[here] for given in each))
        put = partial(jax.tree.map, lambda old, new: old.at[index].set(new, mode="drop"))
        return _Drawing(
            state.attempts.at[index].add(1, mode="drop"),
            state.done.at[index].set(done, mode="drop"),
            put(state.prompts, prompts),
        )

    none = jnp.zeros(size, jnp.int32)
    if size <= SMALL:
        shapes = jax.eval_shape(jax.vmap(attempt), keys, none, *each)[1]
        state = _Drawing(none, none > 0, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))
    else:
        state = _Drawing(none + 1, *jax.vmap(attempt)(keys, none, *each))
    # Prompts not yet found are drawn (again), some at a time, until none is left.
    state = jax.lax.while_loop(lambda state: jnp.any(waiting(state)), again, state)
    return state.prompts._replace(length=jnp.where(state.done, state.prompts.length, NOT_FOUND))
