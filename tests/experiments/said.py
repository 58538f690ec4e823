"""What a study says, remembered instead of printed."""

import io

from rich.console import Console

from experiments.progress import Reporter


class Said(Reporter):
    """Warnings among its lines begin with "warning: "."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)
