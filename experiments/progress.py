"""Progress on the terminal: a bar for each stage, or plain lines where there is no terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""Least time between two plain lines of a stage."""


class Meter:
    """Reports a stage's steps as they are done."""

    def __init__(self, say: Callable[[str], None], name: str, total: int, bar: Progress | None) -> None:
        self.say, self.name, self.total, self.bar = say, name, total, bar
        self.began = self.spoke = time.monotonic()
        self.first: int | None = None
        self.task = bar.add_task(name, total=total, loss="", rate="") if bar else None

    def update(self, step: int, loss: float) -> None:
        """`step` steps are done, the last with this loss (mean over seeds)."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.began = step, now
        # The first chunk includes compilation, so speed is counted from its end on.
        rate = (step - self.first) / (now - self.began) if step > self.first else 0.0
        speed = f", {rate:.1f} steps/s, {(self.total - step) / rate:.0f} s left" if rate else ""
        if self.bar is not None and self.task is not None:
            shown = f"{rate:.1f} steps/s" if rate else ""
            self.bar.update(self.task, completed=step, loss=f"loss {loss:.3f}", rate=shown)
        elif now - self.spoke >= PLAIN_SECONDS or step == self.total:
            self.spoke = now
            self.say(f"{self.name}: step {step}/{self.total}, loss {loss:.3f}{speed}")


class Reporter:
    """The study's voice on the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        self.say(f"warning: {line}")

    @contextmanager
    def stage(self, name: str, steps: int) -> Iterator[Meter]:
        """A meter for `steps` steps of stage `name`."""
        if not self.console.is_terminal:
            self.say(f"{name}: {steps} steps, compiling")
            yield Meter(self.say, name, steps, None)
            return
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as bar:
            yield Meter(self.say, name, steps, bar)
