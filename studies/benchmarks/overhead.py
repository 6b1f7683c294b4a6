"""What the study itself costs: trials per second and memory with an evaluator that returns at once.

    python studies/benchmarks/overhead.py [--trials 10000] [--space small-stack token-mixers]

Random controller, inline executor, tracking off, duplicates checked by canonical digest. ``small-stack`` is a space of 1 to 6
blocks with a real each; ``token-mixers`` is the largest space that ships.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from archwright import Architecture, Choices, Node, space
from archwright.studies.benchmarks._results import write
from archwright.studies.launch import run

MARKS = (100, 1000, 2000, 4000, 6000, 8000, 10_000, 20_000)


@space("small-stack")
def small_stack(choose: Choices) -> Architecture:
    """1 to 6 blocks in a row."""
    nodes = [Node("input", "input")]
    for here in choose.repeat("layer", 1, 6):
        kind = here.one_of("kind", ["gelu", "silu", "dropout"])
        params = {"p": here.real("p", 0.0, 0.5)} if kind == "dropout" else {}
        nodes.append(Node(here.path, kind, (nodes[-1].name,), params))
    return Architecture(tuple(nodes), nodes[-1].name)


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


def measured(name: str, trials: int, controller: str) -> dict[str, Any]:
    """Speed and memory between the marks of one study."""
    clock = Clock(tuple(mark for mark in MARKS if mark <= trials) + ((trials,) if trials not in MARKS else ()))
    with tempfile.TemporaryDirectory() as folder:
        task = None if name == "small-stack" else "digits"
        result = run(
            {"space": name, "task": task, "evaluator": "instant", "epochs": 1},
            followers=[clock], controller=controller, trials=trials, objectives="score", measure=[], tracking="off",
            stopper=None, threads=1, folder=folder,
        )  # fmt: skip
        journal = (result.folder / "journal.jsonl").stat().st_size / 2**20
    windows = [
        {"from": a[0], "to": b[0], "trials_per_second": round((b[0] - a[0]) / (b[1] - a[1])), "rss_mib": round(b[2], 1)}
        for a, b in pairwise(clock.points)
    ]
    figures = {"controller": controller, "windows": windows, "journal_mib": round(journal, 1), "duplicates": result.counts["duplicate"]}
    return figures | {"rss_at_first_mark_mib": round(clock.points[0][2], 1)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=10_000)
    options.add_argument("--space", nargs="+", default=["small-stack", "token-mixers"])
    options.add_argument("--controller", default="random")
    given = options.parse_args()
    figures = {}
    for name in given.space:
        figures[name] = measured(name, given.trials, given.controller)
        for window in figures[name]["windows"]:
            print(name, window)
    print(write("overhead", figures))


if __name__ == "__main__":
    main()
