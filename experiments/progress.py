"""Progress on the terminal: a bar for each stage, or plain lines where there is no terminal."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_SECONDS = 10.0
"""Least time between two plain lines of a stage."""


class Meter:
    """Reports a stage's steps, or what else is counted, as they are done."""

    def __init__(self, say: Callable[[str], None], name: str, total: int, unit: str, bar: Progress | None) -> None:
        self.say, self.name, self.total, self.unit, self.bar = say, name, total, unit, bar
        self.began = self.spoke = time.monotonic()
        self.first: int | None = None
        self.task = bar.add_task(name, total=total, note="", rate="") if bar else None

    def update(self, step: int, note: str = "") -> None:
        """`step` steps are done; `note` says how it goes."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.began = step, now
        # The first report comes after compilation, so speed is counted from there on.
        rate = (step - self.first) / (now - self.began) if step > self.first else 0.0
        shown = f"{rate:,.{0 if rate >= 1000 else 1}f} {self.unit}s/s" if rate else ""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, note=note, rate=shown)
        elif now - self.spoke >= PLAIN_SECONDS or step == self.total:
            self.spoke = now
            left = f"{(self.total - step) / rate:.0f} s left" if rate else ""
            parts = (f"{self.name}: {self.unit} {step}/{self.total}", note, shown, left)
            self.say(", ".join(part for part in parts if part))


class PlainConsole(Console):
    """Text is printed as it is, whatever brackets or colons a name has: what has a style is a `rich.text.Text`.

    What the terminal's encoding does not have is printed as an escape.
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(markup=False, emoji=False, **named)
        if isinstance(self.file, io.TextIOWrapper):
            self.file.reconfigure(errors="backslashreplace")

    def on_broken_pipe(self) -> None:
        """Nobody reads any more, as after `| head -1`: the work goes on in silence."""
        with suppress(SystemExit):
            super().on_broken_pipe()


class Reporter:
    """The study's voice on the terminal."""

    def __init__(self, console: PlainConsole | None = None) -> None:
        self.console = console or PlainConsole()
        self._bars: Progress | None = None
        """Of the stages that are under way, which may be several at a time"""
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        self.say(f"warning: {line}")

    def show(self, table: Table, least: int | None = None) -> None:
        """A table in full: wider than the terminal rather than without its last columns.

        `least` is the width down to which a table with columns of text may have them wrapped.
        """
        width = Measurement.get(self.console, self.console.options.update(width=10_000), table).maximum
        narrow = self.console.width
        if least is not None:
            width = min(width, max(least, narrow))
        try:
            self.console.width = max(narrow, width)
            self.console.print(table, crop=False)
        finally:
            self.console.width = narrow

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "step") -> Iterator[Meter]:
        """A meter for `total` steps, or other units, of stage `name`."""
        if not self.console.is_terminal:
            self.say(f"{name}: {total} {unit}s, compiling")
            yield Meter(self.say, name, total, unit, None)
            return
        with self._lock:
            if self._bars is None:
                self._bars = Progress(*_columns(), console=self.console)
                self._bars.start()
            bars = self._bars
            meter = Meter(self.say, name, total, unit, bars)
        try:
            yield meter
        finally:
            with self._lock:
                if all(task.id == meter.task for task in bars.tasks):
                    bars.stop()
                    self._bars = None
                elif meter.task is not None:
                    bars.remove_task(meter.task)


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description:<18}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
