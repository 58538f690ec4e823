"""What JAX's environment may change about numbers: what is set here, and what is said of the rest.

Drawn numbers depend on settings and keys alone, so what would change them is set for every process that
imports `experiments`, whatever its environment says. What changes rounding alone is the user's choice:
it is recorded in `env.json` and compared when a study goes on.
"""

import os
from typing import Any

import jax
from jax.extend.backend import clear_backends

FIXED: dict[str, Any] = {
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_enable_x64": False,
}
"""JAX's settings that change what is drawn, or the type of it."""

ROUNDING = (
    "jax_default_matmul_precision",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_softmax_custom_jvp",
)
"""JAX's settings that change rounding."""
ROUNDING_VARIABLES = ("XLA_FLAGS", "NVIDIA_TF32_OVERRIDE")
"""Variables of the environment that do, beside those."""


def fix() -> None:
    """Sets FIXED in this process."""
    for name, value in FIXED.items():
        jax.config.update(name, value)


def rounding() -> dict[str, Any]:
    """What the environment says about rounding, by name; None for what it leaves to JAX and XLA."""
    settings = {name: jax.config.values[name] or None for name in ROUNDING}
    return {**settings, **{name: os.environ.get(name) or None for name in ROUNDING_VARIABLES}}


def no_device() -> str | None:
    """Why there is no device to compute on, in one line that names what the environment asks for; None if there is."""
    asked = {name: os.environ.get(name) for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")}
    name, value = next(((name, value) for name, value in asked.items() if value), (None, None))
    if name is None:
        return None  # JAX takes what there is.
    try:
        jax.devices()
    except (RuntimeError, AssertionError):  # The second where JAX was told of a platform that it has no plugin for.
        clear_backends()
        jax.config.update("jax_platforms", None)
        jax.config.update("jax_platform_name", "")
        there = ", ".join(sorted({device.platform for device in jax.devices()}))
        return f"{name}={value}: there is no such device here, there is {there}; unset {name}, or set it to {there}"
    return None
