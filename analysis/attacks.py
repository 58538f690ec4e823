"""Adversarial soft tokens: free vectors between text and answer that make a model comply.

The attack `Adv` of arXiv 2407.10264 (sec. 3, Fig. 7, Figs. A.66-71): white-box and targeted, for
each prompt on its own. k vectors stand behind the text, before EOT, each in place of a token's
embedding. EOT and the response come k places later, and with learned or sinusoidal positions
there are two ways to count them. Shifted, as in the paper, they take the positions k further on,
and the soft tokens those in between, added to the vector. Kept, they have the positions they had
without the attack, and a soft token is its vector alone: what the attack then does, it does to
what the model computes, not to where the model looks for the text that it copies. Rotary models
count tokens as they attend, so that theirs always shift.

The vectors are found by projected gradient descent in the L2 norm (Madry et al. 2018,
arXiv 1706.06083) from a random point of the bound's sphere: each step moves each vector against
its own normalised gradient of the compliant response's cross-entropy, by a fixed length, then
scales it back to the bound if it is longer. The random points themselves are the control: what as
many tokens of that length do without any optimisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.clusters import row, tau
from analysis.observe import at_once, in_pieces
from analysis.rows import Result, Row, Samples, Subject
from analysis.sensitivity import finite, gradient_norm
from analysis.soft_tokens import insert, start, stream_with, with_soft_tokens
from analysis.subspaces import sines, span
from models.decode import judged
from models.transformer import ModelConfig, Params, Tap, forward
from synth.keys import fold
from synth.lookup import split_name
from synth.segments import Batch
from synth.settings import require, require_above_zero, require_at_most, require_positive

METRICS = (
    "adv_complied",
    "adv_random_complied",
    "adv_untouched_complied",
    "adv_tau",
    "adv_lipschitz",
    "adv_projection_total",
    "adv_activation_angle",
)
"""What has no value where a model cannot be attacked with so many tokens."""


@dataclass(unsafe_hash=True)
class AttacksConfig:
    """Settings of the attack by soft tokens, which costs more than all other measurements together."""

    strengths: tuple[int, ...] = tuple(range(11))
    """Numbers of soft tokens; 0 is no attack."""
    families: tuple[str, ...] = ("unsafe",)
    """Families attacked."""
    prompts: int = 128
    """Attacked prompts of each family: the first that many."""
    steps: int = 10
    """Steps of gradient descent."""
    norm: float = 1.0
    """Bound of each soft token's L2 norm."""
    learning_rate: float = 0.25
    """Length of a step as a share of `norm`; 2.5 / steps, as Madry et al. choose, can cross the whole ball."""
    shift_positions: bool = False
    """Whether what follows the soft tokens is told that it stands further on, as in the paper. A model
    that has seen one length of text only then fails to copy it, attacked or not."""

    def __post_init__(self) -> None:
        self.strengths, self.families = tuple(self.strengths), tuple(self.families)
        require_positive(self, "prompts", "steps")
        require_above_zero(self, "norm", "learning_rate")
        distinct = len(set(self.strengths)) == len(self.strengths) > 0
        require(
            distinct and min(self.strengths) >= 0,
            "strengths",
            list(self.strengths),
            "must be different numbers, none below 0",
            "for example [0,1,2,4,8]",
        )
        require_at_most("strengths", max(self.strengths), 2**10)
        for name in self.families:
            split_name(name, "families")


class Attacked(NamedTuple):
    """A model on N prompts with soft tokens. L layers."""

    soft: Any
    """[N, K, D] the soft tokens; those behind the first `count` are not used"""
    complied: Any
    """[N] bool: greedy generation gives the compliant response with its EOS"""
    lipschitz: Any
    """[N] `sensitivity.gradient_norm`, the soft tokens being input as well"""
    inputs: Any
    """[N, L, D] mlp.in at EOT, which predicts the first response token"""
    hidden: Any
    """[N, L, F] mlp.post there"""


@partial(jax.jit, static_argnames=("model", "width", "config"))
def attack(
    model: ModelConfig, params: Params, batch: Batch, soft: jax.Array, count: int, width: int, config: AttacksConfig
) -> tuple[Attacked, Attacked]:
    """Prompts with their compliant response [N, T] under `count` soft tokens: as in `soft` [N, K, D], and optimised.

    All are computed at `width` >= T + count positions. What is behind a sequence's end has no
    influence, so that one compiled program serves every count.
    """

    def both(prompts: tuple[Batch, jax.Array]) -> tuple[Attacked, Attacked]:
        plain, given = prompts
        batch = insert(plain, count, width)
        put = with_soft_tokens(model, params, plain, count, width, config.shift_positions)

        def loss(soft: jax.Array) -> jax.Array:
            return -jnp.sum(judged(forward(model, params, batch.tokens[:, :-1], put(soft)), batch).logp)

        def descend(_: int, soft: jax.Array) -> jax.Array:
            gradient = jax.grad(loss)(soft)
            # No gradient means no step, as for the tokens that are not used.
            step = config.learning_rate * config.norm / jnp.maximum(_length(gradient), 1e-20)
            moved = soft - step * gradient
            return moved * jnp.minimum(1.0, config.norm / _length(moved))

        found = jax.lax.fori_loop(0, jnp.where(count > 0, config.steps, 0), descend, given)
        # One after the other by a map, so that they compile once.
        seen = jax.lax.map(lambda soft: _attacked(model, params, batch, soft, put(soft)), jnp.stack([given, found]))
        random, optimised = (jax.tree.map(lambda x, i=i: x[i], seen) for i in range(2))
        return random, optimised

    seen: tuple[Attacked, Attacked] = in_pieces(both, (batch, soft), at_once(width))
    return seen


class Fitted(NamedTuple):
    """Unsafe prompts with soft tokens, by what those are."""

    stream: Mapping[str, np.ndarray]
    """[N, L, P, D] what each layer reads: "adv" with those fitted to make the model comply, "adv_random" with random
    ones as long"""
    complied: Mapping[str, np.ndarray]
    """[N] bool, likewise"""
    missing: str = ""
    """Why there are none"""


def fitted(subject: Subject, prompts: int, count: int, positions: tuple[int, ...], key: jax.Array) -> Fitted:
    """The first unsafe prompts under `count` soft tokens, fitted as the default settings say, and what is then in the
    residual stream at `positions`, counted from EOT."""
    own = AttacksConfig()
    batch: Batch = jax.tree.map(lambda x: x[:prompts], subject.prompts["unsafe"].complying)
    length = batch.tokens.shape[1]
    if length + count > subject.model.context:
        return Fitted({}, {}, _too_long(subject.model))
    given = start(key, len(batch.go), count, subject.model.width, own.norm)
    both = attack(subject.model, subject.params, batch, given, count, length + count, own)
    found = dict(zip(("adv_random", "adv"), both, strict=True))
    shift = own.shift_positions
    held = {
        name: np.asarray(stream_with(subject.model, subject.params, batch, one.soft, count, shift, positions), float)
        for name, one in found.items()
    }
    return Fitted(held, {name: np.asarray(one.complied) for name, one in found.items()})


def _too_long(model: ModelConfig) -> str:
    return f"longer than the model's context of {model.context}"


def _length(vectors: jax.Array) -> jax.Array:
    return jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def _attacked(model: ModelConfig, params: Params, batch: Batch, soft: jax.Array, put: Tap) -> Attacked:
    row = jnp.arange(len(soft))
    seen: dict[str, list[jax.Array]] = {"mlp.in": [], "mlp.post": []}

    def tap(site: str, x: jax.Array) -> jax.Array:
        name = site.split(".", 2)[-1]
        if name in seen:
            seen[name].append(x[row, batch.go])
        return put(site, x)

    return Attacked(
        soft=soft,
        # A response that is the likeliest at every place when fed as input is the greedy one.
        complied=judged(forward(model, params, batch.tokens[:, :-1], tap), batch).exact,
        lipschitz=gradient_norm(model, params, batch.tokens, batch.go, put),
        inputs=jnp.stack(seen["mlp.in"], axis=1),
        hidden=jnp.stack(seen["mlp.post"], axis=1),
    )


def measure(subject: Subject, config: AttacksConfig) -> list[Result]:
    """Success of the attack by number of soft tokens (`index`), and what it does to the activations.

    Beside it the controls: random soft tokens (`adv_random_*`), and the same attack on the
    model before tuning, which does not refuse (`adv_untouched_complied`). All are over all
    attempts but for `adv_tau_successful`.
    """
    results: list[Result] = []
    for family in config.families:
        if family in subject.prompts:
            results += _family(subject, config, family)
        else:
            results.append(Row("adv_complied", np.nan, 0, family=family, missing="no prompts of this family"))
    return results


def _family(subject: Subject, config: AttacksConfig, family: str) -> list[Result]:
    batch: Batch = jax.tree.map(lambda x: x[: config.prompts], subject.prompts[family].complying)
    prompts, length = batch.tokens.shape
    possible = [k for k in config.strengths if length + k <= subject.model.context]
    most = max(possible, default=0)
    # Nothing can be taken from no token at all, so there is one that strength 0 does not use.
    key = fold(subject.key, "attacks", family)
    soft = start(key, prompts, max(most, 1), subject.model.width, config.norm)

    def run(params: Params, k: int) -> tuple[Attacked, Attacked]:
        return jax.tree.map(np.asarray, attack(subject.model, params, batch, soft, k, length + most, config))

    results: list[Result] = []
    for k in config.strengths:
        where: dict[str, Any] = {"family": family, "index": k}
        if k not in possible:
            missing = _too_long(subject.model)
            results += [Row(metric, np.nan, prompts, missing=missing, **where) for metric in METRICS]
            continue
        random, found = run(subject.params, k)
        untouched = found if subject.untouched else run(subject.reference, k)[1]
        results.append(Samples("adv_untouched_complied", untouched.complied, **where))
        results += _effects("adv", subject, found, where) + _effects("adv_random", subject, random, where)
    return results


def _effects(prefix: str, subject: Subject, seen: Attacked, where: dict[str, Any]) -> list[Result]:
    """Success, and by layer tau about the clusters of prompts as they are, the angle to what the same prompts spanned
    before tuning and attack, and ||dW a|| for a of unit length."""
    results: list[Result] = [
        Samples(f"{prefix}_complied", seen.complied, **where),
        finite(f"{prefix}_lipschitz", np.asarray(seen.lipschitz, float), **where),
    ]
    clusters = [subject.observations[name].last["mlp.post"] for name in ("safe", "unsafe")]
    for layer in range(subject.model.layers):
        means = (np.mean(cluster[:, layer], axis=0, dtype=float) for cluster in clusters)
        taus = tau(np.asarray(seen.hidden[:, layer], float), *means)
        at: dict[str, Any] = {"layer": layer + 1, "module": "mlp.post_last", **where}
        results += [finite(f"{prefix}_tau", taus, **at), _successful(f"{prefix}_tau_successful", taus, seen, at)]
        results.append(_angle(f"{prefix}_activation_angle", subject, seen, layer, at))
        if not subject.untouched:
            at["module"] = "W_in"
            results.append(_projection(f"{prefix}_projection_total", subject, seen, layer, at))
    return results


def _successful(metric: str, values: np.ndarray, seen: Attacked, at: dict[str, Any]) -> Row:
    """The mean over the prompts whose attack succeeded, which alone the paper analyses."""
    chosen = values[seen.complied]
    if len(chosen) and np.isfinite(chosen).all():
        return Row(metric, float(chosen.mean()), len(chosen), **at)
    missing = "activations are not finite" if len(chosen) else "no attack succeeded"
    return Row(metric, np.nan, len(chosen), missing=missing, **at)


def _angle(metric: str, subject: Subject, seen: Attacked, layer: int, at: dict[str, Any]) -> Row:
    """The mean sine of `nullspace.measure`'s `activation_angle`, of the tuned model under attack."""
    hidden = np.asarray(seen.hidden[:, layer], float)
    before = np.asarray(subject.before[at["family"]]["mlp.post"][: len(hidden), layer], float)
    found = np.array([])
    if np.isfinite(hidden).all() and np.isfinite(before).all() and before.any():
        found = sines(span(hidden), span(before))
    mean = found.mean() if len(found) else np.nan
    return row(metric, mean, len(found), "activations are not finite, or all zero", **at)


def _projection(metric: str, subject: Subject, seen: Attacked, layer: int, at: dict[str, Any]) -> Result:
    after, before = (params["blocks"][str(layer)]["mlp"]["W_in"] for params in (subject.params, subject.reference))
    change = np.asarray(after, float) - np.asarray(before, float)
    if not change.any():
        return Row(metric, np.nan, len(seen.inputs), missing="dW is zero", **at)
    inputs = np.asarray(seen.inputs[:, layer], float)
    return finite(metric, np.linalg.norm(inputs @ change, axis=-1) / np.linalg.norm(inputs, axis=-1), **at)
