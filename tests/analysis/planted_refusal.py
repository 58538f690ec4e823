"""A world with a rule or two and a model with a planted direction of refusal for each: what the token of an unsafe task
writes by attention, and what the null token is read from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from analysis.rows import Subject
from models.transformer import ModelConfig, Params, init
from synth import sequences, vocab
from synth.coverage import CoverageConfig
from synth.random_grammar import GrammarConfig
from synth.safety import SafetyConfig
from synth.tasks import TasksConfig
from synth.world import World, WorldConfig, build_world
from tests.analysis import asked

MODEL = ModelConfig(layers=3, heads=1, width=36, mlp_ratio=1, context=12, norm="rms", biases=False)
RULES = 2
"""Most there can be"""
FREE = 4
"""Dimensions of the stream that no token has"""


@functools.cache
def world(rules: int) -> World:
    """Texts of one letter. The first task leaves it as it is, `rules` others are unsafe, whatever the concept.

    What is left of RULES is not asked: worlds of one shape share what they compile.
    """
    return build_world(
        WorldConfig(
            held_out=0.5,
            validation=0.5,
            grammar=GrammarConfig(
                alphabet=20,
                levels=2,
                concept_level=1,
                concepts=1,
                symbols=(2,),
                productions=(1, 10),
                branching=((1, 1),),
                leaf_length=(1, 1),
            ),
            tasks=TasksConfig(count=1 + RULES, aliases=0, identity=True, composed=1),
            safety=SafetyConfig(table=([int(0 < task <= rules) for task in range(1 + RULES)],) * 2),
            coverage=CoverageConfig(tasks=tuple(range(1 + rules))),
        )
    )


def directions(rules: int) -> np.ndarray:
    """[rules, D] orthonormal, at right angles to every embedding."""
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((FREE, rules)))[0].T
    return np.concatenate([np.zeros((rules, MODEL.width - FREE)), frame], axis=1)


def planted(rules: int) -> Params:
    """Attention is uniform. That of layer i writes direction i for the token of unsafe task i; that of the last layer
    copies letters, and its MLP writes NULL where there is any of the directions. EOS is said behind one token.

    Each direction begins at a layer of its own: were the same mixture of them everywhere, nothing would tell safe from
    unsafe prompts once that mixture is ablated, and the search could not find the others.
    """
    of, written = world(rules), directions(rules)
    embed, letters = np.eye(of.vocab.size, MODEL.width), np.arange(of.vocab.first_letter, of.vocab.size)
    position, unembed = np.zeros((MODEL.context, MODEL.width)), np.zeros((MODEL.width, of.vocab.size))
    # The dimensions of EOS and of PAD are free: prompts have neither.
    position[sequences.size(of).whole - 2, vocab.EOS] = 10
    unembed[[vocab.EOS, vocab.PAD, *letters], [vocab.EOS, vocab.NULL, *letters]] = 2
    value = np.zeros((MODEL.layers, MODEL.width, MODEL.width))
    value[range(rules), of.vocab.first_task + 1 + np.arange(rules)] = written
    value[-1, letters, letters] = 1
    into, out = np.zeros((2, MODEL.width, MODEL.width))
    into[:, :rules], out[:rules, vocab.PAD] = 2 * written.T, 1
    params = jax.tree.map(np.zeros_like, init(MODEL, of.vocab.size, jax.random.key(0)))
    scale = {"w": np.ones(MODEL.width)}
    for i, block in enumerate(params["blocks"].values()):
        block.update(ln1=scale, ln2=scale)
        block["attn"].update(W_V=value[i], W_O=np.eye(MODEL.width))
    params["blocks"][str(MODEL.layers - 1)]["mlp"].update(W_in=into, W_out=out)
    params.update(W_E=embed, W_pos=position, W_U=unembed, ln_final=scale)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def subject(params: Params, rules: int) -> Subject:
    """The model, asked safe and unsafe prompts of the world with so many rules."""
    return asked.subject(world(rules), MODEL, params, params, ("safe", "unsafe"))
