"""One job at work in this process: the part that the inline executor, a Ray worker and a Tune trainable share."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...search_space.outcomes import Report
from ...search_space.plugins import load_job_plugins
from ...search_space.protocols import Job, WorkerEvent
from .failures import TimeLimitReached, keep_traceback, reason_of, time_limit_reason


class Run:
    """Pulls one job's evaluator, event by event; whatever goes wrong becomes a ``failed`` event.

    Args:
        job: what to evaluate. Its plug-ins are imported at the first pull, before anything is built.
        time_limit: seconds of wall clock that all pulls together may take. In the main thread a hang is interrupted (as soon as
            it returns to Python), elsewhere the limit is checked between reports.
    """

    def __init__(self, job: Job, time_limit: float | None = None) -> None:
        self.job = job
        self.time_limit = time_limit
        self.step = job.reported
        self.ended = False
        self._spent = 0.0
        self._reports: Iterator[Report] | None = None

    def pull(self) -> WorkerEvent:
        """The next report after the last step delivered, or the reason why there is none. ``ended`` says whether it was the last."""
        began = time.monotonic()
        try:
            report = self._limited_report()
        except StopIteration:
            return self._failed("the evaluator ended without its last report; mark it with Report(..., last=True)")
        except TimeLimitReached as error:
            keep_traceback(self.job.folder, error)
            return self._failed(time_limit_reason(self.time_limit or 0.0, self.step))
        except (Exception, SystemExit) as error:
            keep_traceback(self.job.folder, error)
            return self._failed(reason_of(error))
        self._spent += time.monotonic() - began
        self.step = report.step
        if report.last:
            self.close()
        return WorkerEvent(self.job.number, "report", report)

    def close(self) -> None:
        """End the evaluator (its ``finally`` runs) and free what it held; twice does no harm."""
        self.ended = True
        reports, self._reports = self._reports, None
        try:
            if reports is not None and hasattr(reports, "close"):
                reports.close()
        except (Exception, SystemExit) as error:
            keep_traceback(self.job.folder, error)
        del reports
        free_gpu_memory()

    def _limited_report(self) -> Report:
        if self.time_limit is None:
            return self._new_report()
        if self._spent >= self.time_limit:
            raise TimeLimitReached
        with _interrupted_after(self.time_limit - self._spent):
            return self._new_report()

    def _new_report(self) -> Report:
        if self._reports is None:
            self._reports = _opened(self.job)
        while True:
            report = _plain(next(self._reports))
            if report.step > self.step:
                return report
            if report.last:
                raise StopIteration

    def _failed(self, reason: str) -> WorkerEvent:
        self.close()
        return WorkerEvent(self.job.number, "failed", reason=reason)


def _opened(job: Job) -> Iterator[Report]:
    from ..registry import EVALUATORS

    load_job_plugins(job.plugins)
    evaluator = EVALUATORS[job.evaluator["name"]].obj
    return iter(evaluator(job, **job.evaluator.get("params", {})))


def _plain(report: Any) -> Report:
    """The report with plain Python numbers, so that it reads the same in this process and as JSON from another."""
    if not isinstance(report, Report):
        raise TypeError(f"the evaluator yielded {type(report).__name__}; expected archwright's Report(step, metrics)")
    metrics = {str(name): float(value) for name, value in report.metrics.items()}
    return Report(int(report.step), metrics, float(report.seconds), bool(report.last))


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Raise TimeLimitReached in the block after ``seconds``, and again each second while something swallows it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise TimeLimitReached

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 1.0)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def free_gpu_memory() -> None:
    """Return what a finished candidate held on the GPU, cycles included; without a GPU in use there is nothing to do."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def set_threads(threads: int) -> int:
    """Let PyTorch use ``threads`` CPU threads; returns how many it used before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    return before
