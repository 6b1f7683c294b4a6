"""``archwright.study_stopping``: whole studies replayed over recorded learning curves, under any stopper."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict

from ...search_space.errors import ConfigError, StudyError
from ...search_space.plugins import describe, load_plugin
from ..compare.progress import Progress
from ..compare.store import kept_or_not
from ..processes import Answer, spread, usable_cores
from .oracle import oracle_steps
from .replay import DRAWN, drawn
from .result import StoppingStudy, summary
from .setting import Named, named, setting
from .sources import Sources
from .store import Store
from .worker import Task

STOPPER = "risk-bounded"


def study_stopping(
    curves: Sources,
    *,
    stoppers: Sequence[str] = (STOPPER,),
    metric: str | None = None,
    direction: str | None = None,
    workers: int = 1,
    studies: int = 200,
    tolerance: float | None = None,
    risk: float = 0.05,
    share: float = DRAWN,
    jobs: int | None = None,
    out: str | os.PathLike[str] | None = "stopping",
    plugins: Sequence[str] = (),
    runs: str | os.PathLike[str] = "runs",
    progress: bool = True,
) -> StoppingStudy:
    """Replay whole studies over recorded learning curves, and count what each stopper saves and loses.

    A study draws a random 80 % (``share``) of the trainings and tries it in random order, ``workers`` at a time, in virtual time: a step
    of every training takes as long. Warm-up and candidates that run to the end for the audit are counted in. Each finished study is on
    file: a second call does only what is missing, and more studies or stoppers add to it.

    Args:
        curves: a Parquet file, see :func:`~.recorded.load_curves`, or one study or several that stopped nobody, see
            :func:`~.recorded_studies.curves_of_studies`.
        stoppers: registered names with knobs or without (``"asha:eta=3"``).
        metric: the column of the curve, where the file has several.
        direction: ``max`` or ``min``; by default by the metric's name.
        workers: candidates trained side by side.
        studies: how many; study i is the same for every stopper.
        tolerance: how much worse than the best the winner may be, in units of the metric; by default as of ``risk-bounded``.
        risk: stated risk, handed to stoppers that take one for the whole study.
        share: part of the trainings that a study draws; less makes the best differ more from study to study.
        jobs: processes; by default one for each usable core.
        out: folder of all stopping studies; None keeps nothing.
        plugins: files or modules that register stoppers.
        runs: folder of all studies, for those given by name.
        progress: show how far it is.

    Raises:
        ArchwrightError: one sentence, before anything has run, for whatever is unknown or does not fit together.
    """
    modules = [describe(load_plugin(plugin)) for plugin in plugins]
    chosen, recorded = setting(curves, metric, direction, workers, tolerance, risk, runs, share)
    if studies < 1 or (jobs is not None and jobs < 1):
        raise ConfigError(f"A stopping study needs studies and jobs of at least 1, not {studies} and {jobs}.")
    runners = _stoppers(stoppers, [named(text, chosen) for text in stoppers])
    for runner in runners:
        runner.make(recorded, len(recorded), 0)
    with kept_or_not(out) as folder:
        store = Store(folder, chosen, recorded)
        found = [store.read(runner) for runner in runners]
        todo = [
            Task(runner.label, seed) for seed in range(studies) for runner, known in zip(runners, found, strict=True) if seed not in known
        ]
        by_label = {runner.label: runner for runner in runners}
        with Progress(len(todo), studies * len(runners) - len(todo), shown=progress) as bar:

            def heard(task: Task, answer: Answer) -> None:
                if answer["error"] is not None:
                    raise StudyError(f'The stopper "{task.stopper}" ended study {task.seed}: {answer["error"].rstrip(".")}.')
                store.add(by_label[task.stopper], task.seed, answer["replay"])
                bar.advance()

            if todo:
                request = {"setting": asdict(chosen), "stoppers": {runner.label: runner.key for runner in runners}, "plugins": modules}
                spread(todo, f"{__package__}.worker", request, jobs or usable_cores(), heard)
        found = [store.read(runner) for runner in runners]
    wanted = range(studies)
    summaries = [summary(r.label, [known[seed] for seed in wanted], chosen.tolerance) for r, known in zip(runners, found, strict=True)]
    steps = [oracle_steps(recorded, drawn(recorded, seed, share), chosen.tolerance) for seed in wanted]
    oracle = sum(full for _, full in steps) / sum(used for used, _ in steps)
    return StoppingStudy(chosen, recorded, summaries, oracle, None if out is None else store.folder)


def _stoppers(given: Sequence[str], runners: list[Named]) -> list[Named]:
    if isinstance(given, str) or not given:
        raise ConfigError('A stopping study needs a list of stoppers, such as ["risk-bounded", "asha"].')
    for text in given:
        if list(given).count(text) > 1:
            raise ConfigError(f'The stopper "{text}" was given twice; give each once.')
    return runners
