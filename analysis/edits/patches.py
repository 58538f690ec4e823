"""Which direction of an activation carries refusal: set the coordinate along it to another model's, and see.

Cf. activation patching (Zhang and Nanda 2024, arXiv 2309.16042).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from analysis.chance import random_units
from analysis.edit import Fed, Kind, Label, Made
from analysis.edits.settings import InterventionsConfig
from analysis.rows import Subject
from analysis.subspaces import unit
from models.taps import capture, edit
from models.transformer import ModelConfig, Params
from synth.keys import fold


def with_coordinate(x: jax.Array, axis: jax.Array, values: jax.Array, where: jax.Array) -> jax.Array:
    """`x` [..., F] with its coordinate along the unit vector `axis` [F] set to `values` [...] where `where` [...]."""
    shift = jnp.where(where, values - x @ axis, 0)
    return x + shift[..., None] * jnp.broadcast_to(axis, x.shape)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Coordinates:
    """Where the activation at `site` of each layer of a model lies along unit vectors of that layer."""

    params: Params
    axes: jax.Array
    """[L, A, F]"""
    model: ModelConfig = field(metadata={"static": True})
    site: str = field(metadata={"static": True})

    def __call__(self, fed: Fed) -> jax.Array:
        """[B, T, L, A]"""
        names = _sites(self.model, self.site)
        seen = capture(self.model, self.params, fed.tokens, names, fed.layout)
        return jnp.stack([seen[name] @ self.axes[i].T for i, name in enumerate(names)], axis=-2)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Patched:
    """The model with one of its coordinates set to those of `goal`, at the last position of the prompt and all of the
    response, in the layers `at`."""

    params: Params
    goal: Coordinates
    which: np.int32 | jax.Array
    """Number of the axis among those of `goal`"""
    at: np.ndarray | jax.Array
    """[L] bool"""

    @property
    def model(self) -> ModelConfig:
        return self.goal.model

    def logits(self, fed: Fed) -> jax.Array:
        known = self.goal(fed) if fed.seen is None else fed.seen
        axes, values = jnp.take(self.goal.axes, self.which, axis=1), jnp.take(known, self.which, axis=-1)
        edits = {
            name: partial(with_coordinate, axis=axes[i], values=values[..., i], where=fed.late & self.at[i])
            for i, name in enumerate(_sites(self.model, self.goal.site))
        }
        return edit(self.model, self.params, fed.tokens, edits, fed.layout)


def _sites(model: ModelConfig, site: str) -> list[str]:
    return [f"blocks.{layer}.{site}" for layer in range(model.layers)]


def edits(subject: Subject, config: InterventionsConfig) -> Iterator[Made[Patched]]:
    """With the layer, and the site as module:

    patch to tuned    the untuned model, its coordinate along the axis from the unsafe to the safe mean of
                      the tuned one's activations, on validation prompts, set to the tuned one's
    patch to untuned  the tuned model, the same coordinate set to the untuned one's
    patch random to   the same along random axes
    """
    model, site = subject.model, config.site
    safe, unsafe = (np.asarray(subject.validation[family].last[site], float) for family in ("safe", "unsafe"))
    means = safe.mean(0) - unsafe.mean(0)
    random = random_units(means.shape[1], config.draws * model.layers, fold(subject.key, "interventions", "axes"))
    # [A, L, F]: the cluster axis of each layer, then random ones.
    axes = jnp.asarray(np.concatenate([[unit(means)], random.reshape(-1, *means.shape)]), jnp.float32)
    models = {"tuned": subject.params, "untuned": subject.reference}
    for goal, other in (("tuned", "untuned"), ("untuned", "tuned")):
        reads = Coordinates(models[goal], axes.swapaxes(0, 1), model, site)
        for i in range(len(axes)):
            label = Label(f"patch {'random ' if i else ''}to {goal}", module=site)
            for layer in range(model.layers):
                at = np.arange(model.layers) == layer
                make = partial(Patched, models[other], reads, np.int32(i), at)
                yield Made(label._replace(layer=layer + 1), make, reads)


KIND = Kind(
    __name__,
    "interventions",
    edits,
    controls={f"patch to {goal}": f"patch random to {goal}" for goal in ("tuned", "untuned")},
)
