"""Runs a study: `python -m experiments.run study=quick seeds=5 methods=[sft,dpo]`.

`ablation=NAME` repeats it for values of a setting; `dry_run=true` prints what would be made.
"""

import sys
from collections.abc import Sequence

from experiments.command import command
from experiments.findings import printed, scorecard, summary
from experiments.findings.claims import PAPERS
from experiments.progress import Reporter
from experiments.settings.schema import StudyConfig
from experiments.study import forecast
from experiments.study.run import run


def _run(config: StudyConfig, reporter: Reporter) -> None:
    if config.dry_run:
        reporter.show(forecast.render(config, forecast.forecast(config, reporter.warn)))
        return
    results = run(config, reporter)
    reporter.show(summary.render(results.table))
    if not config.ablation.name:
        papers = [PAPERS[name] for name in config.papers]
        for found in printed.render(one for paper in papers for one in scorecard.scorecard(results.table, paper)):
            reporter.say(found) if isinstance(found, str) else reporter.show(found)
    reporter.say(f"results in {results.folder}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    return command("experiments.run", __doc__, StudyConfig, _run, arguments)


if __name__ == "__main__":
    sys.exit(main())
