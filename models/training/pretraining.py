"""Pretraining and instruction tuning in one: what is sampled and what is minimised.

arXiv 2407.10264, app. B.1.3: the weight of the text tokens falls and that of the response
tokens rises linearly over training. A small share of prompts carries the NO_REPLY operator
and is answered by the null token, so that a refusal is something the model can say.
"""

import functools
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from models.likelihood import token_logprobs
from models.training.loop import Program, Schedule, Terms
from models.training.optimizer import OptimizerConfig
from models.training.watch import WatchConfig
from models.transformer import ModelConfig, Params
from synth import sequences
from synth.families.pretraining import pretraining
from synth.keys import batch_keys, fold
from synth.prompts import TRAIN, Prompt, sample
from synth.segments import RESPONSE_START, TEXT, Batch, laid_out
from synth.settings import pair, require, require_above_zero, require_positive, require_share
from synth.shared import Constants, Shared, shared
from synth.world import World, WorldConfig, build_world


@dataclass(unsafe_hash=True)
class PretrainConfig:
    """Settings of pretraining."""

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 5e-3
    text_weight: tuple[float, float] = (1.0, 0.1)
    """Weight of the text tokens at the first and the last step (the paper's P_T)."""
    response_weight: tuple[float, float] = (0.5, 1.0)
    """Weight of the response tokens at the first and the last step (P_O)."""
    no_reply: float = 0.02
    """Share of prompts with the NO_REPLY operator."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(warmup=0.05))
    watch: WatchConfig = field(default_factory=lambda: WatchConfig(every=100))

    def __post_init__(self) -> None:
        require_positive(self, "steps")
        require_positive(self, "batch_size", most=2**20)
        require_share(self, "no_reply")
        require_above_zero(self, "learning_rate")
        self.optimizer.check_batch(self.batch_size)
        self.text_weight, self.response_weight = pair(self, "text_weight"), pair(self, "response_weight")
        for name in ("text_weight", "response_weight"):
            weights = getattr(self, name)
            require(
                0 <= min(weights) <= max(weights) <= 1,
                name,
                list(weights),
                "must be weights from 0 to 1",
                "for example [0.2,1.0]",
            )


def batch(config: PretrainConfig, world: World, key: jax.Array) -> Batch:
    """Training prompts of any kind with their responses, leading axis `batch_size`."""

    def answer(key: jax.Array, prompt: Prompt) -> Batch:
        chance, place = jax.random.uniform(fold(key, "no_reply"), (2,))
        silent = chance < config.no_reply
        slot = (place * world.config.tasks.composed).astype(jnp.int32)
        both = laid_out(sequences.complying(world, prompt), sequences.no_reply(world, prompt, slot))
        return jax.tree.map(lambda a, u: jnp.where(silent, u, a), *both)

    prompts = sample(world, pretraining, TRAIN, batch_keys(fold(key, "prompts"), config.batch_size))
    return jax.vmap(answer)(batch_keys(key, config.batch_size), prompts)


def loss(config: PretrainConfig, model: ModelConfig, params: Params, batch: Batch, progress: jax.Array) -> Terms:
    """Weighted cross-entropy: mean over text tokens and mean over response tokens.

    `progress` in [0, 1] is the share of training done.
    """
    roles = batch.roles[:, 1:]
    nll = -token_logprobs(model, params, batch)

    def mean_over(counted: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(counted, nll, 0.0), axis=-1) / jnp.sum(counted, axis=-1, dtype=nll.dtype)

    def weight(ends: tuple[float, float]) -> jax.Array:
        return ends[0] + (ends[1] - ends[0]) * progress

    text = mean_over((roles == TEXT) | (roles == RESPONSE_START))
    response = mean_over(batch.scored[:, 1:])
    loss = weight(config.text_weight) * text + weight(config.response_weight) * response
    return Terms(loss, {"text": text, "response": response})


@functools.cache
def _batches(config: PretrainConfig, world: WorldConfig) -> tuple[Shared[Batch], Constants]:
    """The batch of (the run's key, step), and what of it is this world's own."""
    tables = build_world(world)
    return shared(lambda key, step: batch(config, tables, fold(key, step)), jax.random.key(0), jnp.int32(0))


def program(config: PretrainConfig, model: ModelConfig, world: WorldConfig) -> Program:
    """Pretraining as `loop` runs it, one and the same for all worlds that differ in nothing but their tables."""
    return _program(config, model, _batches(config, world)[0], sequences.size(build_world(world)).whole)


def schedule(config: PretrainConfig, world: WorldConfig) -> Schedule:
    """The traced settings of pretraining, among them the tables of the world."""
    return Schedule(config.steps, config.learning_rate, _batches(config, world)[1])


# Cached, so that equal settings share a compiled program.
@functools.cache
def _program(config: PretrainConfig, model: ModelConfig, batches: Shared[Batch], tokens: int) -> Program:
    def sample_batch(key: jax.Array, step: jax.Array, world: Constants) -> Batch:
        return batches(world, key, step)

    def per_example(params: Params, reference: Params, batch: Batch, progress: jax.Array, world: Constants) -> Terms:
        return loss(config, model, params, batch, progress)

    return Program(config.optimizer, sample_batch, per_example, config.batch_size, tokens)
