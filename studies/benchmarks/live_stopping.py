"""Early stopping in studies that train: epochs and time until the best of the unstopped study is found, under every stopper.

Fashion-MNIST cut to 6,000 training images (``../shared/data/images/fashion_mnist.npz``), space ``conv-cells`` of 8 channels, 16 epochs,
60 candidates drawn at random, so that every stopper sees the same ones in the same order; Ray with two workers of one thread. A stopper
learns from at most 8 whole curves before it stops anything.

    python studies/benchmarks/live_stopping.py [STOPPER...] [--seeds 0 1 2] [--out FOLDER]

Studies are kept in FOLDER and gone on with, so the script may be cut off at any time: time counts from event to event of the journal,
and a silence of more than two minutes, in which nothing ran, does not.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from archwright.studies import launch
from archwright.studies.benchmarks._results import write
from archwright.studies.journal import read_journal
from archwright.studies.result import StudyResult

FASHION = Path(__file__).resolve().parents[3] / "shared" / "data" / "images" / "fashion_mnist.npz"
WARMUP = 8
WITHOUT = "none"
STOPPERS: dict[str, dict[str, Any] | None] = {
    WITHOUT: None,
    "asha": {"name": "asha"},
    "predictive-termination": {"name": "predictive-termination", "warmup": WARMUP},
    "risk-bounded": {"name": "risk-bounded", "warmup": WARMUP},
}
METRIC = "val_accuracy"
TOLERANCE = 0.002
SILENCE = 120.0
FIELDS = {
    "space": {"name": "conv-cells", "channels": 8, "stages": 2, "cells": 1},
    "controller": "random",
    "evaluator": {"name": "train", "batch_size": 128, "learning_rate": 0.01, "weight_decay": 0.01},
    "objectives": [METRIC],
    "engine": "ray",
    "workers": 2,
    "threads": 1,
    "top": 1,
    "tracking": "off",
}


def study(stopper: str, seed: int, options: argparse.Namespace) -> StudyResult:
    """The finished study, run, gone on with, or read."""
    out, name = Path(options.out), f"{stopper}-{seed}"
    if (out / name / launch.JOURNAL).is_file():
        return launch.resume(out / name, options.trials)
    task = {"name": "images", "path": options.data, "limit_train": options.images}
    size = {"trials": options.trials, "epochs": options.epochs, "seed": seed}
    return launch.run({**FIELDS, **size, "task": task, "stopper": STOPPERS[stopper], "folder": str(out), "name": name})


def progress(folder: Path) -> Iterator[tuple[int, float, float]]:
    """Epochs trained, seconds and the best final value so far, after each candidate that ran to the end."""
    epochs, seconds, best, before = 0, 0.0, float("-inf"), None
    for event in read_journal(folder / launch.JOURNAL):
        gap = event["time"] - before if before is not None else 0.0
        before = event["time"]
        seconds += gap if gap <= SILENCE else 0.0
        epochs += event["event"] == "report"
        if event["event"] == "told" and event["outcome"]["status"] == "completed":
            best = max(best, event["outcome"]["metrics"][METRIC])
            yield epochs, seconds, best


def until(steps: Sequence[tuple[int, float, float]], value: float) -> tuple[int, float] | None:
    """Epochs and seconds until a candidate ended at ``value`` or better; None if none did."""
    return next(((epochs, seconds) for epochs, seconds, best in steps if best >= value), None)


def figures_of(result: StudyResult) -> dict[str, Any]:
    steps = list(progress(result.folder))
    winner = result.best()[0]
    return {
        "steps": steps,
        "best": steps[-1][2],
        "epochs": result.epochs_spent,
        "seconds": steps[-1][1],
        "test_accuracy": winner["test_accuracy"],
        "counts": result.counts,
    }


def against(ours: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """What a stopper saves of the unstopped study of its seed: of all of it, and until the same best is found, or one within tolerance."""
    reached, needed = until(ours["steps"], plain["best"] - TOLERANCE), until(plain["steps"], plain["best"] - TOLERANCE)
    assert needed is not None
    return {
        "points_lost": 100 * (plain["best"] - ours["best"]),
        "lost": plain["best"] - ours["best"] > TOLERANCE,
        "epochs_saved_times": plain["epochs"] / ours["epochs"],
        "seconds_saved_times": plain["seconds"] / ours["seconds"],
        "epochs_to_the_best_times": needed[0] / reached[0] if reached else None,
        "seconds_to_the_best_times": needed[1] / reached[1] if reached else None,
    }


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Against the unstopped study of the same seed, for each stopper and seed, and the means of what is known of all seeds."""
    rows = {
        name: [against(ours, plain) for ours, plain in zip(found, runs[WITHOUT], strict=True)]
        for name, found in runs.items()
        if name != WITHOUT
    }
    return {name: {"seeds": seeds, "means": _means(seeds)} for name, seeds in rows.items()}


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return {key: None if None in values else statistics.fmean(values) for key, values in columns.items()}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stoppers", nargs="*", metavar="STOPPER", help=f"beside none: {', '.join(list(STOPPERS)[1:])}; by default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--images", type=int, default=6_000, help="training images")
    parser.add_argument("--data", default=str(FASHION), help="Fashion-MNIST as .npz (x_train, y_train, x_test, y_test)")
    parser.add_argument("--out", default="runs/live-stopping", help="folder of the studies (default: %(default)s)")
    parser.add_argument("--no-save", dest="save", action="store_false", help="print the figures, write no result file")
    options = parser.parse_args(given)
    unknown = [name for name in options.stoppers if name not in STOPPERS]
    if unknown:
        parser.error(f"{unknown[0]} is no stopper of this benchmark; choose from {', '.join(STOPPERS)}")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    names = [WITHOUT, *(name for name in STOPPERS if name != WITHOUT and (not options.stoppers or name in options.stoppers))]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in options.seeds:
        for name in names:
            runs[name].append(figures_of(study(name, seed, options)))
            shown = {key: value for key, value in runs[name][-1].items() if key != "steps"}
            print(name, seed, shown, flush=True)
        found = summary(runs)
        for name, row in found.items():
            print(name, {key: value if value is None else round(value, 3) for key, value in row["means"].items()}, flush=True)
        size = {key: getattr(options, key) for key in ("trials", "epochs", "images")}
        if options.save:
            write("live_stopping", {"against_none": found, "runs": runs, "settings": {**size, "warmup": WARMUP, "tolerance": TOLERANCE}})


if __name__ == "__main__":
    main()
