"""Wiring, records and side effects: the only package that reads settings and writes files."""

import os
import signal
import sys
from types import FrameType


def leave(number: int, frame: FrameType | None) -> None:
    """Ends the process in silence: what Ctrl-C does until a start can say something."""
    os._exit(130)


if sys.argv[0] == "-m":  # So it is while the packages of `python -m experiments...` are imported.
    signal.signal(signal.SIGINT, leave)

from experiments import numerics  # noqa: E402

numerics.fix()
