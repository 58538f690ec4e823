"""What a study says, remembered instead of printed."""

import io

from experiments.progress import PlainConsole, Reporter


class Said(Reporter):
    """Warnings among its lines begin with "warning: "."""

    def __init__(self) -> None:
        super().__init__(PlainConsole(file=io.StringIO()))
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)
