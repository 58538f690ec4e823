"""Looking at a model while it is trained: what it does on held-out prompts, and whether it is still one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from models.decode import teacher_forced
from models.transformer import ModelConfig, Params
from synth.segments import Batch
from synth.settings import EXACT, require, require_among, require_at_most, require_positive, require_share


@dataclass(unsafe_hash=True)
class WatchConfig:
    """How often, on what, and what is too bad to go on silently."""

    every: int = 50
    """Steps between two looks; 0 for only before the first and after the last."""
    prompts: int = 64
    """Held-out prompts of each family."""
    guard: str = "off"
    """What a model that complies with fewer than `floor` of safe prompts brings about: "off" for nothing,
    "warn" for a line, "stop" for the end of training. Ascent without a bound can destroy a model."""
    floor: float = 0.5

    def __post_init__(self) -> None:
        require_positive(self, "prompts")
        require(self.every >= 0, "every", self.every, "must be 0 or more", "set every to 50")
        require_at_most("every", self.every, EXACT)
        require_among(self, "guard", ("off", "warn", "stop"))
        require_share(self, "floor")


@partial(jax.jit, static_argnames="model")
def look(
    model: ModelConfig, params: Params, prompts: Mapping[str, tuple[Batch, Batch]]
) -> dict[str, dict[str, jax.Array]]:
    """What runs do on the prompts of each family, given with the compliant response and with the refusal.

    `params` have a leading axis of runs. By family, [runs] each: shares complied and refused
    by these responses to the letter (one is generated greedily exactly when every one of its
    tokens is the likeliest after those before it), and mean log p of both responses.
    """

    def one(params: Params, complying: Batch, refusing: Batch) -> dict[str, jax.Array]:
        comply, refuse = (teacher_forced(model, params, batch) for batch in (complying, refusing))
        return {
            "complied": jnp.mean(comply.exact),
            "refused": jnp.mean(refuse.exact),
            "logp_comply": jnp.mean(comply.logp),
            "logp_refuse": jnp.mean(refuse.logp),
        }

    every = jax.vmap(one, in_axes=(0, None, None))
    return {family: every(params, *batches) for family, batches in prompts.items()}
