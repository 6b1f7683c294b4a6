"""What the Ray executor itself costs: trials per second and the driver's memory, with three-report trials that return at once.

python studies/benchmarks/ray_overhead.py [--trials 2000] [--workers 2]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from typing import Any

from archwright.evaluators.executors.ray_pool import RayExecutor
from archwright.search_space.protocols import Executor, Job
from archwright.studies.benchmarks._results import write
from archwright.studies.benchmarks.overhead import resident_mib

WINDOW = 400
UNITS = 3


def job(number: int, folder: str) -> Job:
    """A trial of ``UNITS`` reports without any work."""
    nothing: dict[str, Any] = {"name": "none", "params": {}}
    return Job(number, {"number": number}, nothing, {"name": "instant", "params": {}}, 0, UNITS, f"{folder}/{number:04d}")


def evaluate(executor: Executor, numbers: range, folder: str) -> int:
    """Run trials with every slot busy; returns how many reports arrived."""
    waiting, running, reports = iter(numbers), 0, 0
    for number in itertools.islice(waiting, executor.slots):
        executor.start(job(number, folder))
        running += 1
    while running:
        event = executor.next_event()
        assert event.report is not None, event.reason
        reports += 1
        if event.report.last:
            running -= 1
            following = next(waiting, None)
            if following is not None:
                executor.start(job(following, folder))
                running += 1
    return reports


def measure(trials: int, workers: int) -> dict[str, Any]:
    """Trials per second in windows of ``WINDOW``, and resident memory after each."""
    began = time.perf_counter()
    executor = RayExecutor(workers=workers, threads=1)
    rates, memory = [], []
    with tempfile.TemporaryDirectory() as folder:
        evaluate(executor, range(-workers, 0), folder)
        ready = time.perf_counter() - began
        for first in range(0, trials, WINDOW):
            window = range(first, min(first + WINDOW, trials))
            start = time.perf_counter()
            reports = evaluate(executor, window, folder)
            assert reports == UNITS * len(window), f"{reports} reports of {len(window)} trials"
            rates.append(len(window) / (time.perf_counter() - start))
            memory.append(resident_mib())
    executor.close()
    return {
        "workers": workers,
        "trials": trials,
        "reports_per_trial": UNITS,
        "start_s": round(ready, 2),
        "first_400_trials_per_s": round(rates[0], 1),
        "median_trials_per_s": round(statistics.median(rates), 1),
        "slowest_400_trials_per_s": round(min(rates), 1),
        "driver_mib_after_400": round(memory[0], 1),
        "driver_mib_at_end": round(memory[-1], 1),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=2000)
    options.add_argument("--workers", type=int, default=2)
    given = options.parse_args()
    figures = measure(given.trials, given.workers)
    for name, value in figures.items():
        print(f"{name:26} {value}")
    print(f"written to {write('ray_overhead', figures)}")


if __name__ == "__main__":
    main()
