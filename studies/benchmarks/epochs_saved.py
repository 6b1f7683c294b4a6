"""Epochs saved over whole simulated studies, and how often the best is lost: ``results/epochs_saved.json``.

Run ``python studies/benchmarks/epochs_saved.py [--studies 1000] [--others 100] [--data FOLDER] [--out FOLDER]``. One setting for all
files: 5 % stated risk, tolerance 0.002 of accuracy, 0.5 of perplexity. Resumable: finished studies are on file under ``--out``.

The constants of ``risk-bounded`` were chosen on the first three of these files, so their figures are in-sample;
``nasbench_nlp_wikitext2_a`` was not aimed at.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from archwright.studies.benchmarks._results import write
from archwright.studies.stopping.api import STOPPER, study_stopping
from archwright.studies.stopping.report import report

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "curves"
FILES = {"metaqnn_cifar10": 0.002, "deep_resnets_cifar10": 0.002, "lstm_ptb": 0.5, "nasbench_nlp_wikitext2_a": None}
"""Tolerance in units of the metric; None for the usual one (0.75 % of the best loss)."""
TARGETS = {"metaqnn_cifar10": 7.0, "deep_resnets_cifar10": 3.5, "lstm_ptb": 4.0}
OTHERS = ("asha", "hyperband", "median", "predictive-termination")


def measured(path: Path, tolerance: float | None, *, studies: int, others: int, out: Path, jobs: int | None, plots: bool) -> dict[str, Any]:
    """All stoppers on one file, the default one with more studies."""
    found: dict[str, Any] = {}
    for stoppers, count in (((STOPPER,), studies), (OTHERS, others)):
        if count:
            done = study_stopping(path, stoppers=stoppers, studies=count, tolerance=tolerance, jobs=jobs, out=out)
            Console().print(report(done))
            facts = done.to_json()
            found = {**facts, **found, "stoppers": [*found.get("stoppers", ()), *facts["stoppers"]]}
            if plots:
                done.draw(out / f"{path.stem}-{count}.png")
    found["target"] = TARGETS.get(path.stem)
    found["share_of_oracle"] = found["stoppers"][0]["saving"] / found["oracle"]["saving"]
    return found


def main() -> None:
    """Measure the files that are there, and write the figures after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="of the default stopper")
    parser.add_argument("--others", type=int, default=100, help="of each of the others; 0 leaves them out")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("stopping"))
    parser.add_argument("--plots", action="store_true")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, tolerance in FILES.items():
        path = given.data / f"{name}.parquet"
        if path.exists():
            facts = {"studies": given.studies, "others": given.others, "out": given.out, "jobs": given.jobs, "plots": given.plots}
            figures[name] = measured(path, tolerance, **facts)
            write("epochs_saved", figures)


if __name__ == "__main__":
    main()
