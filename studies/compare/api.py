"""``archwright.compare``: controllers against each other on recorded evaluations."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...evaluators.tables.table import Table
from ...search_space.errors import ConfigError
from ...search_space.plugins import load_plugin
from ..processes import Answer, spread, usable_cores
from .contender import Contender, contender
from .progress import Progress
from .result import Comparison, ranked
from .scores import Run, Scale, scale, scored
from .setting import Setting, setting
from .store import Store, kept_or_not
from .summary import summary
from .worker import Task, carry_out, request

Heard = Callable[[Task, Answer], None]


def compare(
    controllers: Sequence[str | Callable[..., Any]],
    *,
    table: str | Table,
    params: Mapping[str, Any] | None = None,
    objectives: Sequence[str] = (),
    seeds: int | Sequence[int] = 100,
    budget: int = 200,
    workers: int = 1,
    jobs: int | None = None,
    stopper: str | None = None,
    levels: Sequence[float] = (),
    reference: Mapping[str, float] | None = None,
    out: str | os.PathLike[str] | None = "comparisons",
    plugins: Sequence[str] = (),
    progress: bool = True,
) -> Comparison:
    """Run every controller with every seed on a table, and compare them.

    Each finished run is a file of its own: a second call does only what is missing, and more seeds or controllers add to it. A run
    is a function of (controller, table, setting, seed), whatever the number of jobs. A controller that raises loses that run; the
    sentence stands in ``failures``.

    Args:
        controllers: registered names, with knobs or without (``"evolution:population=30"``), classes of a file
            (``"my.py:MyController:knob=3"``), or classes.
        table: a registered table, a ``.parquet`` file, or a :class:`Table`.
        params: parameters of the table (``{"dataset": "cifar100"}``).
        objectives: ``"metric"``, ``"metric:max"`` or ``"metric:min"``; by default the table's own.
        seeds: how many (0, 1, ...), or which.
        budget: evaluations of one run; repeats and infeasible candidates do not count.
        workers: evaluations side by side, in virtual time.
        jobs: processes; by default one for each usable core. A class or a :class:`Table` given as an object runs in this process.
        stopper: a registered stopper, with knobs or without.
        levels: values of the first objective (of the hypervolume, with several) whose first crossing is reported.
        reference: with several objectives, values that count as nothing; by default the worst of the table.
        out: folder of all comparisons; None keeps nothing.
        plugins: files or modules that register controllers, tables or spaces.
        progress: show how far it is.

    Raises:
        ArchwrightError: one sentence, before anything has run, for whatever is unknown or does not fit together.
    """
    for plugin in plugins:
        load_plugin(plugin)
    chosen = setting(table, params, objectives, budget=budget, workers=workers, stopper=stopper)
    measured = scale(chosen.table, chosen.objectives, reference)
    runners, wanted = _contenders(controllers, chosen), _seeds(seeds)
    jobs = _jobs(jobs, chosen, runners)
    with kept_or_not(out) as folder:
        store = Store(folder, chosen)
        store.begin()
        runs, tasks = _on_file(store, runners, wanted, measured, budget)
        failures: dict[tuple[int, int], str] = {}
        with Progress(len(tasks), sum(map(len, runs)), shown=progress) as bar:

            def heard(task: Task, answer: Answer) -> None:
                if answer["error"] is not None:
                    failures[task.contender, task.seed] = answer["error"]
                bar.advance()

            _do(tasks, chosen, runners, list(plugins), jobs, heard)
        if tasks:
            runs, _ = _on_file(store, runners, wanted, measured, budget)
    summaries = [
        summary(runner.label, runs[i], {seed: text for (who, seed), text in sorted(failures.items()) if who == i}, measured, levels)
        for i, runner in enumerate(runners)
    ]
    return Comparison(chosen, measured, ranked(summaries), None if out is None else store.folder)


def _contenders(given: Sequence[str | Callable[..., Any]], chosen: Setting) -> list[Contender]:
    """The contenders, each built once on trial so that a wrong knob is found before anything runs."""
    if isinstance(given, str) or not given:
        raise ConfigError('A comparison needs a list of controllers, such as ["random", "evolution"].')
    found = [contender(item) for item in given]
    for i, item in enumerate(found):
        if item.label in [other.label for other in found[:i]]:
            raise ConfigError(f'The controller "{item.label}" was given twice; give each once.')
        item.make(chosen.table, chosen.objectives, 0)
    return found


def _seeds(given: int | Sequence[int]) -> list[int]:
    seeds = list(range(given)) if isinstance(given, int) else list(dict.fromkeys(given))
    if not seeds or min(seeds) < 0:
        raise ConfigError(f"A comparison needs seeds, one at least and none below 0; it was given {given}.")
    return seeds


def _jobs(given: int | None, chosen: Setting, runners: Sequence[Contender]) -> int:
    """How many processes; 0 for this one."""
    here = [runner.label for runner in runners if runner.module is None] + ([] if chosen.name else [chosen.table.name])
    if given is not None and given < 1:
        raise ConfigError(f"A comparison needs jobs of at least 1, not {given}.")
    if here and (given or 1) > 1:
        raise ConfigError(f'"{here[0]}" was given as an object, which stays in this process; name it as FILE.py:NAME, or leave jobs out.')
    return 0 if here else given or usable_cores()


def _on_file(
    store: Store, runners: Sequence[Contender], seeds: Sequence[int], measured: Scale, budget: int
) -> tuple[list[list[Run]], list[Task]]:
    """The runs on file, per contender, and those that are missing, seed by seed so that a half-done comparison is a fair one."""
    runs: list[list[Run]] = [[] for _ in runners]
    tasks = []
    folders = [store.path(runner) for runner in runners]
    for seed in seeds:
        for i in range(len(runners)):
            path = folders[i] / f"{seed}.json"
            race = store.read(path)
            if race is None:
                tasks.append(Task(i, seed, path))
            else:
                runs[i].append(scored(race, seed, measured, budget))
    return runs, tasks


def _do(tasks: list[Task], chosen: Setting, runners: list[Contender], plugins: list[str], jobs: int, heard: Heard) -> None:
    if jobs and tasks:
        spread(tasks, f"{__package__}.worker", request(chosen, runners, plugins), jobs, heard)
        return
    with _one_thread():
        for task in tasks:
            heard(task, {"error": carry_out(chosen, runners[task.contender], task.seed, task.path)})


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for the libraries that the contenders have loaded, as in a process of their own."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else 1
    try:
        if torch is not None:
            torch.set_num_threads(1)
        with threadpool_limits(1):
            yield
    finally:
        if torch is not None:
            torch.set_num_threads(threads)
