"""What the study itself costs: trials per second and memory with an evaluator that returns at once.

    python studies/benchmarks/overhead.py [--trials 10000] [--space token-mixers] [--task digits]

Random controller, inline executor, tracking off, duplicates checked by canonical digest.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archwright.studies.benchmarks._results import write
from archwright.studies.launch import run

MARKS = (100, 1000, 2000, 4000, 6000, 8000, 10_000, 20_000)


class Clock:
    """A follower that notes time and memory whenever a mark is passed."""

    def __init__(self, marks: tuple[int, ...]) -> None:
        self.marks, self.told = set(marks), 0
        self.points: list[tuple[int, float, float]] = []

    def heard(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "told" and event["outcome"]["status"] == "completed":
            self.told += 1
            if self.told in self.marks:
                self.points.append((self.told, time.perf_counter(), resident_mib()))

    def close(self) -> None:
        pass


def resident_mib() -> float:
    """Resident memory of this process in MiB (Linux)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=10_000)
    options.add_argument("--space", default="token-mixers")
    options.add_argument("--task", default="digits")
    options.add_argument("--controller", default="random")
    given = options.parse_args()
    clock = Clock(tuple(mark for mark in MARKS if mark <= given.trials) + ((given.trials,) if given.trials not in MARKS else ()))
    with tempfile.TemporaryDirectory() as folder:
        result = run(
            {"space": given.space, "task": None if given.task == "none" else given.task, "evaluator": "instant", "epochs": 1},
            followers=[clock], controller=given.controller, trials=given.trials, objectives="score", measure=[], tracking="off",
            stopper=None, threads=1, folder=folder,
        )  # fmt: skip
        journal = (result.folder / "journal.jsonl").stat().st_size / 2**20
    windows = [
        {"from": a[0], "to": b[0], "trials_per_second": round((b[0] - a[0]) / (b[1] - a[1])), "rss_mib": round(b[2], 1)}
        for a, b in zip(clock.points, clock.points[1:], strict=False)
    ]
    for window in windows:
        print(window)
    figures = {"space": given.space, "controller": given.controller, "windows": windows, "journal_mib": round(journal, 1)}
    figures |= {"duplicates": result.counts["duplicate"], "rss_at_first_mark_mib": round(clock.points[0][2], 1)}
    print(write("overhead", figures))


if __name__ == "__main__":
    main()
