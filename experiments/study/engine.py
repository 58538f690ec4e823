"""Where jobs are done: in this process, or side by side by one of Hydra's launchers.

A job waits for those that make its parents, and for no other: in this process a few are done at once, for
one alone leaves cores of a CPU idle, and launchers get all that have their parents at a time.
"""

import heapq
import importlib.util
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from threadpoolctl import threadpool_limits

from experiments.progress import Reporter
from experiments.settings.errors import explained
from experiments.settings.schema import LauncherConfig
from experiments.stages.runs import Runner
from experiments.stages.side_by_side import at_once, stopping
from experiments.store.artifacts import Store
from experiments.store.manifest import DamagedError
from experiments.study.compiled import keep_compiled_programs
from experiments.study.plan import Job
from synth.settings import UserError

LOCAL = "local"

EXTRAS = {
    "joblib": ("joblib", "hydra_plugins.hydra_joblib_launcher"),
    "submitit_local": ("submitit", "hydra_plugins.hydra_submitit_launcher"),
    "submitit_slurm": ("submitit", "hydra_plugins.hydra_submitit_launcher"),
    "ray": ("ray", "hydra_plugins.hydra_ray_launcher"),
}
"""For each launcher of Hydra's, what to install and the module that it is then in."""

EXPECTED = (UserError, DamagedError)
"""What may be wrong with an experiment; anything else is wrong with the program."""


class Failure(NamedTuple):
    """Why a job could not be done."""

    error: str
    """One line"""
    trace: str = ""
    """Where in the program, if that is at fault"""


class Place(NamedTuple):
    """What a process needs to know to do jobs."""

    store: Path
    """Absolute"""
    checkpoint_seconds: float
    runs_at_once: int | None

    def runner(self, reporter: Reporter, jobs_at_once: int = 1) -> Runner:
        return Runner(reporter, self.checkpoint_seconds, self.runs_at_once, jobs_at_once)


Failures = dict[str, Failure]
"""By the key of each artifact that could not be made"""


def do(
    jobs: Sequence[Job],
    place: Place,
    launcher: LauncherConfig,
    logs: Path,
    reporter: Reporter,
    done: Callable[[Failures], None],
) -> Failures:
    """Does all jobs but those whose parents failed; `done` is called whenever there is something new.

    Launchers write their logs to `logs`. Raises OSError where the store cannot be written, which no
    other job could do either.
    """
    failures: Failures = {}
    store = Store(place.store, reporter.warn)

    def note(job: Job, failure: Failure | None) -> None:
        if failure is None:
            return
        if failure.error not in {one.error for one in failures.values()}:
            reporter.warn(failure.error)
        # Of artifacts that are made together some may have been there before.
        failures.update({recipe.key: failure for recipe in job.recipes if not store.is_whole(recipe)})

    if launcher.name == LOCAL:
        keep_compiled_programs(place.store, reporter.warn)

        def make(number: int) -> Failure | None:
            job = jobs[number]
            reporter.say(f"[{number + 1}/{len(jobs)}] {job.what}")
            return attempt(job, store, place.runner(reporter, at_once()))

        with _blas_alone(), closing(_as_they_can(jobs, make, failures)) as ended:
            for job, failure in ended:
                note(job, failure)
                done(failures)
        return failures
    for ready in _levels(jobs):
        able = []
        for job in ready:
            orphaned = _orphaned(job, failures)
            note(job, orphaned)
            if not orphaned:
                able.append(job)
        if able:
            stages = " and ".join(dict.fromkeys(job.stage for job in able))
            reporter.say(f"{launcher.name}: {len(able)} job{'s' * (len(able) != 1)} of {stages}")
            for job, failure in zip(able, _launch(able, place, launcher, logs), strict=True):
                note(job, failure)
            done(failures)
    return failures


def _levels(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups, each of those whose parents are made by the groups before."""
    depths: dict[str, int] = {}
    levels: list[list[Job]] = []
    for job in jobs:  # Each comes after those that it needs.
        depth = max((depths[parent.key] + 1 for parent in job.parents if parent.key in depths), default=0)
        depths |= {recipe.key: depth for recipe in job.recipes}
        levels += [[] for _ in range(depth + 1 - len(levels))]
        levels[depth].append(job)
    return levels


def _as_they_can(
    jobs: Sequence[Job], make: Callable[[int], Failure | None], failures: Failures
) -> Generator[tuple[Job, Failure | None], None, None]:
    """Each job and what came of it, as they are done: begun in their order, as soon as what it needs is made.

    `make` does the job of that number.

    When it is left early, no other job, seed or chunk of steps is begun.
    """
    stopping.clear()
    maker = {recipe.key: number for number, job in enumerate(jobs) for recipe in job.recipes}
    needs = [{maker[parent.key] for parent in job.parents if parent.key in maker} for job in jobs]
    needed_by: dict[int, list[int]] = {}
    for number, of in enumerate(needs):
        for other in of:
            needed_by.setdefault(other, []).append(number)
    ready = [number for number, of in enumerate(needs) if not of]  # Sorted, and so a heap.
    running: dict[Future[Failure | None], int] = {}
    with ThreadPoolExecutor(at_once()) as pool:
        try:
            while ready or running:
                ended: list[tuple[int, Failure | None]] = []
                while ready and len(running) < at_once():
                    number = heapq.heappop(ready)
                    if orphaned := _orphaned(jobs[number], failures):
                        ended.append((number, orphaned))
                    else:
                        running[pool.submit(make, number)] = number
                if running and not ended:
                    known = wait(running, return_when=FIRST_COMPLETED).done
                    ended = [(running.pop(future), future.result()) for future in known]
                for number, failure in ended:
                    yield jobs[number], failure
                    for other in needed_by.get(number, []):
                        needs[other].discard(number)
                        if not needs[other]:
                            heapq.heappush(ready, other)
        finally:
            if running:
                stopping.set()


def _blas_alone() -> threadpool_limits:
    """Matrices are small: BLAS's own threads would wait for one another longer than they compute.

    Held for the process around all its jobs, for threads that set and reset it would do so over one another.
    """
    return threadpool_limits(1)


def attempt(job: Job, store: Store, runner: Runner) -> Failure | None:
    """Does a job; what goes wrong with it is returned, what goes wrong with the store is raised."""
    try:
        job.make(store, runner)
    except OSError:
        raise
    except EXPECTED as error:
        return Failure(str(error))
    except Exception as error:
        return Failure(f"{job.what}: {_first_line(error)}", traceback.format_exc())
    return None


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _orphaned(job: Job, failures: Failures) -> Failure | None:
    return next((failures[parent.key] for parent in job.parents if parent.key in failures), None)


def check(launcher: LauncherConfig) -> None:
    """Raises UserError, one line, unless the launcher is there and takes its options."""
    if launcher.name != LOCAL:
        with initialize(config_path=None, version_base="1.3"):
            _composed(launcher, Path())


def _composed(launcher: LauncherConfig, logs: Path) -> DictConfig:
    """Hydra's own settings for a launch; inside `initialize`."""
    if launcher.name not in EXTRAS:
        raise UserError(f"launcher.name={launcher.name}: must be one of {', '.join([LOCAL, *EXTRAS])}")
    extra, module = EXTRAS[launcher.name]
    try:
        there = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        there = None
    if there is None:
        raise UserError(f"launcher={launcher.name} is not installed; python -m pip install -e '.[{extra}]'")
    quiet = ("hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null", "hydra.job.name=job")
    composed = compose(overrides=[f"hydra/launcher={launcher.name}", *quiet], return_hydra_config=True)
    composed.hydra.sweep.dir = str(logs)  # No override, in which a path's quotes would end the text.
    # Keys that the launcher's own types know, and any in the dictionaries among them.
    OmegaConf.set_struct(composed, False)
    for name, value in launcher.options.items():
        try:
            OmegaConf.update(composed.hydra.launcher, str(name), value)
        except OmegaConfBaseException as error:
            known = ", ".join(str(key) for key in composed.hydra.launcher if key != "_target_")
            raise UserError(
                f"launcher.options.{name}={value}: {explained(error)}; {launcher.name} has {known}"
            ) from None
    return composed


def _launch(jobs: Sequence[Job], place: Place, launcher: LauncherConfig, logs: Path) -> Iterable[Failure | None]:
    """The outcome of each job, once all are done."""
    with initialize(config_path=None, version_base="1.3"):
        context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
        launch = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=partial(_work, jobs, place), config=_composed(launcher, logs)
        )
        try:
            returned = launch.launch([[] for _ in jobs], 0)
        except OSError:
            raise
        except Exception as error:  # whatever a cluster comes up with: what was finished is in the store
            lost = Failure(f"launcher {launcher.name}: {_first_line(error)}", traceback.format_exc())
            store = Store(place.store)
            return [None if all(map(store.is_whole, job.recipes)) else lost for job in jobs]
    outcomes: list[Failure | None] = []
    for job, each in zip(jobs, returned, strict=True):
        try:
            outcomes.append(each.return_value)
        except OSError:
            raise
        except Exception as error:  # whatever went wrong outside of `attempt`
            outcomes.append(Failure(f"{job.what}: {_first_line(error)}", "".join(traceback.format_exception(error))))
    return outcomes


def _work(jobs: Sequence[Job], place: Place, config: DictConfig) -> Failure | None:
    """In a launcher's process: the job whose number Hydra says."""
    job = jobs[HydraConfig.get().job.num]
    reporter = Reporter()
    keep_compiled_programs(place.store, reporter.warn)
    with _blas_alone():
        return attempt(job, Store(place.store, reporter.warn), place.runner(reporter))
