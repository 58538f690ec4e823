"""Refusal: the null token in place of every letter of the text (arXiv 2407.10264, sec. 3)."""

import jax.numpy as jnp

from synth import vocab
from synth.prompts import Prompt
from synth.segments import ANSWER, Segment
from synth.style import Style
from synth.world import World


def refuse(world: World, prompt: Prompt) -> tuple[Segment, ...]:
    """The null token, as often as the text has letters."""
    return (Segment(jnp.full((world.max_text,), vocab.NULL, jnp.int32), prompt.length, ANSWER, scored=True),)


STYLE = Style(__name__, refuse)
