"""Epochs saved over whole simulated studies, and how often the best is lost: ``results/epochs_saved.json``.

Run ``python studies/benchmarks/epochs_saved.py [--studies 1000] [--others 100] [--data FOLDER] [--own FOLDER] [--out FOLDER]``. One
setting for all collections of curves: 5 % stated risk, tolerance 0.002 of accuracy, 0.5 of perplexity. Resumable: finished studies are
on file under ``--out``.

A study draws 80 % of a collection, so that one or two trainings are the best of nearly all studies of a collection: its rate of loss
tells of these. ``smaller`` holds the default stopper on studies of 35 %, whose best is another one more often.

The constants of ``risk-bounded`` were chosen on the first three collections, so their figures are in-sample. ``nasbench_nlp_wikitext2_a``
was not aimed at, and neither were the searches at random that ``real_studies.py`` leaves in ``--own`` (left out when absent).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from archwright.studies.benchmarks._results import write
from archwright.studies.stopping.api import STOPPER, study_stopping
from archwright.studies.stopping.report import report
from archwright.studies.stopping.result import StoppingStudy

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "curves"
FILES = {"metaqnn_cifar10": 0.002, "deep_resnets_cifar10": 0.002, "lstm_ptb": 0.5, "nasbench_nlp_wikitext2_a": None}
"""Tolerance in units of the metric; None for the usual one (0.75 % of the best loss)."""
TARGETS = {"metaqnn_cifar10": 7.0, "deep_resnets_cifar10": 3.5, "lstm_ptb": 4.0}
OTHERS = ("asha", "hyperband", "median", "predictive-termination")
OWN = ("digits", "fashion-mnist")
METRICS = ("val_loss", "val_accuracy")
SMALLER = 0.35


@dataclass(frozen=True)
class Collection:
    """Curves to replay: a file, or studies and one of their metrics."""

    name: str
    sources: tuple[Path, ...]
    tolerance: float | None
    metric: str | None = None


def collections(data: Path, own: Path) -> Iterator[Collection]:
    """Those that are there."""
    for name, tolerance in FILES.items():
        path = data / f"{name}.parquet"
        if path.exists():
            yield Collection(name, (path,), tolerance)
    for task in OWN:
        studies = tuple(sorted(path.parent for path in own.glob(f"{task}-random-*/journal.jsonl")))
        for metric in METRICS if studies else ():
            yield Collection(f"{task} {metric}", studies, None, metric)


def measured(collection: Collection, *, studies: int, others: int, plots: bool, **options: Any) -> dict[str, Any]:
    """All stoppers on one collection, the default one with more studies and on smaller ones, too."""
    found: dict[str, Any] = {}
    for stoppers, count in (((STOPPER,), studies), (OTHERS, others)):
        if count:
            done = _replayed(collection, stoppers=stoppers, studies=count, **options)
            facts = done.to_json()
            found = {**facts, **found, "stoppers": [*found.get("stoppers", ()), *facts["stoppers"]]}
            if plots:
                done.draw(options["out"] / f"{collection.name}-{count}.png")
    found["target"] = TARGETS.get(collection.name)
    found["share_of_oracle"] = found["stoppers"][0]["saving"] / found["oracle"]["saving"]
    if others:
        found["smaller"] = _replayed(collection, stoppers=(STOPPER,), studies=others, share=SMALLER, **options).to_json()
    return found


def _replayed(collection: Collection, **options: Any) -> StoppingStudy:
    done = study_stopping(collection.sources, metric=collection.metric, tolerance=collection.tolerance, **options)
    Console(width=130).print(report(done))
    return done


def main() -> None:
    """Measure the collections that are there, and write the figures after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="of the default stopper (default: %(default)s)")
    parser.add_argument("--others", type=int, default=100, help="of each of the others, and of smaller ones; 0 leaves them out")
    parser.add_argument("--jobs", type=int, help="processes; by default one for each core")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the recorded collections")
    parser.add_argument("--own", type=Path, default=Path("runs/real-studies"), help="where real_studies.py left its studies")
    parser.add_argument("--out", type=Path, default=Path("stopping"), help="where finished replays are kept")
    parser.add_argument("--plots", action="store_true", help="draw each collection, too")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    for collection in collections(given.data, given.own):
        facts = {"studies": given.studies, "others": given.others, "plots": given.plots, "out": given.out, "jobs": given.jobs}
        figures[collection.name] = measured(collection, **facts)
        write("epochs_saved", figures)


if __name__ == "__main__":
    main()
