"""Prompts of a world for other tools, or to look at.

`python -m experiments.data world=paper family=unsafe n=10000 out=unsafe.parquet`
`python -m experiments.data world=paper show=3`
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.command import command
from experiments.data.export import export
from experiments.data.gallery import draw_world, print_world
from experiments.progress import Reporter
from experiments.settings.commands import DataConfig


def _run(config: DataConfig, reporter: Reporter) -> None:
    if not config.out or config.show:
        print_world(config, reporter.console)
        folder = draw_world(config)
        reporter.say(f"figures in {folder}")
    if config.out:
        path = Path(config.out)
        export(config, path, reporter)
        reporter.say(f"{config.n * len(config.family)} prompts in {path}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    return command("experiments.data", __doc__, DataConfig, _run, arguments)
