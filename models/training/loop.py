"""The training loop: steps in chunks inside one compiled program, runs as a leading axis.

A run is one model: a seed with its settings. All runs of a program are trained together, side
by side on a GPU or on many devices, on one CPU one after the other within a chunk. They may
differ in everything that is traced: seed, weights, learning rate, coefficients, what they are
trained on. Step t of a run uses the run's key, t and nothing else that is random, so a run that
stops and goes on from a saved state gives the same bits as one that does not stop.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from models.training.devices import RUNS, spread_examples
from models.training.optimizer import OptimizerConfig, Packed, pack, unpack
from models.transformer import Params
from synth.keys import fold

CHUNK = 50
"""Most steps of one call of the compiled program; changes no result."""


class Terms(NamedTuple):
    """What a loss says of B examples."""

    loss: jax.Array
    """[B]"""
    parts: dict[str, jax.Array]
    """[B] each, for the log: what the loss is made of, and log p(y|x) of the responses it looks at"""


Loss = Callable[[Params, Params, Any, jax.Array, Any], Terms]
"""(params, reference, batch, progress, hyper) -> Terms"""


class Program(NamedTuple):
    """What is trained: static, and compiled once however many times it runs."""

    optimizer: OptimizerConfig
    batch: Callable[[jax.Array, jax.Array, Any], Any]
    """(the run's key, step, hyper) -> batch, arrays with a leading axis of examples"""
    loss: Loss
    examples: int = 1
    """In a batch"""
    tokens: int = 1
    """Of an example"""


class Schedule(NamedTuple):
    """Traced settings: programs that differ in these alone are compiled once, and train side by side.

    In `run_chunk` every array but `steps` has a leading axis of runs.
    """

    steps: jax.Array | int
    learning_rate: jax.Array | float
    hyper: Any
    """Passed on to the program's batch and loss"""


class State(NamedTuple):
    """What runs go on from; every array but `step` has a leading axis of runs."""

    params: Params
    average: Params | None
    """Running mean of the weights, where the optimizer keeps one"""
    optimizer: Any
    step: jax.Array

    @property
    def result(self) -> Params:
        """The weights that training is for."""
        return self.params if self.average is None else self.average


def start(program: Program, params: Params) -> State:
    """The state before the first step, from a copy of `params`, which have a leading axis of runs."""
    own = partial(jax.tree.map, jnp.array)
    average = own(params) if program.optimizer.ema else None
    return State(
        own(params), average, jax.vmap(program.optimizer.transform().init)(jax.vmap(pack)(params)), jnp.int32(0)
    )


def seed_keys(key: jax.Array, seeds: int, first: int = 0) -> jax.Array:
    """The keys [seeds] of seeds number `first`, `first` + 1, ...; a seed's does not depend on the others."""
    return jax.vmap(lambda seed: fold(key, "seed", seed))(first + jnp.arange(seeds))


def across(schedules: Sequence[Schedule], seeds: int) -> Schedule:
    """Every one of `schedules`, which agree in `steps`, for every seed.

    Run i has schedule i // seeds and seed i % seeds. Raises ValueError if the steps differ.
    """
    steps = {int(schedule.steps) for schedule in schedules}
    if len(steps) > 1:
        raise ValueError(f"runs of one program have one number of steps, not {sorted(steps)}")
    arrays = [jax.tree.map(jnp.asarray, schedule) for schedule in schedules]
    return _repeated(arrays, seeds)._replace(steps=jnp.int32(steps.pop()))


# One program, not several small ones for the shape of each array.
@partial(jax.jit, static_argnames="seeds")
def _repeated(schedules: Sequence[Schedule], seeds: int) -> Schedule:
    runs: Schedule = jax.tree.map(lambda *leaves: jnp.repeat(jnp.stack(leaves), seeds, axis=0), *schedules)
    return runs


Logged = dict[str, jax.Array]


def mean_loss(
    program: Program, schedule: Schedule, progress: jax.Array, params: Params, reference: Params, batch: Any
) -> tuple[jax.Array, Logged]:
    if program.optimizer.precision == "bfloat16":
        params, reference = jax.tree.map(lambda w: w.astype(jnp.bfloat16), (params, reference))
    terms = program.loss(params, reference, batch, progress, schedule.hyper)
    return jnp.mean(terms.loss), {name: jnp.mean(part) for name, part in terms.parts.items()}


def _gradient(
    program: Program, schedule: Schedule, progress: jax.Array, params: Params, reference: Params, batch: Any
) -> tuple[tuple[jax.Array, Logged], Params]:
    """((loss, parts), gradient), a mean over the batch, in `accumulate` parts."""
    loss = partial(mean_loss, program, schedule, progress)
    gradient = jax.value_and_grad(loss, has_aux=True)
    count = program.optimizer.accumulate
    if count == 1:
        return gradient(params, reference, batch)
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
    first, rest = jax.tree.map(lambda x: x[0], parts), jax.tree.map(lambda x: x[1:], parts)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(params, reference, part)), None

    total, _ = jax.lax.scan(add, gradient(params, reference, first), rest)
    return jax.tree.map(lambda x: x / count, total)


# In a jit of its own it is traced once, for the shapes of its log and for the loop.
@partial(jax.jit, static_argnames=("program", "mesh"), inline=True)
def _step(
    program: Program,
    mesh: Mesh | None,
    schedule: Schedule,
    reference: Params,
    begun: Packed,
    key: jax.Array,
    step: jax.Array,
    weights: Packed,
    average: Packed | None,
    optimizer: Any,
) -> tuple[Packed, Packed | None, Any, Logged]:
    """One step of one run; `begun` is `reference` packed."""
    progress = step.astype(jnp.float32) / jnp.maximum(schedule.steps - 1, 1).astype(jnp.float32)
    batch = spread_examples(program.batch(key, step, schedule.hyper), mesh)
    params = unpack(weights, reference)
    (loss, parts), slopes = _gradient(program, schedule, progress, params, reference, batch)
    gradient = pack(slopes)
    direction, optimizer = program.optimizer.transform().update(gradient, optimizer, weights)
    rate = schedule.learning_rate * program.optimizer.rate(progress)
    weights = jax.tree.map(lambda w, d: w - rate * d, weights, direction)
    decay = program.optimizer.ema
    if average is not None:
        average = jax.tree.map(lambda a, w: decay * a + (1 - decay) * w, average, weights)
    log = {
        "loss": loss,
        **parts,
        "gradient_norm": optax.tree.norm(gradient),
        "update_norm": rate * optax.tree.norm(direction),
        "distance": optax.tree.norm(jax.tree.map(jnp.subtract, weights, begun)),
    }
    return weights, average, optimizer, log


@partial(jax.jit, static_argnames=("program", "mesh"), donate_argnames="state")
def run_chunk(
    program: Program,
    schedule: Schedule,
    length: jax.Array | int,
    state: State,
    reference: Params,
    keys: jax.Array,
    mesh: Mesh | None = None,
) -> tuple[State, Logged]:
    """`length` steps, at most CHUNK, from `state`, which is used up.

    `reference` are the weights that tuning starts from (or that pretraining started from),
    with a leading axis of runs; `keys` [runs] are the runs' keys; `mesh` is where all of this
    lies (`devices.spread`).

    Returns the new state and the log, of which the first `length` rows are filled: [CHUNK, runs]
    each of loss, its parts, and the norms of the gradient, of the update and of params - reference.
    """
    first = state.step

    def chunk(
        learning_rate: jax.Array,
        hyper: Any,
        params: Params,
        average: Params | None,
        optimizer: Any,
        reference: Params,
        key: jax.Array,
    ) -> tuple[Params, Params | None, Any, Logged]:
        """The steps of one run."""
        own = Schedule(schedule.steps, learning_rate, hyper)
        begun = pack(reference)
        begin = pack(params), None if average is None else pack(average), optimizer

        def step(i: jax.Array, *trained: Any) -> Any:
            return _step(program, mesh, own, reference, begun, key, i, *trained)

        shapes = jax.eval_shape(step, first, *begin)[-1]
        log = jax.tree.map(lambda row: jnp.zeros((CHUNK, *row.shape), row.dtype), shapes)

        def body(i: jax.Array, carried: Any) -> Any:
            *trained, log = carried
            *trained, row = step(first + i, *trained)
            return *trained, jax.tree.map(lambda rows, row: rows.at[i].set(row), log, row)

        weights, mean, optimizer, log = jax.lax.fori_loop(0, length, body, (*begin, log))
        return unpack(weights, params), None if mean is None else unpack(mean, params), optimizer, log

    runs: Any = (schedule.learning_rate, schedule.hyper, state.params, state.average, state.optimizer, reference, keys)
    if mesh is None and jax.default_backend() == "cpu":
        # One run fills a CPU: side by side, its caches would have to hold all of them.
        done = jax.lax.map(lambda run: chunk(*run), runs)
    else:
        done = jax.vmap(chunk, spmd_axis_name=RUNS if mesh else None)(*runs)
    params, average, optimizer, log = done
    return State(params, average, optimizer, first + length), jax.tree.map(jnp.transpose, log)


def fit(
    program: Program, schedule: Schedule, params: Params, reference: Params, keys: jax.Array
) -> tuple[Params, dict[str, np.ndarray]]:
    """All steps from `params`, every array but `schedule.steps` with a leading axis of runs (`across`).

    Returns the weights and the log, [steps, runs] each. Nothing is shown or saved on the way:
    `experiments.stages.training.train` does that.
    """
    steps, state, logs = int(schedule.steps), start(program, params), []
    for first in range(0, steps, CHUNK):
        length = min(CHUNK, steps - first)
        state, log = run_chunk(program, schedule, length, state, reference, keys)
        logs.append({name: np.asarray(rows[:length]) for name, rows in log.items()})
    return state.result, {name: np.concatenate([log[name] for log in logs]) for name in logs[0]}
