"""What an edit is: a change made to one or several models before they are asked. Each kind is a file of its own in
`analysis/edits/`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from analysis.rows import Subject
from models.transformer import Layout, ModelConfig, Params, forward


class Fed(NamedTuple):
    """What models are fed: B prompts, each with a response or with as much of one as there is."""

    tokens: jax.Array
    """[B, T]"""
    go: jax.Array
    """[B] where each prompt ends, at EOT"""
    layout: Layout | None = None
    """Where tokens stand and what they see, if not one behind the other and all that are before"""
    seen: Any = None
    """What the edit's `reads` gave of these tokens, if that is known already"""

    @property
    def late(self) -> jax.Array:
        """[B, T] bool: the last token of the prompt and all of the response, from which responses are predicted."""
        along = jnp.broadcast_to(jnp.arange(self.tokens.shape[1]), self.tokens.shape)
        return (along if self.layout is None else self.layout.positions) >= self.go[:, None]


class Edit(Protocol):
    """Something that maps tokens to logits, and so can be judged and generated from as a model can (`analysis.scores`).

    Its class is registered as a pytree: what is not static is arrays, so that edits of one class, which differ
    in arrays alone, are compiled once.
    """

    @property
    def model(self) -> ModelConfig:
        """The shape of the models that it is made of; static. Where they differ, that of the shortest context."""

    def logits(self, fed: Fed) -> jax.Array:
        """[B, T, V]: row t predicts token t + 1."""


class Reads(Protocol):
    """What an edit reads off a model at the tokens that it is fed, a pytree like it: edits that share one share what
    it gives."""

    @property
    def model(self) -> ModelConfig:
        """As of an edit."""

    def __call__(self, fed: Fed) -> Any:
        """Arrays [B, ...]."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Weights:
    """The edit that weights are: a model as it is, or with whatever change of them."""

    params: Params
    model: ModelConfig = field(metadata={"static": True})

    def logits(self, fed: Fed) -> jax.Array:
        return forward(self.model, self.params, fed.tokens, layout=fed.layout)


def made_of(model: ModelConfig, make: Callable[..., Params], *of: Any) -> Weights:
    """The weights that `make` gives of what it is given."""
    return Weights(make(*of), model)


class Label(NamedTuple):
    """What rows say of an edit: columns of the same names."""

    intervention: str
    strength: float | None = None
    other: str | None = None
    layer: int | None = None
    module: str | None = None
    position: int | None = None


E = TypeVar("E", bound=Edit)


class Made(NamedTuple, Generic[E]):
    """An edit, not made before it is asked for."""

    label: Label
    """Edits of one label are draws of the same, of which a mean is taken"""
    make: Callable[[], E]
    reads: Reads | None = None
    """What it reads, where other edits read it too"""
    same: tuple[str, Label] | None = None
    """If it is the same edit seen from another model, by which method that is tuned, and the label there"""


class Kind(NamedTuple):
    """A row of the registry: edits that one function makes. Each is KIND of a module of its own."""

    module: str
    """Where it is defined, `__name__` there: what is measured of its edits depends on what that module imports"""
    measurement: str
    """What tries its edits: "interventions" or, of Weights, into which it looks, "multiples", both of one model and the
    one that its tuning started from; "paths" of a model and the `Subject.others`; others by their names"""
    edits: Callable[[Subject, Any], Iterator[Made[Any]]]
    """All of them, from a model and the settings of that measurement, or what it found (`selection.Found` say)"""
    controls: Mapping[str, str] = MappingProxyType({})
    """By intervention, the random one of equal rank or norm that stands beside it"""
