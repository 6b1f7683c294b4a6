"""First light: the preset ``digits`` with three seeds.

Measures, per study seed: wall-clock seconds of the 40 trials, test accuracy of the winner (chosen on validation data alone),
the share of epochs the stopper saved, and whether the stopper cost the study its winner: every stopped candidate is afterwards
trained to its full budget from its checkpoint, and compared with the winner on validation data.

    python studies/benchmarks/digits.py [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from archwright.evaluators.executors.running import set_threads
from archwright.evaluators.registry import EVALUATORS
from archwright.search_space.protocols import Job
from archwright.studies import launch
from archwright.studies.benchmarks._results import write
from archwright.studies.config import make_config
from archwright.studies.parts import assemble
from archwright.studies.result import StudyResult
from archwright.studies.study import trial_folder

TARGETS = {"seconds": 360.0, "test_accuracy": 0.975, "epochs_saved": 0.20}


def finish_stopped(result: StudyResult) -> list[dict[str, float]]:
    """Train every stopped candidate to its full budget, in a copy of its folder; final validation metrics by trial."""
    parts = assemble(make_config(result.config))
    jobs = []
    for trial in result.ledger.trials.values():
        if trial.outcome is not None and trial.outcome.status == "stopped":
            folder = str(trial_folder(result.folder, trial.number))
            jobs.append(parts.job(trial.number, result.architecture(trial.number).to_json(), folder, trial.step))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(final_metrics, [job.to_json() for job in jobs]))


def final_metrics(data: dict[str, Any]) -> dict[str, float]:
    """The metrics a stopped candidate would have ended with."""
    job = Job.from_json(data)
    set_threads(1)
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(job.folder, copy, dirs_exist_ok=True)
        *_, last = EVALUATORS[job.evaluator["name"]].obj(replace(job, folder=copy), **job.evaluator["params"])
    return {"trial": job.number, **last.metrics}


def one_study(seed: int, folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    result = launch.run("digits", seed=seed, folder=str(folder), name=f"digits-{seed}", tracking="off")
    seconds = time.perf_counter() - started
    objective = result.objectives[0]
    winner = result.best()[0]
    finals = [objective.gain(final[objective.metric]) for final in finish_stopped(result)]
    best = objective.gain(winner[objective.metric])
    return {
        "seed": seed,
        "seconds": seconds,
        "winner": winner["trial"],
        "val_accuracy": winner["val_accuracy"],
        "test_accuracy": winner["test_accuracy"],
        "params": winner["params"],
        "epochs_saved": result.epochs_saved,
        "stopped": result.counts["stopped"],
        "best_stopped_final": max(finals, default=None),
        "winner_kept": all(final <= best for final in finals),
        "counts": result.counts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            rows.append(one_study(seed, Path(folder)))
            print(rows[-1], flush=True)
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in ("seconds", "test_accuracy", "epochs_saved", "val_accuracy")}
    figures = {"targets": TARGETS, "studies": rows, "mean": mean, "winner_kept": all(row["winner_kept"] for row in rows)}
    print(mean, "winner kept:", figures["winner_kept"])
    write("digits", figures)


if __name__ == "__main__":
    main()
