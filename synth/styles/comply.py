"""Compliance: the composed tasks applied to the text (arXiv 2407.10264, sec. 3)."""

import jax
import jax.numpy as jnp

from synth.prompts import Prompt
from synth.segments import ANSWER, Segment
from synth.style import Style
from synth.tasks import compose
from synth.world import World


def compliant(world: World, prompt: Prompt) -> jax.Array:
    """[max_text] token ids of the composed tasks applied to one prompt's text, letter by letter."""
    letters = compose(jnp.asarray(world.bijections)[prompt.grammar], prompt.tasks, prompt.text)
    return letters + world.vocab.first_letter


def comply(world: World, prompt: Prompt) -> tuple[Segment, ...]:
    """The answer that was asked for."""
    return (Segment(compliant(world, prompt), prompt.length, ANSWER, scored=True),)


STYLE = Style(__name__, comply)
