"""Tests of `models/training/loop.py`: runs, chunks and the optimizer, by hand, by NumPy and by optax's own."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.training import tuning
from models.training.loop import Program, Schedule, State, across, run_chunk, seed_keys, start
from models.training.methods import METHODS
from models.training.methods.dpo import DPO
from models.training.optimizer import OptimizerConfig
from models.training.pretraining import PretrainConfig
from models.training.tuning import TuningConfig
from models.transformer import ModelConfig, Params, init
from models.weights import flatten
from synth.settings import SettingError
from synth.tuning_data import TuningDataConfig
from synth.world import World
from tests.models.training.programs import PULL, inputs, regression, zeros

STEPS = 12
SEEDS = 2
RATE = 3e-3
PLAIN = OptimizerConfig(warmup=0.25, final=0.1, weight_decay=0.1)
Logs = dict[str, np.ndarray]


pytestmark = pytest.mark.usefixtures("with_optax")


def trained(program: Program, schedule: Schedule, params: Params, keys: jax.Array, chunks: list[int]) -> State:
    return logged(program, schedule, params, keys, chunks)[0]


def logged(
    program: Program, schedule: Schedule, params: Params, keys: jax.Array, chunks: list[int]
) -> tuple[State, Logs]:
    """The state after `chunks`, and the log of all their steps."""
    state, logs = start(program, params), []
    for length in chunks:
        state, log = run_chunk(program, schedule, length, state, params, keys)
        logs.append({name: np.asarray(rows[:length]) for name, rows in log.items()})
    assert int(state.step) == sum(chunks)
    return state, {name: np.concatenate([log[name] for log in logs]) for name in logs[0]}


# Runs of a transformer that differ in all that may differ.


@pytest.fixture(scope="module")
def model(model: ModelConfig) -> ModelConfig:
    return dataclasses.replace(model, layers=1)


@pytest.fixture(scope="module")
def program(world: World, model: ModelConfig) -> Program:
    return tuning.program(TuningConfig(batch_size=8), METHODS["dpo"], model, world.config)


@pytest.fixture(scope="module")
def schedules(world: World) -> list[Schedule]:
    settings = [(3e-3, TuningDataConfig(0, 0.25), DPO(0.3, 0.2)), (1e-3, TuningDataConfig(20, 0.5, 0.1), DPO(0.1, 0.1))]
    return [
        tuning.schedule(TuningConfig(STEPS, 8, rate, data), METHODS["dpo"], hyper, world.config)
        for rate, data, hyper in settings
    ]


@pytest.fixture(scope="module")
def params(world: World, model: ModelConfig, key: jax.Array) -> Params:
    """Of both schedules, for both seeds."""
    return jax.tree.map(
        lambda w: jnp.concatenate([w, w]),
        jax.vmap(lambda k: init(model, world.vocab.size, k))(seed_keys(key, SEEDS)),
    )


@pytest.fixture(scope="module")
def keys(key: jax.Array) -> jax.Array:
    return jnp.tile(seed_keys(key, SEEDS), 2)


@pytest.fixture(scope="module")
def together(
    with_optax: None, program: Program, schedules: list[Schedule], params: Params, keys: jax.Array
) -> tuple[State, Logs]:
    return logged(program, across(schedules, SEEDS), params, keys, [6, 6])


def test_chunks_of_any_length_give_the_same_bits(
    program: Program, schedules: list[Schedule], params: Params, keys: jax.Array, together: tuple[State, Logs]
) -> None:
    parts, log = logged(program, across(schedules, SEEDS), params, keys, [1, 5, 3, 2, 1])
    for name, array in flatten(together[0].params).items():
        assert (array == flatten(parts.params)[name]).all(), name
    for name, rows in together[1].items():
        assert (rows == log[name]).all(), name


def test_a_run_alone_is_the_same_run_up_to_rounding(
    program: Program, schedules: list[Schedule], params: Params, keys: jax.Array, together: tuple[State, Logs]
) -> None:
    """Learning rate, coefficients, share of unsafe prompts, finite set, noise and seed: each run has its own."""
    state, log = together
    for run in range(len(keys)):
        own, schedule = jax.tree.map(lambda w, run=run: w[run : run + 1], params), schedules[run // SEEDS]
        alone, its_log = logged(program, across([schedule], 1), own, keys[run : run + 1], [6, 6])
        for name, array in flatten(state.params).items():
            # Batched and single matrix products round differently (6e-8 relative), which Adam enlarges where
            # it divides by a small second moment: b_K, which no attention depends on, moves by rounding alone.
            np.testing.assert_allclose(array[run], flatten(alone.params)[name][0], rtol=0, atol=1e-5, err_msg=name)
        for name, rows in its_log.items():
            np.testing.assert_allclose(log[name][:, run], rows[:, 0], rtol=1e-5, atol=1e-6, err_msg=name)
    # The runs do differ: in the batches of a step, and in how far they went.
    assert len(np.unique(log["logp_preferred"][0])) == len(np.unique(log["distance"][-1])) == len(keys)


def test_training_lowers_the_loss(program: Program, schedules: list[Schedule], params: Params, keys: jax.Array) -> None:
    longer = [schedule._replace(steps=100, learning_rate=1e-2) for schedule in schedules]
    _, log = logged(program, across(longer, SEEDS), params, keys, [50, 50])
    assert (log["loss"][-20:].mean(axis=0) < 0.9 * log["loss"][:20].mean(axis=0)).all()


# What surrounds a model, tried without one.


def test_seeds_differ_and_do_not_depend_on_their_number(key: jax.Array) -> None:
    few, many = seed_keys(key, 2), seed_keys(key, 5)
    assert (few == many[:2]).all()
    assert len({tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in many}) == 5


def test_run_i_has_schedule_i_by_seeds_and_seeds_lie_within() -> None:
    runs = across([Schedule(7, 0.1, {"a": 1, "b": 2.5}), Schedule(7, 0.2, {"a": 3, "b": 4.5})], 3)
    assert int(runs.steps) == 7
    np.testing.assert_allclose(runs.learning_rate, [0.1, 0.1, 0.1, 0.2, 0.2, 0.2])
    assert np.asarray(runs.hyper["a"]).tolist() == [1, 1, 1, 3, 3, 3]
    assert np.asarray(runs.hyper["b"]).tolist() == [2.5, 2.5, 2.5, 4.5, 4.5, 4.5]


def test_runs_of_one_program_have_one_number_of_steps() -> None:
    with pytest.raises(ValueError, match=r"runs of one program have one number of steps, not \[7, 9\]"):
        across([Schedule(7, 0.1, None), Schedule(9, 0.1, None)], 2)


def test_updates_equal_optax_adamw_with_decay_on_matrices_only_and_the_log_says_so(key: jax.Array) -> None:
    """Two learning rates and two goals side by side, each against optax on gradients by hand."""
    rates, goals, keys = (RATE, 10 * RATE), (1.0, -2.0), seed_keys(key, 2)
    schedule = across([Schedule(STEPS, rate, goal) for rate, goal in zip(rates, goals, strict=True)], 1)
    begun = jax.tree.map(lambda a: a + jnp.arange(1.0, 1.0 + a[0].size).reshape(1, *a.shape[1:]) / 5, zeros(2))
    state, log = logged(regression(PLAIN), schedule, begun, keys, [STEPS])

    def rate(step: int) -> float:
        done = step / (STEPS - 1)
        return done / 0.25 if done < 0.25 else 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * (done - 0.25) / 0.75))

    for run in range(2):
        reference: dict[str, Any] = {name: np.asarray(array[run], np.float64) for name, array in begun.items()}
        weights, memory = reference, None
        for step in range(STEPS):
            adamw = optax.adamw(
                rates[run] * rate(step), b1=0.9, b2=0.95, weight_decay=0.1, mask={"w": True, "b": False}
            )
            transform = optax.chain(optax.clip_by_global_norm(1.0), adamw)
            memory = transform.init(single(weights)) if memory is None else memory
            x = np.asarray(inputs(keys[run], step, 0.0), np.float64)
            missed = x @ weights["w"] + weights["b"] - goals[run] * x
            drift = weights["w"] - reference["w"]
            gradient = {"w": 2 * x.T @ missed / len(x) + 2 * PULL * drift, "b": 2 * missed.mean(axis=0)}
            fit, pull = np.mean(np.sum(missed**2, axis=1)), PULL * np.sum(drift**2)
            updates, memory = transform.update(single(gradient), memory, single(weights))
            after = {name: weights[name] + np.asarray(updates[name], np.float64) for name in weights}
            expected = {
                "fit": fit,
                "pull": pull,
                "loss": fit + pull,
                "gradient_norm": norm(gradient),
                "update_norm": norm({name: after[name] - weights[name] for name in weights}),
                "distance": norm({name: after[name] - reference[name] for name in weights}),
            }
            assert expected.keys() == log.keys()
            for name, value in expected.items():
                np.testing.assert_allclose(log[name][step, run], value, rtol=2e-5, atol=1e-7, err_msg=name)
            weights = after
        for name, array in weights.items():
            np.testing.assert_allclose(state.params[name][run], array, rtol=1e-5, atol=1e-6)


def single(tree: dict[str, np.ndarray]) -> Params:
    return {name: jnp.float32(array) for name, array in tree.items()}


def norm(tree: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(array)) for array in tree.values())))


@pytest.mark.parametrize("warmup", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
def test_learning_rates_equal_optax_schedules(name: str, warmup: float) -> None:
    last, final = 40, 0.1
    rise = round(warmup * last)
    falls = {
        "cosine": optax.cosine_decay_schedule(1.0, max(last - rise, 1), alpha=final),
        "linear": optax.linear_schedule(1.0, final, max(last - rise, 1)),
        "constant": optax.constant_schedule(1.0),
    }
    expected = optax.join_schedules([optax.linear_schedule(0.0, 1.0, rise), falls[name]], [rise])
    optimizer = OptimizerConfig(schedule=name, warmup=warmup, final=final)
    for step in range(last + 1):
        # float32 progress is off by 6e-8, and a warm-up that ends between two steps begins to fall there.
        got = optimizer.rate(jnp.float32(step) / last)
        np.testing.assert_allclose(got, expected(step), rtol=1e-5, atol=1e-6, err_msg=str(step))


def test_a_batch_in_parts_gives_the_same_step_up_to_rounding(key: jax.Array) -> None:
    schedule, keys = across([Schedule(STEPS, RATE, 1.0)], 2), seed_keys(key, 2)
    whole, log = logged(regression(PLAIN), schedule, zeros(2), keys, [STEPS])
    for parts in (2, 8):
        program = regression(dataclasses.replace(PLAIN, accumulate=parts))
        state, its_log = logged(program, schedule, zeros(2), keys, [STEPS])
        for name, rows in log.items():
            # Means of means are sums in another order: some float32 roundings (6e-8 each) of 8 terms.
            np.testing.assert_allclose(its_log[name], rows, rtol=2e-6, atol=1e-7, err_msg=name)
        for name, array in whole.params.items():
            np.testing.assert_allclose(state.params[name], array, rtol=2e-6, atol=1e-7, err_msg=name)


def test_a_batch_that_cannot_be_cut_into_equal_parts_is_an_error() -> None:
    for kind in (PretrainConfig, TuningConfig):
        with pytest.raises(SettingError, match=r"optimizer.accumulate=4: must divide batch_size=6; set it to 2"):
            kind(batch_size=6, optimizer=OptimizerConfig(accumulate=4))


def test_the_running_mean_of_the_weights_equals_a_loop(key: jax.Array) -> None:
    program = regression(dataclasses.replace(PLAIN, ema=0.7))
    schedule, keys = across([Schedule(STEPS, RATE, 1.0)], 1), seed_keys(key, 1)
    state, mean = start(program, zeros(1)), {name: np.zeros(a.shape) for name, a in zeros(1).items()}
    for _ in range(STEPS):
        state, _ = run_chunk(program, schedule, 1, state, zeros(1), keys)
        mean = {name: 0.7 * a + 0.3 * np.asarray(state.params[name], np.float64) for name, a in mean.items()}
    for name, array in mean.items():
        np.testing.assert_allclose(state.result[name], array, rtol=1e-5, atol=1e-8)
    plain = trained(regression(PLAIN), schedule, zeros(1), keys, [STEPS])
    for name, array in plain.result.items():
        np.testing.assert_allclose(array, state.params[name], rtol=1e-6)
        assert (array == plain.params[name]).all()


def test_bfloat16_stays_near_float32_and_keeps_float32_weights(key: jax.Array) -> None:
    schedule, keys = across([Schedule(STEPS, RATE, 1.0)], 2), seed_keys(key, 2)
    exact, its_log = logged(regression(PLAIN), schedule, zeros(2), keys, [STEPS])
    program = regression(dataclasses.replace(PLAIN, precision="bfloat16"))
    state, log = logged(program, schedule, zeros(2), keys, [STEPS])
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.optimizer))} == {
        np.dtype("float32"),
        np.dtype("int32"),
    }
    assert {rows.dtype for rows in log.values()} == {np.dtype("float32")}
    assert (log["loss"] != its_log["loss"]).any()
    # bfloat16 keeps 8 bits: a relative error of 2^-9 in each of a few factors.
    for name in ("loss", "fit", "gradient_norm"):
        np.testing.assert_allclose(log[name], its_log[name], rtol=0.03, err_msg=name)
    moved = sum(np.abs(array).max() for array in exact.params.values())
    for name, array in exact.params.items():
        np.testing.assert_allclose(state.params[name], array, atol=0.03 * moved, err_msg=name)


def test_where_training_starts_from_is_not_used_up(key: jax.Array) -> None:
    """The state is donated to the program, the caller's weights and the reference are not."""
    begun, keys = zeros(1), seed_keys(key, 1)
    trained(regression(PLAIN), across([Schedule(STEPS, RATE, 1.0)], 1), begun, keys, [1, 1])
    assert (np.asarray(begun["w"]) == 0).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"warmup": 2.0},
        {"final": -0.1},
        {"clip": 0.0},
        {"weight_decay": -1.0},
        {"b1": 1.5},
        {"ema": 1.0},
        {"accumulate": 0},
        {"schedule": "step"},
        {"precision": "float16"},
    ],
    ids=str,
)
def test_settings_out_of_range_are_an_error(setting: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(setting))}="):
        OptimizerConfig(**setting)
