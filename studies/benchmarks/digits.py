"""First light: the preset ``digits`` with three seeds.

Measures, per study seed: wall-clock seconds of the 40 trials, test accuracy of the winner (chosen on validation data alone),
the share of epochs the stopper saved, and whether the stopper cost the study its winner: every stopped candidate is afterwards
trained to its full budget from its checkpoint, and compared with the winner on validation data.

    python studies/benchmarks/digits.py [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from _results import write

from archwright.evaluators.registry import EVALUATORS
from archwright.studies import launch
from archwright.studies.config import make_config
from archwright.studies.parts import assemble
from archwright.studies.result import StudyResult
from archwright.studies.study import trial_folder

TARGETS = {"seconds": 360.0, "test_accuracy": 0.975, "epochs_saved": 0.20}


def finish_stopped(result: StudyResult) -> list[dict[str, float]]:
    """Train every stopped candidate to its full budget, in a copy of its folder; final validation metrics by trial."""
    parts = assemble(make_config(result.config))
    train = EVALUATORS[result.config["evaluator"]["name"]].obj
    finals = []
    for trial in result.ledger.trials.values():
        if trial.outcome is None or trial.outcome.status != "stopped":
            continue
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(trial_folder(result.folder, trial.number), copy, dirs_exist_ok=True)
            job = parts.job(trial.number, result.architecture(trial.number).to_json(), copy, trial.step)
            *_, last = train(job, **result.config["evaluator"]["params"])
        finals.append({"trial": trial.number, **last.metrics})
    return finals


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
