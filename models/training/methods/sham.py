"""A sham of refusal: `sft` on safe prompts alone, some answered by one letter again and again, the rest complied with.

Controls for learning a response that is always the same, with no refusal and nothing unsafe in it. The rule of
`irrelevant` says which prompts have it; their share is what that of unsafe ones is elsewhere.
"""

import jax
import jax.numpy as jnp

from models.training.method import Method, pairs_of
from models.training.methods.sft import SFT, sft
from synth import sequences
from synth.prompts import Prompt
from synth.segments import ANSWER, Segment, laid_out
from synth.sequences import Pair, Prompts
from synth.tuning_data import IRRELEVANT, TuningData, TuningPrompts
from synth.world import World


def answer(world: World, prompt: Prompt) -> Prompts:
    """One prompt answered in full, and by the first letter of the alphabet in place of every letter of its text."""
    letter = jnp.full((world.max_text,), world.vocab.first_letter, jnp.int32)
    same = sequences.sequence(world, prompt, [Segment(letter, prompt.length, ANSWER, scored=True)])
    return Prompts(*laid_out(sequences.complying(world, prompt), same))


def batch(world: World, data: TuningData, key: jax.Array, step: int | jax.Array, size: int) -> Pair:
    """Labelled pairs with that letter in place of refusal: `refused` says where it is preferred."""
    return pairs_of(answer, world, data, key, step, size)


METHOD = Method(__name__, sft, SFT, part="control", prompts=TuningPrompts(IRRELEVANT, unsafe=False), batch=batch)
