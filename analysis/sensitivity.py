"""How strongly the answer reacts to the input: local Lipschitzness (arXiv 2407.10264, sec. 5, Fig. 6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from analysis.clusters import of_successful
from analysis.observe import at_once, in_pieces
from analysis.rows import Result, Row, Samples, Subject
from models.transformer import ModelConfig, Params, Tap, forward
from synth.sequences import Prompts
from synth.settings import require_positive

NOT_FINITE = "values that are not finite"

PERCENTILES = (5, 25, 50, 75, 95)
"""Of the prompts of a family: what a figure draws of their distribution."""


@dataclass(unsafe_hash=True)
class SensitivityConfig:
    """Settings of the sensitivity measurements."""

    prompts: int = 256
    """Prompts of each family that are measured: the first that many."""

    def __post_init__(self) -> None:
        require_positive(self, "prompts")


def gradient_norm(
    model: ModelConfig, params: Params, tokens: jax.Array, go: jax.Array, tap: Tap = lambda site, x: x
) -> jax.Array:
    """[B] ||grad_x max_j h(x)[go](j)||_2: the largest logit at position go [B] of tokens [B, T].

    x is the whole input, the activation at site "embed" of all positions up to go, after
    `tap`; those behind go have no influence. The prompts do not see each other, so the
    gradient of their sum holds the gradient of each.
    """
    row = jnp.arange(tokens.shape[0])

    def largest(shift: jax.Array) -> jax.Array:
        def shifted(site: str, x: jax.Array) -> jax.Array:
            x = tap(site, x)
            return x + shift if site == "embed" else x

        return jnp.sum(jnp.max(forward(model, params, tokens, shifted)[row, go], axis=-1))

    nowhere = jnp.zeros((*tokens.shape, model.width), params["W_E"].dtype)
    return jnp.sqrt(jnp.sum(jnp.square(jax.grad(largest)(nowhere)), axis=(1, 2)))


@partial(jax.jit, static_argnames="model")
def lipschitz(model: ModelConfig, params: Params, tokens: jax.Array, go: jax.Array) -> jax.Array:
    """`gradient_norm` of any number of prompts, tokens [N, T] and go [N]."""
    return in_pieces(lambda prompts: gradient_norm(model, params, *prompts), (tokens, go), at_once(tokens.shape[1]))


def measure(subject: Subject, config: SensitivityConfig) -> list[Result]:
    """Lip(x) of each prompt, and its ratio to the model before tuning on the same prompt: 1 where nothing changed.

    `lipschitz_successful` is the mean over those of the same prompts that were complied with: of a jailbreak, the
    successful attacks.
    """
    before = after = of_families(subject.model, subject.params, subject.prompts, config.prompts)
    if not subject.untouched:
        before = of_families(subject.model, subject.reference, subject.prompts, config.prompts)
    results: list[Result] = []
    for family, values in after.items():
        results += _of_family(values, before[family], subject.observations[family].complied, family)
    return results


def of_families(model: ModelConfig, params: Params, prompts: Mapping[str, Prompts], most: int) -> dict[str, np.ndarray]:
    """[N] `lipschitz` of the first `most` prompts of each family."""
    # What stands behind the prompt changes nothing; one width for all families compiles once.
    width = 1 + max(int(np.max(of.complying.go)) for of in prompts.values())
    return {
        family: np.asarray(lipschitz(model, params, of.complying.tokens[:most, :width], of.complying.go[:most]), float)
        for family, of in prompts.items()
    }


def _of_family(after: np.ndarray, before: np.ndarray, complied: np.ndarray, family: str) -> list[Result]:
    ratio = np.divide(after, before, out=np.full(len(after), np.nan), where=before > 0)
    results: list[Result] = []
    for metric, values in (("lipschitz", after), ("lipschitz_ratio", ratio)):
        results += [finite(metric, values, family=family), *_percentiles(metric, values, family)]
    why = None if np.isfinite(after).all() else NOT_FINITE
    results.append(of_successful("lipschitz_successful", after, complied[: len(after)], why, family=family))
    return results


def finite(metric: str, values: np.ndarray, **where: Any) -> Result:
    """The values of single prompts; a row that says they are missing unless all are finite."""
    if np.isfinite(values).all():
        return Samples(metric, values, **where)
    return Row(metric, np.nan, len(values), missing=NOT_FINITE, **where)


def _percentiles(metric: str, values: np.ndarray, family: str) -> list[Result]:
    """PERCENTILES of the values [N], `index` being which."""
    if not np.isfinite(values).all():
        return []
    found = zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
    return [Row(f"{metric}_quantile", float(v), len(values), family=family, index=i) for i, v in found]
