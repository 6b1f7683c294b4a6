"""A stopper as a Tune trial scheduler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from ...search_space.architecture import Architecture
from ...search_space.choices import Trace
from ...search_space.outcomes import Outcome, Report
from ...search_space.protocols import Candidate, Stopper
from .results import metrics_of, step_of


class TuneScheduler(FIFOScheduler):
    """Lets any stopper end trials under Tune; trials run in the order they were suggested.

    Candidates come from the trial's config as :class:`TuneSearcher` made it. Steps are the result's ``step``, or else its
    ``training_iteration``; every number in a result is a metric.
    """

    def __init__(self, stopper: Stopper) -> None:
        super().__init__()
        self._stopper = stopper
        self._steps: dict[int, int] = {}
        self._last: dict[int, dict[str, float]] = {}
        #: outcomes of stopped candidates, for the TuneSearcher of the same run to take
        self.stopped: dict[int, Outcome] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        number = int(trial.config["number"])
        if number not in self._steps:  # Tune adds a restarted trial again
            self._steps[number] = 0
            self._stopper.started(_candidate(number, trial.config))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = int(trial.config["number"])
        if not self._hear(number, result):
            return TrialScheduler.CONTINUE
        verdict = self._stopper.verdict(number)
        if not verdict.stop:
            return TrialScheduler.CONTINUE
        last, step = self._last[number], self._steps[number]
        self.stopped[number] = Outcome("stopped", last, step, predicted=verdict.predicted, reason=verdict.reason)
        self._end(number, self.stopped[number])
        return TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        number = int(trial.config["number"])
        if number in self._steps:
            self._hear(number, result, last=True)
            self._end(number, Outcome("completed", self._last.get(number, {}), self._steps[number]))

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """An error that Tune will retry is not the trial's end."""
        number = int(trial.config["number"])
        if number in self._steps and not trial.should_recover():
            self._end(number, Outcome("failed", steps=self._steps[number], reason="the trial ended with an error"))

    def _hear(self, number: int, result: Mapping[str, Any], last: bool = False) -> bool:
        """Tell the stopper of a result that is new; False for one from before a restart, or after the end."""
        step, metrics = step_of(result), metrics_of(result)
        if step <= self._steps.get(number, step):
            return False
        self._steps[number], self._last[number] = step, metrics
        self._stopper.reported(number, Report(step, metrics, last=last))
        return True

    def _end(self, number: int, outcome: Outcome) -> None:
        self._steps.pop(number)
        self._last.pop(number, None)
        self._stopper.told(number, outcome)


def _candidate(number: int, config: Mapping[str, Any]) -> Candidate:
    trace = Trace.from_json(json.loads(config["trace"]))
    return Candidate(number, trace, Architecture.from_json(json.loads(config["architecture"])))
