"""The study's driver behind Tune's searcher, scheduler and stopping rule."""

from __future__ import annotations

import json
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from ...search_space.protocols import WorkerEvent
from ..executors.driver import Driver
from ..executors.failures import died_twice_reason
from ..executors.ray_worker import event_from_text
from .trainable import EVENT


class Conversation:
    """What Tune's callbacks say to the driver; an error of the driver is kept and ends the run instead of being lost.

    ``running`` maps Tune's trial id to the candidate's number and the last step the driver heard.
    """

    def __init__(self, driver: Driver) -> None:
        self.error: BaseException | None = None
        self.running: dict[str, tuple[int, int]] = {}
        self._driver = driver

    def next_config(self, trial_id: str) -> dict[str, Any] | None:
        """The config of a new trial, None when there is nothing to start."""
        if self.error is not None:
            return None
        try:
            job = self._driver.next_job()
        except BaseException as error:
            self.error = error
            return None
        if job is None:
            return None
        self.running[trial_id] = (job.number, job.reported)
        return {"job": json.dumps(job.to_json())}

    def hear(self, trial_id: str, event: WorkerEvent) -> bool:
        """Pass an event on unless it is old; True when the trial must not go on."""
        if trial_id not in self.running or self.error is not None:
            return True
        number, heard = self.running[trial_id]
        report = event.report
        if report is not None and report.step <= heard and not report.last:
            return False
        if report is None or report.last:
            del self.running[trial_id]
        else:
            self.running[trial_id] = (number, report.step)
        try:
            stop = self._driver.heard(event)
        except BaseException as error:
            self.error = error
            return True
        if stop:
            self.running.pop(trial_id, None)
        return stop or trial_id not in self.running

    def worker_died(self, trial_id: str) -> None:
        """Tune has given a trial up."""
        if trial_id in self.running:
            number, step = self.running[trial_id]
            self.hear(trial_id, WorkerEvent(number, "failed", reason=died_twice_reason(step)))


class DriverSearcher(Searcher):
    """Suggests the driver's next job while a worker is free; finished when none is left and nothing runs."""

    def __init__(self, conversation: Conversation, workers: int) -> None:
        super().__init__()
        self._conversation, self._workers = conversation, workers

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        running = self._conversation.running
        if len(running) >= self._workers:
            return None
        config = self._conversation.next_config(trial_id)
        return Searcher.FINISHED if config is None and not running else config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:
            self._conversation.worker_died(trial_id)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's journal is what a resume reads."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study resumes itself and hands out the jobs that were running."""


class DriverScheduler(FIFOScheduler):
    """Hands every event to the driver and stops a trial when it says so."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self._conversation = conversation

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        stop = self._conversation.hear(trial.trial_id, event_from_text(result[EVENT])[1])
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A last event comes here alone; one that was heard before is not heard twice."""
        if EVENT in result:
            self._conversation.hear(trial.trial_id, event_from_text(result[EVENT])[1])


class Ended(Stopper):
    """Ends the whole run after an error of the driver."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._conversation.error is not None
