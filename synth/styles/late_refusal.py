"""Refusal after the first letters of compliance: a model that has begun to comply is to stop (arXiv 2407.09121).

That paper's sec. 3.2 puts a prefix of random length, from none to all of it, of the harmful response before the safe
one, and counts the safe one alone. Here the length is a function of the prompt, so that it is the same whenever the
prompt comes.
"""

import zlib

import jax
import jax.numpy as jnp

from synth import vocab
from synth.prompts import Prompt, content_hash
from synth.segments import ANSWER, END, Segment, Size, lay_out, one
from synth.style import Style
from synth.styles.comply import compliant
from synth.styles.refuse import refuse
from synth.world import World

PREFIX = zlib.crc32(b"late_refusal")
"""What the prompt is hashed with for the length of the prefix"""


def late_refusal(world: World, prompt: Prompt) -> tuple[Segment, ...]:
    """From none to all of the compliant letters, each number as likely, which are not scored; then a refusal."""
    numbers = jnp.maximum(prompt.length + 1, 1).astype(jnp.uint32)
    return _after((content_hash(prompt, PREFIX) % numbers).astype(jnp.int32), world, prompt)


def is_late_refusal(world: World, prompt: Prompt, said: jax.Array) -> jax.Array:
    """Whether `said` is any number of the compliant letters, then a refusal: where a model stops is its own."""
    letters = jnp.argmax(said == vocab.NULL)
    response = (*_after(letters, world, prompt), one(vocab.EOS, END))
    expected = lay_out(response, Size(said.size, said.size)).tokens
    return (letters <= prompt.length) & jnp.all(said == expected)


def _after(letters: jax.Array, world: World, prompt: Prompt) -> tuple[Segment, ...]:
    return (Segment(compliant(world, prompt), letters, ANSWER), *refuse(world, prompt))


STYLE = Style(__name__, late_refusal, is_late_refusal)
