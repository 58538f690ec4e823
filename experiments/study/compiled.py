"""Compiled programs, kept beside the artifacts so that they serve later runs."""

import os
import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

TROUBLE = r"Error (?:reading|writing) persistent compilation cache entry|Cache value for key .* exceeds the maximum"
"""How JAX's warnings begin of a program that cannot be kept or read: it is compiled again, and nothing is lost."""

_told: set[Path] = set()
"""Folders of which it has been said in this process"""
_telling = threading.Lock()


def keep_compiled_programs(store: Path, warn: Callable[[str], None]) -> None:
    """In this process, from now on. `warn` gets one line, once, if some cannot be kept or read."""
    folder = (store / "compiled").resolve()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    warnings.filterwarnings("always", TROUBLE)
    shown = warnings.showwarning
    warnings.showwarning = _Shown(folder, warn, shown.others if isinstance(shown, _Shown) else shown)


class _Shown:
    """In place of `warnings.showwarning`, with which all other warnings are shown."""

    def __init__(self, folder: Path, warn: Callable[[str], None], others: Callable[..., None]) -> None:
        self.folder, self.warn, self.others = folder, warn, others

    def __call__(self, message: Warning | str, *where: Any, **named: Any) -> None:
        if not re.match(TROUBLE, str(message)):
            self.others(message, *where, **named)
            return
        with _telling:
            first = self.folder not in _told
            _told.add(self.folder)
        if first:
            self.warn(
                f"{self.folder}: not every compiled program can be kept and read there ({_reason(str(message))}); "
                "what cannot is compiled anew; make room, or remove the folder"
            )


def _reason(message: str) -> str:
    """What went wrong, in a few words."""
    number = re.search(r"\[Errno (\d+)\]", message)
    return os.strerror(int(number[1])) if number else re.sub(" for key '[^']*'", "", message.splitlines()[0])[:120]
