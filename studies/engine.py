"""Letting an executor carry out what the driver decides."""

from __future__ import annotations

from typing import Any, Protocol

from ..search_space.protocols import Executor, Job, WorkerEvent
from .config import StudyConfig


class Drives(Protocol):
    """What an engine needs of a study."""

    def next_job(self) -> Job | None: ...

    def heard(self, event: WorkerEvent) -> bool: ...


def drive(driver: Drives, executor: Executor) -> None:
    """Keep every slot of ``executor`` busy until the driver has nothing left to start and nothing runs."""
    running: set[int] = set()
    while True:
        while len(running) < executor.slots and (job := driver.next_job()) is not None:
            running.add(job.number)
            executor.start(job)
        if not running:
            return
        event = executor.next_event()
        if driver.heard(event):
            executor.stop(event.number)
            running.discard(event.number)
        elif event.report is None or event.report.last:
            running.discard(event.number)


class Engine:
    """The executor, or Ray Tune, that a configuration names; made before the study begins so that a bad wish is refused early."""

    def __init__(self, config: StudyConfig) -> None:
        self._config = config
        self._executor: Executor | None = None if config.engine == "tune" else _executor(config)

    def run(self, driver: Any) -> None:
        if self._executor is not None:
            return drive(driver, self._executor)
        from ..evaluators.tune import TuneEngine

        config = self._config
        address, limit = config.ray.address, config.time_limit
        TuneEngine(driver, workers=config.workers, gpus=config.gpus, threads=config.threads, time_limit=limit, address=address).run()

    def close(self) -> None:
        if self._executor is not None:
            self._executor.close()


def _executor(config: StudyConfig) -> Executor:
    from ..evaluators.executors.registry import EXECUTORS

    return EXECUTORS[config.engine].obj(
        workers=config.workers, gpus=config.gpus, threads=config.threads, time_limit=config.time_limit, address=config.ray.address
    )
