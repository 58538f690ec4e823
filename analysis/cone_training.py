"""Directions and cones of directions that mediate refusal, found by gradient (Wollschläger et al. 2025,
arXiv 2502.17420).

A cone is spanned by the rows of an orthonormal basis B [k, D]: its directions are r = s B with s of length 1 and no
coordinate below 0. A cone of one dimension is one direction, the paper's RDO. The loss of a direction r is, over
prompts of two sides,

    ablate CE(model without r, first side, wrong answer) + add CE(model with alpha r, second side, wrong answer)
        + retain KL(model without r || model as it is, second side, right answer)
        + independence (what ablating r changes of the stream's cosine with the difference of means, and the reverse)

alpha being the length of the difference of means, which is added at its layer, CE and KL means over the tokens of the
answer, and the last term, of squares at EOT, a mean over layers and both sides. The first side are unsafe prompts and
the second safe ones, whose wrong answers are compliance and refusal: the world's, where the paper has texts that the
model gave under the difference of means.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from analysis.edit import Fed
from analysis.observe import at_once, in_pieces
from analysis.refusal import stream, written
from models.likelihood import counted, next_logits, scored
from models.transformer import ModelConfig, Params, forward
from synth.segments import Batch


class Answers(NamedTuple):
    """N prompts with both answers, and what the model as it is makes of them. L layers."""

    wrong: Batch
    """[N, T] compliance where a prompt is unsafe, refusal where it is safe"""
    right: Batch
    """[N, T]"""
    before: Any
    """[N, T - 1, V] log-probabilities, the right answer being read"""
    held: Any
    """[N, 2, L, D] the stream that layers read at EOT, of the model and of the model without the difference of means"""


class Rows(NamedTuple):
    """Which prompts a loss is of, B for each of its terms, and by which directions of a cone."""

    first: Any
    """[..., B] of the first side"""
    second: Any
    """[..., B] of the second side"""
    along: Any
    """[..., B, K] coordinates s; behind the first k they are 0"""


class Target(NamedTuple):
    """What is looked for."""

    means: jax.Array
    """[D] the difference of means"""
    layer: jax.Array | int
    """That reads the stream there"""
    weights: jax.Array
    """[4] of ablation, addition, retention and independence"""


@partial(jax.jit, static_argnames="model")
def answered_before(model: ModelConfig, params: Params, right: Batch) -> jax.Array:
    """`Answers.before`."""

    def of_piece(batch: Batch) -> jax.Array:
        return jax.nn.log_softmax(next_logits(model, params, batch.tokens[:, :-1]))

    found: jax.Array = in_pieces(of_piece, right, at_once(right.tokens.shape[1]))
    return found


def answers(
    model: ModelConfig, params: Params, complying: Batch, refusing: Batch, unsafe: np.ndarray, direction: np.ndarray
) -> Answers:
    """Of prompts [N, T], of which `unsafe` [N] says which should be refused; `direction` [D] is a unit vector."""

    def chosen(first: Batch, second: Batch) -> Batch:
        def pick(x: jax.Array, y: jax.Array) -> jax.Array:
            return jnp.where(jnp.asarray(unsafe).reshape(-1, *[1] * (x.ndim - 1)), x, y)

        return jax.tree.map(pick, first, second)

    wrong, right = chosen(complying, refusing), chosen(refusing, complying)
    fed = Fed(right.tokens[:, :-1], right.go)
    bases = (np.zeros_like(direction), direction)
    held = [stream(model, params, fed, jnp.asarray(one[None], jnp.float32), (0,))[:, :, 0] for one in bases]
    return Answers(wrong, right, answered_before(model, params, right), jnp.stack(held, axis=1))


def coordinates(rng: np.random.Generator, shape: tuple[int, ...], k: int, most: int) -> np.ndarray:
    """[*shape, most] s = |N(0, I_k)| / length, zero behind the first `k` coordinates."""
    normal = np.abs(rng.standard_normal((*shape, k)))
    unit = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.concatenate([unit, np.zeros((*shape, most - k))], axis=-1).astype(np.float32)


def rows(
    rng: np.random.Generator, sides: tuple[np.ndarray, np.ndarray], draws: int, batch: int, k: int, most: int
) -> Rows:
    """[draws, batch] prompts of the two `sides` [N] bool, each side dealt through before it comes again.

    Every second one has a direction sampled from the cone, the others the rows of the basis in turn: their mean is half
    the paper's sum of both means.
    """

    def dealt(side: np.ndarray) -> np.ndarray:
        among = np.flatnonzero(side)
        whole = [rng.permutation(among) for _ in range(-(-draws * batch // len(among)))]
        return np.concatenate(whole)[: draws * batch].reshape(draws, batch)

    along = coordinates(rng, (draws, batch), k, most)
    turns = np.arange(along[:, ::2].shape[0] * along[:, ::2].shape[1]).reshape(along[:, ::2].shape[:2])
    along[:, ::2] = np.eye(most, dtype=np.float32)[turns % k]
    return Rows(dealt(sides[0]), dealt(sides[1]), along)


def loss(model: ModelConfig, params: Params, of: Answers, target: Target, basis: jax.Array, which: Rows) -> jax.Array:
    """The loss of directions `which` of the cone of `basis` [K, D], a mean over B prompts."""
    first, second = which.first, which.second
    batch: Batch = jax.tree.map(
        lambda wrong, right: jnp.concatenate([wrong[first], wrong[second], right[second]]), of.wrong, of.right
    )
    unit = which.along @ basis
    nothing, size = jnp.zeros_like(unit), jnp.linalg.norm(target.means)
    away = jnp.concatenate([unit, nothing, unit])[:, None]
    shift = jnp.concatenate([nothing, size * unit, nothing])[:, None]
    sites, row = written(model), jnp.arange(len(batch.go))
    seen: list[jax.Array] = []

    def tap(site: str, x: jax.Array) -> jax.Array:
        if site.endswith("resid_pre"):
            seen.append(x[row, batch.go])
            at = int(site.split(".")[1]) == target.layer
            return x + jnp.where(at, shift, 0)
        return x - jnp.sum(x * away, axis=-1, keepdims=True) * away if site in sites else x

    logits = forward(model, params, batch.tokens[:, :-1], tap).astype(jnp.float32)
    ablated, added, _ = jnp.split(scored(logits, batch).cross_entropy, 3)
    # KL(without r || as it is), over the tokens of the answer.
    after, said = jax.nn.log_softmax(jnp.split(logits, 3)[2]), jnp.split(counted(batch), 3)[2]
    moved = jnp.sum(jnp.exp(after) * (after - of.before[second]), axis=-1)
    retained = jnp.mean(moved, axis=-1, where=said)
    # What ablating r changes of the cosine with the difference of means, and the reverse.
    streams, both = jnp.stack(seen, axis=1), jnp.concatenate([first, second])
    without_r = jnp.concatenate([streams[: len(first)], streams[-len(second) :]])
    held, means = of.held[both], target.means / size
    r = jnp.concatenate([unit, unit])[:, None]
    of_means = _cosine(held[:, 0], means) - _cosine(without_r, means)
    of_r = _cosine(held[:, 0], r) - _cosine(held[:, 1], r)
    independent = jnp.mean(jnp.square(of_means) + jnp.square(of_r))
    parts = jnp.stack([jnp.mean(ablated), jnp.mean(added), jnp.mean(retained), independent])
    return jnp.sum(target.weights * parts)


def _cosine(x: jax.Array, unit: jax.Array) -> jax.Array:
    """[...] of x [..., D] with unit vectors [..., D]."""
    along = jnp.sum(x * jnp.broadcast_to(unit, x.shape), axis=-1)
    return along / jnp.sqrt(jnp.sum(jnp.square(x), axis=-1) + 1e-12)


def orthonormal(basis: jax.Array) -> jax.Array:
    """The rows of `basis` [K, D] by Gram and Schmidt: each of length 1 and at right angles to those before it."""
    found: list[jax.Array] = []
    for row in basis:
        for other in found:
            row = row - (row @ other) * other
        found.append(row / jnp.linalg.norm(row))
    return jnp.stack(found)


def tangent(gradient: jax.Array, basis: jax.Array, active: jax.Array) -> jax.Array:
    """What of `gradient` [K, D] keeps the rows of `basis` that are `active` [K] orthonormal to first order.

    It turns rows in their span, too: by Gram and Schmidt alone a row would never make room for one behind it.
    """
    along = jnp.where(active[None] & active[:, None], gradient @ basis.T, 0.0)
    return gradient - (along + along.T) / 2 @ basis


class Course(NamedTuple):
    """What an optimisation came to."""

    basis: jax.Array
    """[K, D] that of the least loss on validation prompts"""
    losses: jax.Array
    """[checks + 1] on validation prompts, the first before any step"""


@partial(jax.jit, static_argnames=("model", "rate"))
def optimised(
    model: ModelConfig,
    params: Params,
    training: Answers,
    validation: Answers,
    targets: Target,
    begin: jax.Array,
    steps: Rows,
    checked: Rows,
    rate: float,
) -> Course:
    """A cone for each of A targets, whose arrays have that leading axis: `begin` [A, K, D], `steps` [A, checks, steps
    between them, B], `checked` [A, 1, B].

    AdamW with steps in the tangent space of orthonormal rows, and back to such rows after each.
    """
    optimiser = optax.adamw(rate)

    def of_one(target: Target, begin: jax.Array, steps: Rows, checked: Rows) -> Course:
        on_validation: Rows = jax.tree.map(lambda x: x[0], checked)

        def step(state: tuple[jax.Array, Any], which: Rows) -> tuple[tuple[jax.Array, Any], None]:
            basis, moments = state
            gradient = jax.grad(partial(loss, model, params, training, target))(basis, which)
            gradient = tangent(gradient, basis, jnp.any(which.along != 0, axis=0))
            # Optax raises Adam's decay to an integer power, which is no strict promotion.
            with jax.numpy_dtype_promotion("standard"):
                change, moments = optimiser.update(gradient, moments, basis)
            return (orthonormal(basis + change), moments), None

        def check(state: tuple[Any, Course], which: Rows) -> tuple[tuple[Any, Course], jax.Array]:
            (basis, moments), best = state
            (basis, moments), _ = jax.lax.scan(step, (basis, moments), which)
            now = loss(model, params, validation, target, basis, on_validation)
            better = now < best.losses
            kept = Course(jnp.where(better, basis, best.basis), jnp.where(better, now, best.losses))
            return ((basis, moments), kept), now

        at_first = loss(model, params, validation, target, begin, on_validation)
        state = (begin, optimiser.init(begin)), Course(begin, at_first)
        (_, best), losses = jax.lax.scan(check, state, steps)
        return Course(best.basis, jnp.concatenate([at_first[None], losses]))

    found: Course = jax.lax.map(lambda one: of_one(*one), (targets, begin, steps, checked))
    return found
