"""Tests of `models/training/loop.py`: seeds, chunks and the optimizer against optax's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.training import pretraining
from models.training.loop import OptimizerConfig, Program, Schedule, State, Terms, across, run_chunk, seed_keys, start
from models.training.pretraining import PretrainConfig
from models.transformer import ModelConfig, Params, init
from models.weights import flatten
from synth.keys import fold
from synth.settings import SettingError
from synth.world import World

STEPS = 12
SCHEDULE = Schedule(STEPS, 3e-3, None)


pytestmark = pytest.mark.usefixtures("with_optax")


@pytest.fixture(scope="module")
def model(model: ModelConfig) -> ModelConfig:
    return dataclasses.replace(model, layers=1)


@pytest.fixture(scope="module")
def program(world: World, model: ModelConfig) -> Program:
    return pretraining.program(PretrainConfig(batch_size=8), model, world.config)


def fresh(program: Program, world: World, model: ModelConfig, keys: jax.Array) -> State:
    return start(program, jax.vmap(lambda k: init(model, world.vocab.size, fold(k, "init")))(keys))


def trained(program: Program, world: World, model: ModelConfig, keys: jax.Array, chunks: list[int]) -> Params:
    state = fresh(program, world, model, keys)
    for length in chunks:
        schedule, reference = across([SCHEDULE], len(keys)), jax.tree.map(jnp.array, state.params)
        state, _ = run_chunk(program, schedule, length, state, reference, keys)
    assert int(state.step) == sum(chunks)
    return state.params


def test_chunks_of_any_length_give_the_same_bits(
    program: Program, world: World, model: ModelConfig, key: jax.Array
) -> None:
    keys = seed_keys(key, 3)
    whole, parts = (trained(program, world, model, keys, chunks) for chunks in ([6, 6], [3, 3, 3, 3]))
    for name, array in flatten(whole).items():
        assert (array == flatten(parts)[name]).all(), name


def test_a_seed_alone_is_the_same_seed_up_to_rounding(
    program: Program, world: World, model: ModelConfig, key: jax.Array
) -> None:
    stack = trained(program, world, model, seed_keys(key, 3), [6, 6])
    alone = trained(program, world, model, seed_keys(key, 3)[1:2], [6, 6])
    for name, array in flatten(stack).items():
        # Batched and single matrix products round differently (6e-8 relative); Adam's division
        # by a small second moment can enlarge that to a share of the 12 x 3e-3 a weight can move.
        np.testing.assert_allclose(array[1], flatten(alone)[name][0], rtol=0, atol=1e-4, err_msg=name)


def test_seeds_differ_and_do_not_depend_on_their_number(key: jax.Array) -> None:
    few, many = seed_keys(key, 2), seed_keys(key, 5)
    assert (few == many[:2]).all()
    assert len({tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in many}) == 5


def quadratic(optimizer: OptimizerConfig) -> Program:
    """Minimises the squared distance of a matrix and a vector to 1; no data."""

    def loss(params: Params, reference: Params, batch: None, progress: jax.Array, hyper: None) -> Terms:
        loss = jnp.sum(jnp.square(params["w"] - 1)) + jnp.sum(jnp.square(params["b"] - 1))
        return Terms(loss[None], {})

    return Program(optimizer, lambda key, step, hyper: None, loss)


def test_updates_equal_optax_adamw_with_decay_on_matrices_only(key: jax.Array) -> None:
    optimizer = OptimizerConfig(warmup=0.25, final=0.1, weight_decay=0.1, clip=1.0)
    params = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.arange(3.0)}
    stacked = jax.tree.map(lambda a: a[None], params)
    program, keys = quadratic(optimizer), seed_keys(key, 1)
    state, log = run_chunk(program, across([SCHEDULE], 1), STEPS, start(program, stacked), stacked, keys)

    def rate(step: int) -> float:
        done = step / (STEPS - 1)
        if done < 0.25:
            return float(3e-3 * done / 0.25)
        return float(3e-3 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * (done - 0.25) / 0.75))))

    expected, memory = params, None
    for step in range(STEPS):
        adamw = optax.adamw(rate(step), b1=0.9, b2=0.95, weight_decay=0.1, mask={"w": True, "b": False})
        transform = optax.chain(optax.clip_by_global_norm(1.0), adamw)
        memory = transform.init(expected) if memory is None else memory
        gradient = jax.tree.map(lambda a: 2 * (a - 1), expected)
        np.testing.assert_allclose(log["gradient_norm"][step, 0], optax.tree.norm(gradient), rtol=1e-5)
        updates, memory = transform.update(gradient, memory, expected)
        expected = optax.apply_updates(expected, updates)
    for name, array in expected.items():
        np.testing.assert_allclose(state.params[name][0], array, rtol=1e-6, atol=1e-7)


def test_training_lowers_the_loss(program: Program, world: World, model: ModelConfig, key: jax.Array) -> None:
    keys, losses = seed_keys(key, 3), []
    schedule = across([Schedule(300, 1e-2, None)], 3)
    state = fresh(program, world, model, keys)
    reference = jax.tree.map(jnp.array, state.params)
    for _ in range(6):
        state, log = run_chunk(program, schedule, 50, state, reference, keys)
        losses.append(log["loss"].mean(0))
    assert (losses[-1] < 0.9 * losses[0]).all()


@pytest.mark.parametrize("setting", [{"warmup": 2.0}, {"clip": 0.0}, {"weight_decay": -1.0}, {"b1": 1.5}])
def test_settings_out_of_range_are_an_error(setting: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(setting))}="):
        OptimizerConfig(**setting)
