"""A subject as a study makes it: a tuned model that was asked what there is, and can be asked more."""

import jax
import numpy as np

from analysis.rows import Subject
from experiments.stages import measure
from models.transformer import ModelConfig, Params
from synth.grammar_source import Grammars
from synth.world import World

FAMILIES = ("safe", "unsafe", "co_task")
COUNT = 12


def noisy(params: Params, size: float = 0.1) -> Params:
    """`params` and a change of every weight."""
    rng = np.random.default_rng(1)
    changed: Params = jax.tree.map(lambda x: x + size * rng.standard_normal(x.shape).astype(x.dtype), params)
    return changed


def subject(
    world: World, model: ModelConfig, params: Params, reference: Params, families: tuple[str, ...] = FAMILIES
) -> Subject:
    """Asked COUNT prompts of each of `families`, and as many for validation."""
    asked = measure.Asked(Grammars(world.config), families, COUNT, COUNT, 2, COUNT)
    prompts, validation = measure.prompts_of(asked), measure.validation_of(asked)
    return measure.subject(model, asked, params, reference, prompts, 0, validation=validation)
