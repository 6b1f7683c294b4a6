"""What the stopper saves and what it costs: replayed studies over real and synthetic learning curves.

Run ``python studies/benchmarks/stopping.py [FOLDER]``; FOLDER holds the collections of learning curves (default
``../shared/data/curves``; a collection that is not there is skipped). Each study draws its candidates at random from a collection
and trains them one after another; a stopped candidate's true final is known, so that a lost winner shows.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from archwright.predictors.predictive_termination import PredictiveTermination
from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.choices import Trace
from archwright.search_space.outcomes import Objective, Outcome, Report
from archwright.search_space.protocols import Candidate
from archwright.search_space.seeds import derive_seed, generator
from archwright.studies.benchmarks._results import write

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "curves"
STUDIES = 20
OBJECTIVE = Objective("score")
EMPTY = Architecture((Node("input", "input"),), "input")


@dataclass(frozen=True)
class Trial:
    """A recorded training: what was known before it, and the score after every epoch (larger is better)."""

    known: dict[str, float]
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Replay:
    """One replayed study: share of the epochs saved, whether the winner survived, and how far the best survivor is below it."""

    saved: float
    kept: bool
    regret: float


def replay(trials: Sequence[Trial], *, seed: int, **knobs: Any) -> Replay:
    """Run one study with the stopper over recorded curves, one candidate after another."""
    budget = len(trials[0].curve)
    stopper = PredictiveTermination((OBJECTIVE,), seed=seed, budget=budget, trials=len(trials), **knobs)
    spent, survivors = 0, []
    for number, trial in enumerate(trials):
        stopper.started(Candidate(number, Trace(), EMPTY, trial.known))
        steps = _train(stopper, number, trial)
        spent += steps
        if steps == budget:
            survivors.append(trial.curve[-1])
            stopper.told(number, Outcome("completed", {"score": trial.curve[-1]}, steps))
        else:
            stopper.told(number, Outcome("stopped", {"score": trial.curve[steps - 1]}, steps))
    best = max(trial.curve[-1] for trial in trials)
    return Replay(1 - spent / (budget * len(trials)), max(survivors) >= best, best - max(survivors))


def _train(stopper: PredictiveTermination, number: int, trial: Trial) -> int:
    for step, value in enumerate(trial.curve, 1):
        stopper.reported(number, Report(step, {"score": value}))
        if step < len(trial.curve) and stopper.verdict(number).stop:
            return step
    return len(trial.curve)


def synthetic(seed: int, count: int = 400, epochs: int = 16) -> list[Trial]:
    """Curves like those of small networks on the digits: fast or slow, a ceiling near 0.98, scores in 360ths."""
    rng = generator(seed, "probe", "curves")
    return [_digits_like(rng, epochs) for _ in range(count)]


def _digits_like(rng: random.Random, epochs: int) -> Trial:
    rate, size = rng.uniform(-3.5, -1.5), rng.uniform(3, 5)
    failure = 0.3 * rng.random() if rng.random() < 0.1 else 0.0
    ceiling = 0.985 - 0.03 * rng.random() ** 2 - 0.02 * abs(rate + 2.5) - 0.01 * (5 - size) - failure
    speed = 10 ** (0.6 * (rate + 2.5) + 0.2 * rng.gauss(0, 1)) * 0.6
    curve = []
    for epoch in range(1, epochs + 1):
        value = ceiling - (ceiling - 0.1) * (1 + epoch * speed) ** -1.7 + 0.004 * rng.gauss(0, 1)
        curve.append(round(360 * min(1.0, max(0.05, value))) / 360)
    return Trial({"rate": rate, "size": size}, tuple(curve))


def collections(folder: Path) -> Iterator[tuple[str, list[Trial]]]:
    """Name and trials of every collection at hand."""
    yield "synthetic digits, 16 epochs", synthetic(0)
    for name, columns, known, sign in (
        ("metaqnn_cifar10", [f"acc_{i}" for i in range(1, 21)], ["num_params", "depth", "lr"], 1),
        ("deep_resnets_cifar10", [f"acc_{i}" for i in range(50)], ["num_params", "lr"], 1),
        ("lstm_ptb", [f"ppl_{i}" for i in range(60)], ["n_layer", "n_inputs", "base_lr", "ss"], -1),
    ):
        path = folder / f"{name}.parquet"
        if path.exists():
            import pandas

            rows = pandas.read_parquet(path).dropna(subset=columns).to_dict("records")
            yield name, [Trial({k: float(row[k]) for k in known}, tuple(sign * float(row[c]) for c in columns)) for row in rows]


def measure(trials: Sequence[Trial], *, count: int = 40, studies: int = STUDIES, **knobs: Any) -> dict[str, float]:
    """Saved epochs and lost winners over ``studies`` replays of ``count`` candidates each."""
    replays = []
    for seed in range(studies):
        drawn = generator(seed, "probe", "draw").sample(list(trials), count)
        replays.append(replay(drawn, seed=derive_seed(seed, "fit"), **knobs))
    return {
        "studies": studies,
        "trials": count,
        "epochs_saved_mean": round(statistics.mean(r.saved for r in replays), 3),
        "epochs_saved_min": round(min(r.saved for r in replays), 3),
        "winner_kept": round(statistics.mean(r.kept for r in replays), 3),
        "regret_mean": round(statistics.mean(r.regret for r in replays), 5),
        "regret_max": round(max(r.regret for r in replays), 5),
    }


def main(folder: Path) -> None:
    table = Table(title="predictive termination, studies of 40 candidates, defaults")
    figures: dict[str, Any] = {}
    for name, trials in collections(folder):
        figures[name] = measure(trials)
        if not figures.keys() - {name}:
            for column in ("curves", *figures[name]):
                table.add_column(column, justify="left" if column == "curves" else "right")
        table.add_row(name, *(f"{value:g}" for value in figures[name].values()))
    Console().print(table)
    write("stopping", figures)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
