"""Compiled programs, kept beside the artifacts so that they serve later runs."""

from pathlib import Path

import jax


def keep_compiled_programs(store: Path) -> None:
    """In this process, from now on."""
    jax.config.update("jax_compilation_cache_dir", str((store / "compiled").resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
