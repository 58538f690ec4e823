"""Compiled programs, kept beside the artifacts so that they serve later runs."""

import warnings
from pathlib import Path

import jax


def keep_compiled_programs(store: Path) -> None:
    """In this process, from now on."""
    # One that cannot be kept or read, for a limit on the size of files say, is compiled again: nothing is lost.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str((store / "compiled").resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
