"""The parts of a prompt, drawn: numbers, tasks, texts. What the prompt families are made of."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synth.derive import NO_CONCEPT, Tables, Text, derive
from synth.prompts import Attempt, Prompt
from synth.world import World


class Draws(NamedTuple):
    """Uniform numbers in [0, 1), all that is random in an attempt, taken from its key at once."""

    row: jax.Array
    concept: jax.Array
    grammar: jax.Array
    tasks: jax.Array
    """[composed]"""
    others: jax.Array
    """[composed]"""
    slots: jax.Array
    slot: jax.Array
    alias: jax.Array
    length: jax.Array
    begin: jax.Array
    text: jax.Array
    """[tables.draws]"""


def draw(world: World, tables: Tables, key: jax.Array) -> Draws:
    """All the numbers of one attempt, for text by `tables`."""
    sizes = {"tasks": world.config.tasks.composed, "others": world.config.tasks.composed, "text": tables.draws}
    ends = np.cumsum([sizes.get(name, 1) for name in Draws._fields])
    parts = jnp.split(jax.random.uniform(key, (int(ends[-1]),)), ends[:-1].tolist())
    return Draws(*(part if name in sizes else part[0] for name, part in zip(Draws._fields, parts, strict=True)))


def below(uniform: jax.Array, count: int | jax.Array) -> jax.Array:
    """A uniform number in [0, 1) as a uniform integer below `count`."""
    return (uniform * jnp.asarray(count, jnp.float32)).astype(jnp.int32)


def among(numbers: Sequence[int], uniform: jax.Array) -> jax.Array:
    """One of `numbers`, each as likely."""
    return jnp.asarray(np.array(numbers, np.int32))[below(uniform, len(numbers))]


def choose(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """[...] an index with probability in proportion to `weights` [N] >= 0, for each entry of `uniform`."""
    weights = weights.astype(jnp.float32)
    ends = jnp.cumsum(weights)
    chosen = jnp.searchsorted(ends, uniform * ends[-1], side="right", method="compare_all").astype(jnp.int32)
    # Rounding may bring the product up to the sum: then the last index that has a weight.
    last = jnp.max(jnp.where(weights > 0, jnp.arange(weights.shape[0]), 0))
    return jnp.minimum(chosen, last)


class TaskMix(NamedTuple):
    """Which tasks a prompt may have, a row for each case (a group, a pair of groups) to be drawn.

    Prompts of a row are uniform over all task sequences whose slots of `bad` and `good` tasks
    `masks` allows.
    """

    good: np.ndarray
    """[rows, tasks] bool"""
    bad: np.ndarray
    """[rows, tasks] bool"""
    masks: np.ndarray
    """[rows, 2^composed] sequences there are whose bad slots are the bits of the index"""

    @property
    def rows(self) -> np.ndarray:
        """[rows] float32, 1 where there is such a prompt."""
        return (self.masks.sum(axis=1) > 0).astype(np.float32)


def task_mix(world: World, good: np.ndarray, bad: np.ndarray, slots: Callable[[int], bool]) -> TaskMix:
    """`slots` says which numbers of bad slots a prompt may have."""
    composed = world.config.tasks.composed
    counts = np.array([mask.bit_count() for mask in range(2**composed)])
    goods, bads = good.sum(axis=1)[:, None], bad.sum(axis=1)[:, None]
    allowed = np.array([slots(int(count)) for count in counts])
    return TaskMix(good, bad, np.where(allowed, bads**counts * goods ** (composed - counts), 0).astype(np.float32))


def draw_tasks(mix: TaskMix, draws: Draws, row: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[composed] tasks of `row`, and which slots hold bad ones."""
    mask = choose(jnp.asarray(mix.masks)[row], draws.slots)
    bad = (mask >> jnp.arange(draws.tasks.shape[0])) % 2 == 1
    chosen_bad = choose(jnp.asarray(mix.bad)[row], draws.others)
    return jnp.where(bad, chosen_bad, choose(jnp.asarray(mix.good)[row], draws.tasks)), bad


def text_of_concept(
    world: World, tables: Tables, draws: Draws, grammar: jax.Array, concept: jax.Array, tasks: jax.Array
) -> Attempt:
    """A prompt with text from `concept`, accepted if the text has an allowed length."""
    text = derive(tables, grammar, concept, draws.text)
    low, high = world.text_lengths
    letters = jnp.pad(text.letters, (0, world.max_text - text.letters.shape[0]))
    groups = jnp.asarray(world.group_of)[concept] == jnp.arange(len(world.groups))
    prompt = Prompt(tasks, letters, text.length, grammar, concept, groups)
    return Attempt(prompt, (text.length >= low) & (text.length <= high))


def window(world: World, draws: Draws, grammar: jax.Array, tasks: jax.Array, text: Text) -> tuple[Prompt, jax.Array]:
    """A prompt whose text is a window of a derivation from above the concepts.

    Length and place of the window are uniform among those there are. Also [concepts] bool,
    whether a letter of the window was derived from each.
    """
    low, high = world.text_lengths
    length = jnp.minimum(low + below(draws.length, high - low + 1), text.length)
    begin = below(draws.begin, text.length - length + 1)
    place = jnp.arange(world.max_text)
    inside = place < length
    at = jnp.minimum(begin + place, text.letters.shape[0] - 1)
    written = inside[:, None] & (text.concepts[at][:, None] == jnp.arange(len(world.concepts))[None])
    concepts = jnp.any(written, axis=0)
    members = world.group_of[:, None] == np.arange(len(world.groups))
    groups = jnp.any(concepts[:, None] & jnp.asarray(members), axis=0)
    letters = jnp.where(inside, text.letters[at], 0)
    return Prompt(tasks, letters, length, grammar, jnp.int32(NO_CONCEPT), groups), concepts
