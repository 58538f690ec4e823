"""A study from settings to results: cells, plan, jobs, output folder."""

from pathlib import Path

from experiments.findings.seal import CELLS, ENVIRONMENT
from experiments.progress import Reporter
from experiments.settings.schema import StudyConfig
from experiments.stages import prompts
from experiments.store.artifacts import Store
from experiments.study import engine
from experiments.study.cells import cells, worlds
from experiments.study.compiled import keep_compiled_programs
from experiments.study.engine import Failures, Place
from experiments.study.output import Output, Results, keep_environment, keep_settings
from experiments.study.plan import jobs, plan
from synth.settings import StoppedError


def run(config: StudyConfig, reporter: Reporter) -> Results:
    """Makes what the store does not have yet, then the output folder.

    Every cell is composed and checked before anything is made. One that fails does not stop the
    others; the table has what there is at any time. Raises UserError for settings that cannot
    be used, StoppedError at the end if a cell failed, OSError if files cannot be written.
    """
    planned = [(cell, plan(cell.config)) for cell in cells(config)]
    engine.check(config.launcher)
    store = Store(Path(config.store_dir), reporter.warn)
    output = Output(config, planned, store)
    missing = [job for job in jobs(planned) if not all([store.is_whole(recipe) for recipe in job.recipes])]
    if missing:
        # Before there is an output folder: a study that is refused leaves none.
        keep_compiled_programs(store.root, reporter.warn)
        for world, families in worlds([cell for cell, _ in planned]).items():
            prompts.check(world, families)
        store.ready()
    keep_settings(config, reporter.warn)
    store.register(output.folder, [recipe.name for _, needed in planned for recipe in needed.recipes])
    if changed := missing and keep_environment(output.folder):
        reporter.warn(
            f"{output.folder / ENVIRONMENT}: {'; '.join(changed)}; what is made from here on is rounded otherwise than "
            "what there is"
        )
    place = Place(Path(config.store_dir).resolve(), config.checkpoint_seconds, config.runs_at_once)
    failures: Failures = {}

    def note(found: Failures) -> None:
        failures.update(found)
        output.refresh(failures)

    try:
        failures.update(engine.do(missing, place, config.launcher, output.logs, reporter, note))
    except BaseException:
        # When interrupted, what has been measured until then is in the table, and what failed in CELLS.
        output.refresh(failures, at_once=True)
        raise
    failed = output.failed(failures)
    if failed and len(failed) == len(planned):
        output.refresh(failures, at_once=True)
        first = next(iter(failures.values()))
        where = f"; where in the program is in {output.folder / CELLS}" if first.trace else ""
        raise StoppedError(f"{first.error}{where}")
    results = output.finish(failures)
    if failed:
        names = "; ".join(failed) if config.worlds > 1 else ", ".join(failed)
        what = "cells" if config.worlds == 1 else "cells and worlds" if config.ablation.name else "worlds"
        raise StoppedError(
            f"{len(failed)} of {len(planned)} {what} failed ({names}); the rest is in {results.folder}, and why in its "
            "cells.json; the same command tries them again"
        )
    return results
