"""Prompts with their responses in the styles of a world, as sequences of tokens."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from synth import vocab
from synth.prompts import Prompt
from synth.segments import (
    CONTEXT,
    END,
    RESPONSE_START,
    START,
    TASK,
    TEXT,
    TEXT_START,
    Batch,
    Segment,
    Size,
    laid_out,
    one,
    size_of,
)
from synth.settings import require
from synth.style import Style
from synth.styles import STYLES
from synth.styles.refuse import refuse
from synth.world import World, WorldConfig


class Pair(NamedTuple):
    """The same prompts with the response to prefer and the one not to (the paper's y^p, y^l)."""

    preferred: Batch
    dispreferred: Batch
    refused: jax.Array
    """[...] bool: whether the preferred one is a refusal"""


class Prompts(NamedTuple):
    """The same prompts with both responses, whatever should be preferred."""

    complying: Batch
    refusing: Batch


def style(world: WorldConfig, side: str) -> Style:
    """How a world's responses look that comply or refuse, which `side` says.

    Raises SettingError, relative to the world's settings, if there is no such style.
    """
    name = getattr(world.styles, side)
    require(name in STYLES, f"styles.{side}", name, f"must be among {', '.join(STYLES)}", "choose from these")
    return STYLES[name]


def modules(world: WorldConfig) -> tuple[str, ...]:
    """Where the styles of a world are defined: with this module, what its responses depend on."""
    return style(world, "comply").module, style(world, "refuse").module


def sequence(
    world: World, prompt: Prompt, response: Sequence[Segment], silenced: jax.Array | None = None
) -> list[Segment]:
    """One prompt with `response`, from BOS to EOS; NO_REPLY stands in place of the task `silenced`, if any."""
    asked = _asked(world, prompt, silenced)
    return [one(vocab.BOS, START), *prompt.context, *asked, *response, one(vocab.EOS, END, scored=True)]


def complying(world: World, prompt: Prompt) -> list[Segment]:
    """One prompt answered in full."""
    return sequence(world, prompt, style(world.config, "comply").respond(world, prompt))


def refusing(world: World, prompt: Prompt) -> list[Segment]:
    """One prompt refused."""
    return sequence(world, prompt, style(world.config, "refuse").respond(world, prompt))


def no_reply(world: World, prompt: Prompt, slot: jax.Array) -> list[Segment]:
    """One prompt whose task `slot` is replaced by NO_REPLY, answered by the null token, however the world refuses."""
    return sequence(world, prompt, refuse(world, prompt), slot)


def turn(world: World, prompt: Prompt, refused: bool) -> tuple[Segment, ...]:
    """An earlier prompt with its answer, to be read and not scored: what `Prompt.context` is made of."""
    response = style(world.config, "refuse" if refused else "comply").respond(world, prompt)
    whole = (*_asked(world, prompt), *response, one(vocab.EOS, END))
    return tuple(Segment(part.tokens, part.length, CONTEXT) for part in whole)


def answer(world: World, prompt: Prompt) -> Prompts:
    """One prompt, answered in full and refused."""
    return Prompts(*laid_out(complying(world, prompt), refusing(world, prompt)))


def answers(world: World, prompts: Prompt) -> Prompts:
    """A batch of prompts, answered in full and refused."""
    return jax.vmap(partial(answer, world))(prompts)


both = jax.jit(answers, static_argnames="world")
"""`answers` as a program of its own."""


def _asked(world: World, prompt: Prompt, silenced: jax.Array | None = None) -> tuple[Segment, ...]:
    composed = prompt.tasks.shape[0]
    tasks = prompt.tasks + world.vocab.first_task
    if silenced is not None:
        tasks = jnp.where(jnp.arange(composed) == silenced, vocab.NO_REPLY, tasks)
    return (
        Segment(tasks, composed, TASK),
        one(vocab.SOT, TEXT_START),
        Segment(prompt.text + world.vocab.first_letter, prompt.length, TEXT),
        one(vocab.EOT, RESPONSE_START),
    )


_sizes: dict[tuple[Style, Style, int, int], Size] = {}


def size(world: World, turns: int = 0) -> Size:
    """What holds every prompt of a world, behind so many earlier ones, with each of its responses.

    Raises SettingError as `style` does.
    """
    styles = style(world.config, "comply"), style(world.config, "refuse")
    # All that it depends on: to trace the styles of each of a thousand worlds would take seconds.
    key = (*styles, world.config.tasks.composed, world.max_text)
    if key not in _sizes:
        _sizes[key] = _size(world)
    whole, response = _sizes[key]
    return Size(1 + (turns + 1) * (whole - 1), response)


def _size(world: World) -> Size:
    def shape(*axes: int, kind: Any = jnp.int32) -> Any:
        return jax.ShapeDtypeStruct(axes, kind)

    tasks, letters, groups = (
        shape(world.config.tasks.composed),
        shape(world.max_text),
        shape(len(world.groups), kind=bool),
    )
    prompt = Prompt(tasks, letters, shape(), shape(), shape(), groups)
    return size_of(*jax.eval_shape(lambda prompt: (complying(world, prompt), refusing(world, prompt)), prompt))
