"""How well the end of a training is foreseen: predictors from curves on recorded learning curves.

Run ``python studies/benchmarks/curve_prediction.py [--draws N] [--processes P] [--data FOLDER] [--folder FOLDER]``; ``--data`` holds
the collections (default ``../shared/data/curves``; one that is not there is skipped). Each draw takes 100 finished curves at random to
learn from and predicts all others from a prefix. What was measured is kept in ``--folder``, so that a run that was cut off goes on;
measurements made by other code of the predictors are not used.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import archwright.predictors.curves as curves_package
from archwright.predictors.registry import PREDICTORS
from archwright.search_space.protocols import Observation
from archwright.search_space.seeds import derive_seed, generator
from archwright.studies.benchmarks._results import write
from archwright.studies.stopping.recorded import load_curves

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "curves"
PREFIXES = {
    "metaqnn_cifar10": (2, 5, 10),
    "deep_resnets_cifar10": (5, 12, 25),
    "lstm_ptb": (6, 15, 30),
    "nasbench_nlp_wikitext2_a": (5, 12, 25),
}
MEMBERS = ("last-value", "last-value-line", "parametric-curves", "curve-ridge", "curve-svr", "curve-boosting", "curve-ensemble")
LEARNED, REACH, TOP = 100, 1.645, 0.1

Task = tuple[str, int, int]


@functools.cache
def collection(path: str) -> list[Observation]:
    """The completed trainings of a file as observations."""
    recorded = load_curves(path)
    rows = zip(recorded.curves, recorded.features, recorded.finals, strict=True)
    return [Observation(tuple(map(float, curve)), features, float(final)) for curve, features, final in rows if np.isfinite(final)]


def measure(data: str, task: Task, members: Sequence[str]) -> dict[str, Any]:
    """One draw: learn from ``LEARNED`` curves, predict the finals of the others from their first ``step`` values."""
    name, step, draw = task
    seen = list(collection(str(Path(data) / f"{name}.parquet")))
    generator(derive_seed(0, "probe", name), "probe", draw).shuffle(seen)
    history, others = seen[:LEARNED], seen[LEARNED:]
    asked = [Observation(other.curve[:step], other.features) for other in others]
    return {member: scores(member, history, asked, np.array([other.final for other in others]), draw) for member in members}


def scores(member: str, history: Sequence[Observation], asked: Sequence[Observation], finals: Any, seed: int) -> dict[str, float]:
    """R squared, Spearman's rank correlation, coverage of the 90 % interval; error and bias on the best tenth, in units of gain."""
    from scipy.stats import spearmanr

    predictor = PREDICTORS[member].obj(seed=seed)
    predictor.fit(history)
    told = predictor.predict_many(asked)
    known = np.array([one is not None for one in told])
    means, spreads = (np.array([getattr(one, field) for one in told if one is not None]) for field in ("mean", "spread"))
    finals = finals[known]
    errors = means - finals
    best = finals >= np.quantile(finals, 1 - TOP)
    return {
        "r2": float(1 - np.square(errors).sum() / np.square(finals - finals.mean()).sum()),
        "spearman": float(spearmanr(means, finals).statistic),
        "coverage90": float(np.mean(np.abs(errors) <= REACH * spreads)),
        "coverage90_best_tenth": float(np.mean(np.abs(errors[best]) <= REACH * spreads[best])),
        "rmse_best_tenth": float(np.sqrt(np.square(errors[best]).mean())),
        "bias_best_tenth": float(errors[best].mean()),
        "answered": float(known.mean()),
    }


def timings(path: Path, members: Sequence[str], count: int = 500, step: int = 10) -> dict[str, dict[str, float]]:
    """Milliseconds of this process for one length's refit with ``count`` curves, and for one prediction after that."""
    seen = collection(str(path))[: count + 20]
    asked = [Observation(one.curve[:step], one.features) for one in seen[count:]]
    found = {}
    for member in members:
        predictor = PREDICTORS[member].obj(seed=0)
        refits, answers = [], []
        for _ in range(4):
            predictor.fit(seen[:count])
            refits.append(_milliseconds(predictor, asked[:1]))
            answers.append(min(_milliseconds(predictor, [one]) for one in asked))
        found[member] = {"refit_500_ms": round(float(np.median(refits[1:])), 1), "predict_ms": round(float(np.median(answers)), 2)}
    return found


def _milliseconds(predictor: Any, asked: Sequence[Observation]) -> float:
    start = time.process_time()
    for one in asked:
        predictor.predict(one)
    return 1000 * (time.process_time() - start)


def code() -> str:
    """A digest of the predictors' sources."""
    sources = sorted(Path(curves_package.__path__[0]).glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def kept(path: Path) -> dict[Task, dict[str, Any]]:
    """The measurements of an earlier run of the same code; a line cut off in the middle is dropped."""
    found: dict[Task, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["code"] == code():
            found[tuple(row["task"])] = row["scores"]
    return found


def _one(data: str, members: Sequence[str], task: Task) -> tuple[Task, dict[str, Any]]:
    return task, measure(data, task, members)


def run(data: Path, folder: Path, draws: int, processes: int, members: Sequence[str]) -> dict[Task, dict[str, Any]]:
    """All measurements, those at hand first; draw by draw, so that what is there early covers every file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "draws.jsonl"
    done = kept(path)
    names = [name for name in PREFIXES if (data / f"{name}.parquet").exists()]
    tasks = [(name, step, draw) for draw in range(draws) for name in names for step in PREFIXES[name]]
    missing = [task for task in tasks if not set(members) <= done.get(task, {}).keys()]
    with path.open("a") as file, multiprocessing.get_context("spawn").Pool(processes) as pool:
        found = pool.imap_unordered(functools.partial(_one, str(data), tuple(members)), missing)
        for task, measured in track(found, total=len(missing), description="draws"):
            done[task] = done.get(task, {}) | measured
            file.write(json.dumps({"code": code(), "task": task, "scores": done[task]}) + "\n")
            file.flush()
    return {task: done[task] for task in tasks}


def summary(found: dict[Task, dict[str, Any]], members: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each file and prefix the means over the draws, and the standard error of that of R squared."""
    for name, step in dict.fromkeys((name, step) for name, step, _ in found):
        rows = [scores for (file, length, _), scores in found.items() if (file, length) == (name, step)]
        figures: dict[str, Any] = {}
        for member in members:
            mean = {key: round(float(np.mean([row[member][key] for row in rows])), 4) for key in rows[0][member]}
            error = float(np.std([row[member]["r2"] for row in rows]) / max(1, len(rows) - 1) ** 0.5)
            figures[member] = mean | {"r2_error": round(error, 4)}
        yield f"{name} {step}", figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--folder", type=Path, default=Path("runs/curve_prediction"))
    parser.add_argument("--members", nargs="+", default=list(MEMBERS))
    given = parser.parse_args()
    found = run(given.data, given.folder, given.draws, given.processes, given.members)
    figures = dict(summary(found, given.members))
    for key in ("r2", "spearman", "coverage90", "coverage90_best_tenth", "rmse_best_tenth", "bias_best_tenth"):
        grid = Table("file, prefix", *given.members, title=f"{key}, mean of {given.draws} draws")
        for where, row in figures.items():
            grid.add_row(where, *(f"{row[member][key]:.4f}" for member in given.members))
        Console(width=180).print(grid)
    times = timings(given.data / "metaqnn_cifar10.parquet", given.members) if (given.data / "metaqnn_cifar10.parquet").exists() else {}
    Console().print(times)
    write("curve_prediction", {"draws": given.draws, "learned_from": LEARNED, "scores": figures, "times": times})


if __name__ == "__main__":
    main()
