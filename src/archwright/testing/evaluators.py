"""The contract of an evaluator, as a check its author runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..evaluators.registry import EVALUATORS
from ..search_space.outcomes import Report
from ..search_space.protocols import Job


def check_evaluator(evaluator: str | Callable[..., Iterator[Report]], job: Job) -> None:
    """Raise AssertionError, in one sentence, unless ``evaluator`` keeps the contract on ``job``.

    It yields reports of increasing steps from 1, exactly the last one marked ``last``; reports and jobs survive JSON; two runs
    give the same metrics; it can be closed midway, and started again on the same folder with ``reported=k`` it yields the
    steps after k with the metrics of a run that was never closed; a study that lost its reports gets all of them.

    Args:
        evaluator: a registered name, or a generator function called as ``evaluator(job, **params)``.
        job: what to evaluate, with a budget of at least 2; its ``folder`` is a scratch folder, used for several runs.
    """
    called = EVALUATORS[evaluator].obj if isinstance(evaluator, str) else evaluator
    run = _Runs(called, job)
    whole = run.reports("whole")
    _check_steps(whole)
    _check_json(whole)
    _check_same("again on an empty folder", run.reports("again"), whole)
    run.closed_after(0, "closed-at-once")
    _check_same("after it was closed before its first report", run.reports("closed-at-once"), whole)
    for k in sorted({1, len(whole) - 1}):
        folder = f"closed-after-{k}"
        run.closed_after(k, folder)
        _check_same(f"closed after step {k} and continued", run.reports(folder, reported=whole[k - 1].step), whole[k:])
    run.closed_after(len(whole) - 1, "lost")
    _check_same("continued by a study that lost its reports", run.reports("lost", reported=0), whole)


class _Runs:
    """Runs an evaluator on one job in folders of its own."""

    def __init__(self, evaluator: Callable[..., Iterator[Report]], job: Job) -> None:
        self.evaluator, self.job = evaluator, job
        assert job.budget >= 2, f"give the job a budget of at least 2, so that it can be closed midway; it has {job.budget}"

    def start(self, folder: str, reported: int = 0) -> Any:
        where = Path(self.job.folder, folder)
        where.mkdir(parents=True, exist_ok=True)
        job = Job.from_json(json.loads(json.dumps(replace(self.job, folder=str(where), reported=reported).to_json())))
        params: Mapping[str, Any] = job.evaluator.get("params", {})
        started = iter(self.evaluator(job, **params))
        assert hasattr(started, "close"), f"the evaluator returned {type(started).__name__}; it must be a generator, which can be closed"
        return started

    def reports(self, folder: str, reported: int = 0) -> list[Report]:
        return list(self.start(folder, reported))

    def closed_after(self, count: int, folder: str) -> None:
        running = self.start(folder)
        for _ in range(count):
            next(running)
        running.close()


def _check_steps(reports: list[Report]) -> None:
    assert reports, "the evaluator yielded no report"
    for report in reports:
        assert isinstance(report, Report), f"the evaluator yielded {type(report).__name__}; expected a Report"
        assert report.metrics, f"the report of step {report.step} has no metrics"
        assert report.seconds >= 0, f"the report of step {report.step} took {report.seconds} seconds"
    steps = [report.step for report in reports]
    assert steps[0] == 1, f"the first step is {steps[0]}; steps are absolute and start at 1"
    assert steps == sorted(set(steps)), f"the steps {steps} do not increase"
    marked = [report.step for report in reports if report.last]
    assert marked == steps[-1:], f"the reports marked last are those of the steps {marked}; it must be the final one, {steps[-1]}, alone"
    assert len(steps) >= 2, "the evaluator gave one report for a budget of 2 or more; it must report after each unit"


def _check_json(reports: list[Report]) -> None:
    for report in reports:
        try:
            back = Report.from_json(json.loads(json.dumps(report.to_json())))
        except TypeError as error:
            raise AssertionError(f"the report of step {report.step} is not plain JSON ({error}); use Python numbers") from None
        assert back == report, f"the report of step {report.step} is {back} after a round trip through JSON, it was {report}"


def _check_same(how: str, found: list[Report], expected: list[Report]) -> None:
    """Steps, metrics and last marks agree; ``seconds`` may differ."""
    steps, wanted = [report.step for report in found], [report.step for report in expected]
    assert steps == wanted, f"{how}, the evaluator reports the steps {steps}; expected {wanted}"
    for one, other in zip(found, expected, strict=True):
        assert dict(one.metrics) == dict(other.metrics), f"{how}, step {one.step} has {dict(one.metrics)}; expected {dict(other.metrics)}"
        assert one.last == other.last, f"{how}, step {one.step} is marked last={one.last}; expected {other.last}"
