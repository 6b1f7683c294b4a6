"""How much of a recorded score the architecture decides: what a model that has seen four fifths of a table says of the last fifth.

Run ``python studies/benchmarks/table_noise.py [FOLDER]``; FOLDER holds the tables (default ``../shared/data/nas``). Extra trees on the
coded choices predict every network from the other folds of five. ``explained_variance`` is of the scores' normal scores (ranks, mapped
to a normal distribution), since a few networks that fail would else be all of it. ``best_of_first`` is the best score among the first
50 or 100 of that ranking: a search that knew the rest of the table, and then had so many evaluations. Mean and standard error of ten
assignments to folds.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from rich.console import Console
from scipy.stats import norm, rankdata
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import KFold, cross_val_predict

from archwright.studies.benchmarks._results import write

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "nas"
NASBENCH201 = ["op_0to1", "op_0to2", "op_1to2", "op_0to3", "op_1to3", "op_2to3"]
GRAPH = ["link", "op1", "op2", "op3", "op4"]
#: File, columns of the choices, column of the score.
TABLES = {
    "nasbench-graph cora": ("nasbench_graph_cora", GRAPH, "valid_perf"),
    "nasbench-graph pubmed": ("nasbench_graph_pubmed", GRAPH, "valid_perf"),
    "nasbench201 cifar10": ("nasbench201", NASBENCH201, "valid_acc_200ep_cifar10"),
    "nasbench201 cifar10, 12 epochs": ("nasbench201", NASBENCH201, "val_acc_12ep_cifar10"),
}
FIRST, DRAWS = (50, 100), 10


def figures_of(rows: Any, choices: list[str], score: str) -> dict[str, Any]:
    """Explained variance and the best of the first networks of the ranking, with standard errors."""
    scores = rows[score].to_numpy()
    ranks = norm.ppf((rankdata(scores) - 0.5) / len(scores))
    inputs = pandas.get_dummies(rows[choices].astype(str)).to_numpy(float)
    found: dict[str, list[float]] = {"explained_variance": [], **{f"best_of_first_{first}": [] for first in FIRST}}
    for draw in range(DRAWS):
        folds = KFold(5, shuffle=True, random_state=draw)
        model = ExtraTreesRegressor(100, min_samples_leaf=2, random_state=draw)
        told = cross_val_predict(model, inputs, ranks, cv=folds)
        found["explained_variance"].append(1 - float(np.square(ranks - told).mean() / ranks.var()))
        for first in FIRST:
            found[f"best_of_first_{first}"].append(float(scores[np.argsort(-told)[:first]].max()))
    error = {key: statistics.stdev(values) / len(values) ** 0.5 for key, values in found.items()}
    return {"networks": len(rows), "best": float(scores.max()), **{key: [statistics.fmean(of), error[key]] for key, of in found.items()}}


def main() -> None:
    folder, console = Path(sys.argv[1] if len(sys.argv) > 1 else DATA), Console(width=150, highlight=False)
    figures: dict[str, Any] = {}
    for label, (file, choices, score) in TABLES.items():
        path = folder / f"{file}.parquet"
        if not path.is_file():
            console.print(f"{label} is left out: there is no {path}")
            continue
        figures[label] = figures_of(pandas.read_parquet(path).dropna(subset=[score]), choices, score)
        console.print(label, figures[label])
    if figures:
        write("table_noise", figures)


if __name__ == "__main__":
    main()
