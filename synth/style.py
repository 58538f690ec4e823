"""What a style of responses is; each is a file of its own in `synth/styles/`."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from synth.prompts import Prompt
from synth.segments import Segment
from synth.world import World


class Style(NamedTuple):
    """What a response to a prompt looks like. Each is STYLE of a module of its own."""

    module: str
    """Where it is defined, `__name__` there: what its responses depend on is what that module imports"""
    respond: Callable[[World, Prompt], tuple[Segment, ...]]
    """What is said to one prompt before the end: an answer, and before it a trace where there is one. It has as many
    tokens as the text or more, and how many at most depends on the world's numbers of tasks and letters in a prompt
    alone. The last token of a trace stands nowhere else in it."""
    is_of: Callable[[World, Prompt, jax.Array], jax.Array] | None = None
    """Whether the tokens said to one prompt [room], its end and padding included, are a response in this style; None
    where they are if their answer is that of `respond` to the letter"""
