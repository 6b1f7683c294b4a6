"""SIGKILL the driver at random moments, ten times in one study of real training, and resume each time.

    python studies/benchmarks/kill_resume.py [--kills 10] [--trials 20] [--epochs 6]

Checks that every trial is in the journal and in MLflow exactly once, that no finished one reran, that no epoch was reported
twice, and that the final leaderboard equals that of the same study left alone, number for number (wall-clock seconds aside).
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from archwright.studies.api import resume, run
from archwright.studies.benchmarks._results import write
from archwright.studies.journal import read_journal
from archwright.studies.result import StudyResult
from archwright.studies.tracking import connect, default_uri, runs_of

_DRIVER = """
import json, sys
from archwright.studies.api import resume, run
what, argument = sys.argv[1:]
resume(argument, progress=False) if what == "resume" else run(json.loads(argument), progress=False)
"""


def fields(folder: Path, name: str, trials: int, epochs: int) -> dict[str, Any]:
    return {
        "name": name,
        "space": "token-mixers",
        "task": "digits",
        "controller": "evolution",
        "constraints": {"flops": "<= 1e6"},
        "trials": trials,
        "epochs": epochs,
        "threads": 1,
        "folder": str(folder),
    }


def killed_once(what: str, argument: str, folder: Path, rng: random.Random, pace: float) -> str | None:
    """Start a driver, let it write its first event, kill it after up to ``pace`` seconds; the kind of the last event, None if it ended."""
    journal = folder / "journal.jsonl"
    before = journal.stat().st_size if journal.exists() else 0
    process = subprocess.Popen([sys.executable, "-c", _DRIVER, what, argument])
    while process.poll() is None and (not journal.exists() or journal.stat().st_size <= before):
        time.sleep(0.005)
    until = time.monotonic() + rng.uniform(0.0, pace)
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return None if process.returncode == 0 else list(read_journal(journal))[-1]["event"]


def repeats(folder: Path) -> dict[str, int]:
    """How often something stands in the journal more than once, and how often a finished trial was started again."""
    seen: Counter[tuple[str, int, int]] = Counter()
    finished: set[int] = set()
    reran = 0
    for event in read_journal(folder / "journal.jsonl"):
        kind, n = event["event"], event.get("n", -1)
        if kind in ("asked", "told", "started", "report", "tested"):
            seen[kind, n, event.get("step", 0)] += 1
        reran += kind in ("started", "report") and n in finished
        if kind == "told":
            finished.add(n)
    return {"twice_in_journal": sum(count > 1 for count in seen.values()), "reran": reran}


def in_mlflow(folder: Path) -> list[int]:
    """The trials of a study that MLflow holds, finished runs only, with repetitions."""
    client = connect(default_uri(folder.parent))
    experiment = client.get_experiment_by_name(folder.name).experiment_id
    found = runs_of(client, [experiment], "tags.`archwright.role` = 'trial'")
    return sorted(int(run.data.tags["archwright.trial"]) for run in found if run.info.status != "RUNNING")


def evaluated(result: StudyResult) -> list[int]:
    return sorted(
        n for n, trial in result.ledger.trials.items() if trial.outcome and trial.outcome.status in ("completed", "stopped", "failed")
    )


def comparable(result: StudyResult) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in result.leaderboard()]


def first_difference(one: Path, other: Path) -> list[dict[str, Any]] | None:
    """The first two events of two journals that say different things, clocks and crashes aside."""

    def said(folder: Path) -> list[dict[str, Any]]:
        events = [event for event in read_journal(folder / "journal.jsonl") if event["event"] not in ("study", "resumed")]
        return [_without_clocks(event) for event in events]

    return next(([a, b] for a, b in zip(said(one), said(other), strict=False) if a != b), None)


def _without_clocks(event: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in event.items() if key not in ("time", "seconds")}
    return kept | ({"outcome": _without_clocks(event["outcome"])} if "outcome" in event else {})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=10)
    options.add_argument("--trials", type=int, default=20)
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "killed"
        began = time.perf_counter()
        whole = run(fields(Path(root), "whole", given.trials, given.epochs), progress=False)
        seconds = time.perf_counter() - began
        what, argument = "run", json.dumps(fields(Path(root), "killed", given.trials, given.epochs))
        last: list[str] = []
        for _ in range(given.kills):
            kind = killed_once(what, argument, folder, rng, 1.6 * seconds / given.kills)
            if kind is None:
                break
            last.append(kind)
            what, argument = "resume", str(folder)
        result = resume(folder, progress=False)
        figures = {
            "kills": len(last),
            "last_event_before_each_kill": dict(Counter(last)),
            "trials": result.ledger.evaluated,
            "statuses": result.counts,
            "leaderboard_equal": comparable(result) == comparable(whole),
            "first_difference": first_difference(folder, whole.folder),
            **repeats(folder),
            "mlflow_exactly_once": in_mlflow(folder) == evaluated(result),
            "uninterrupted_seconds": round(seconds, 1),
        }
    print(json.dumps(figures, indent=2))
    print(write("kill_resume", figures))
    if not figures["leaderboard_equal"] or not figures["mlflow_exactly_once"] or figures["twice_in_journal"] or figures["reran"]:
        raise SystemExit("the killed study differs from the uninterrupted one")


if __name__ == "__main__":
    main()
