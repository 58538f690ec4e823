"""The prompts of safety tuning: an endless stream or a finite set, with their labels."""

import functools
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synth.drawing import TaskMix
from synth.families.pretraining import pretraining
from synth.judged import judged_mix, judged_prompt
from synth.keys import batch_keys, fold
from synth.likelihood import first_letters
from synth.prompts import (
    SHUFFLED_LABEL,
    TRAIN,
    WRONG_LABEL,
    Attempt,
    Prompt,
    below_share,
    codes,
    content_hash,
    sample,
)
from synth.settings import require, require_at_most, require_share
from synth.shared import Constants, Shared, shared
from synth.world import World

ENDLESS = 0
LARGEST = 2**23
"""Prompts of a finite set: the whole numbers that a uniform float32, of 23 random bits, can choose among."""
COUNTED = 2**20
"""Prompts of a stream among which repeats are counted."""
SETS = 14
"""Letters of which every set is tried for `flagged_letters`; of more, as many sets by chance."""

VERDICT, SHUFFLED, IRRELEVANT, REFUSED, COMPLIED = range(5)
"""What a label goes by: the prompt's safety, chance, `flagged_letters`, or nothing, all being to refuse, or none."""


class TuningPrompts(NamedTuple):
    """Which prompts a method is tuned on, and what their labels go by.

    All but pretraining's are drawn in the same way, so that equal keys and shares give equal prompts.
    """

    labels: int = VERDICT
    unsafe: bool = True
    """Whether unsafe prompts are among them, `unsafe_share` of all; labels flag as many without them"""
    pretraining: bool = False
    """Whether they are pretraining's prompts, whatever tuning covers; all are to be complied with"""

    @property
    def complies(self) -> bool:
        """Whether safe prompts are to be complied with."""
        return self.labels in (VERDICT, COMPLIED)


@dataclass(unsafe_hash=True)
class TuningDataConfig:
    """What safety tuning is trained on; `world.coverage` says what it covers."""

    size: int = ENDLESS
    """Prompts of a finite set that is seen again and again; 0 for an endless stream."""
    unsafe_share: float = 0.5
    """Share of unsafe prompts, in each batch and in a finite set."""
    label_noise: float = 0.0
    """Share of prompts with the wrong label: the response to prefer and the other exchanged."""

    def __post_init__(self) -> None:
        require_share(self, "unsafe_share", "label_noise")
        require(self.size >= 0, "size", self.size, "must be a number of prompts, or 0 for an endless stream", "set 0")
        require_at_most("size", self.size, LARGEST)
        unsafe = round(self.size * self.unsafe_share)
        enough = (unsafe > 0 or self.unsafe_share == 0) and (unsafe < self.size or self.unsafe_share == 1)
        require(
            self.size == ENDLESS or enough,
            "size",
            self.size,
            f"is too small for a share of unsafe prompts of {self.unsafe_share}",
            "raise size",
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TuningData:
    """The settings of a method's prompts as numbers of a compiled program: changing them compiles nothing."""

    size: jax.Array | int
    unsafe_share: jax.Array | float
    label_noise: jax.Array | float
    labels: jax.Array | int = VERDICT
    """What labels go by: VERDICT, SHUFFLED (dealt at random in the same shares), IRRELEVANT, REFUSED or COMPLIED"""
    pretraining: bool = field(default=False, metadata={"static": True})
    """Whether prompts are pretraining's, which are drawn by another program"""
    refused_share: jax.Array | float | None = None
    """The share that SHUFFLED and IRRELEVANT say to refuse; by default, and instead of None, `unsafe_share`"""

    def __post_init__(self) -> None:
        if self.refused_share is None:
            object.__setattr__(self, "refused_share", self.unsafe_share)


def data_for(config: TuningDataConfig, prompts: TuningPrompts) -> TuningData:
    """`config` for such prompts. Where all are to be treated alike, no label is wrong."""
    told = prompts.labels not in (REFUSED, COMPLIED) and not prompts.pretraining
    share, noise = config.unsafe_share * prompts.unsafe, config.label_noise * told
    return TuningData(config.size, share, noise, prompts.labels, prompts.pretraining, config.unsafe_share)


class Labelled(NamedTuple):
    """Prompts [N] with the label that training is told."""

    prompts: Prompt
    refuse: jax.Array
    """[N] bool: whether the label says to refuse"""


@functools.cache
def flagged_letters(world: World) -> np.ndarray:
    """[101, letters] bool: for an unsafe share of 0, 1, ..., 100 %, the first letters that are to be refused.

    A rule with no safety in it: a prompt is to be refused if its text begins with one of a set of
    letters, the same set for all concept groups. Of all sets (of 2^14 random ones where there are
    more than 14 letters) it is the one for which the largest distance of a group's share of
    refusals from the unsafe share, and the largest between two groups' shares, have the least
    sum. The groups' shares are exact by the grammar: covered concepts and grammars equally often,
    covered productions, allowed lengths. Within a group, tasks are drawn without regard to the
    text, so label and verdict are independent where the groups' shares are equal, but for how the
    division into training and held-out prompts falls.
    """
    first = np.zeros((len(world.groups), len(world.vocab.letters)))
    low, high = world.text_lengths
    for grammar in world.covered.grammars:
        for concept in world.covered.concepts:
            joint = first_letters(world.covered_grammars[grammar], world.concepts[concept])
            first[world.group_of[concept]] += joint[:, low : high + 1].sum(axis=1)
    first = first[first.sum(axis=1) > 0]
    first /= first.sum(axis=1, keepdims=True)
    letters = first.shape[1]
    if letters <= SETS:
        sets = np.arange(2**letters)[:, None] >> np.arange(letters) & 1 > 0
    else:
        rng = np.random.default_rng(world.config.seed)
        sets = rng.random((2**SETS, letters)) < rng.random((2**SETS, 1))
    refused = sets @ first.T
    some = ((refused > 0) & (refused < 1)).any(axis=1)
    found = []
    for share in np.arange(101) / 100:
        if share in (0, 1):
            found.append(np.full(letters, share == 1))
            continue
        off = np.abs(refused - share).max(axis=1) + np.ptp(refused, axis=1)
        # Sums that differ by rounding alone are equal.
        found.append(sets[np.argmin(np.where(some, off, np.inf).round(9))])
    return np.stack(found)


def draw(world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int) -> Labelled:
    """The prompts of batch `step`, the first `unsafe_share` of them unsafe; or pretraining's.

    Where the share is no whole number of prompts, the number is one of its two neighbours, by
    chance and so that its mean is the share. A finite set is a function of `key`, its prompts
    drawn uniformly with replacement at each step. A prompt keeps its label, right or wrong,
    whenever it comes. All prompts are from the training side of the world's division.
    """
    step_key = fold(key, step)
    share, total = jnp.asarray(data.unsafe_share), jnp.asarray(data.size)
    whole = jnp.floor(share * size)
    number = whole + (jax.random.uniform(fold(step_key, "remainder")) < share * size - whole).astype(jnp.float32)
    unsafe = jnp.arange(size, dtype=jnp.float32) < number
    in_set = jnp.round(share * total.astype(jnp.float32))
    of_kind = jnp.where(unsafe, in_set, total.astype(jnp.float32) - in_set)
    index = (jax.random.uniform(fold(step_key, "index"), (size,)) * of_kind).astype(jnp.int32)

    def prompt_key(fresh: jax.Array, unsafe: jax.Array, index: jax.Array) -> jax.Array:
        kept = fold(key, "set", unsafe.astype(jnp.int32), index)
        return jax.lax.select(total == ENDLESS, fresh, kept)

    keys = jax.vmap(prompt_key)(batch_keys(step_key, size), unsafe, index)
    prompts = sample(world, _pretraining if data.pretraining else tuning, TRAIN, keys, unsafe)

    def by_hash(salt: int, share: jax.Array) -> jax.Array:
        return jax.vmap(lambda prompt: below_share(content_hash(prompt, salt), share))(prompts)

    refused = jnp.asarray(data.refused_share)
    flagged = jnp.asarray(flagged_letters(world))[jnp.round(100 * refused).astype(jnp.int32)][prompts.text[:, 0]]
    # In the order of VERDICT, SHUFFLED, IRRELEVANT, REFUSED, COMPLIED.
    every = jnp.ones_like(unsafe)
    told = jnp.stack([unsafe, by_hash(SHUFFLED_LABEL, refused), flagged, every, ~every])
    labels = told[jnp.asarray(data.labels)]
    return Labelled(prompts, labels ^ by_hash(WRONG_LABEL, jnp.asarray(data.label_noise)))


def tuning(world: World, key: jax.Array, unsafe: bool | jax.Array) -> Attempt:
    """A prompt that safety tuning covers: of the family `safe`, or `unsafe` where that is true."""
    kinds = [judged_mix(world, world.covered, verdict) for verdict in ("safe", "unsafe")]
    mix = TaskMix(*(np.concatenate(parts) for parts in zip(*kinds, strict=True)))
    wanted = (jnp.arange(mix.rows.size) >= len(world.groups)) == unsafe
    return judged_prompt(world, world.covered, mix, key, wanted)


def _pretraining(world: World, key: jax.Array, unsafe: jax.Array) -> Attempt:
    return pretraining(world, key)


def repeats(world: World, data: TuningData, key: jax.Array, steps: int, size: int) -> tuple[float, int]:
    """The share of a seed's prompts that came before, and among how many it was counted.

    The prompts are those of `steps` batches of `size`, of many the first 2^20.
    """
    drawn, tables = _codes(world, min(steps, max(1, COUNTED // size)), size, data.pretraining)
    found = np.asarray(drawn.compiled(tables, data, key))
    return 1 - np.unique(found, axis=0).shape[0] / found.shape[0], found.shape[0]


@functools.cache
def _codes(world: World, steps: int, size: int, of_pretraining: bool) -> tuple[Shared[jax.Array], Constants]:
    """By data and key, [steps * size, 2] hashes, 64 bits that tell prompts apart."""

    def of_steps(data: TuningData, key: jax.Array) -> jax.Array:
        def batch(step: jax.Array) -> jax.Array:
            return codes(draw(world, data, key, step, size).prompts)

        return jnp.reshape(jax.lax.map(batch, jnp.arange(steps)), (steps * size, 2))

    data = TuningData(ENDLESS, 0.5, 0.0, pretraining=of_pretraining)
    return shared(of_steps, data, jax.random.key(0))
