"""Early stopping with two objectives: epochs saved against members of the Pareto front lost, on real and synthetic curves.

Run ``python studies/benchmarks/pareto_stopping.py [FOLDER]``; FOLDER holds the collections of learning curves (default
``../shared/data/curves``; a collection that is not there is skipped). Each study draws its candidates at random from a collection
and trains them one after another; the true final of a stopped candidate is known, so that a lost member of the front shows. The
second objective is the number of parameters, known before training. Beside the rule ``pareto`` stand the median rule on the score,
a rule that stops what is dominated where it stands, and no stopping.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from archwright.predictors.bandit import GO_ON
from archwright.predictors.median_stopping import Median
from archwright.predictors.pareto_stopping import ParetoStopping
from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.choices import Trace
from archwright.search_space.dominance import Gains, dominates, front
from archwright.search_space.hypervolume import hypervolume
from archwright.search_space.outcomes import Objective, Outcome, Report
from archwright.search_space.protocols import Candidate, Stopper, Verdict
from archwright.search_space.seeds import generator
from archwright.studies.benchmarks._results import write

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "curves"
STUDIES, CANDIDATES = 30, 150
RISKS = (0.01, 0.05, 0.2)
PARAMS = Objective("params", "min")
EMPTY = Architecture((Node("input", "input"),), "input")

Make = Callable[[Objective, int, int], Stopper]


@dataclass(frozen=True)
class Trial:
    """A recorded training: the parameters of the network, and the metric after every epoch."""

    params: float
    curve: tuple[float, ...]

    def vector(self, objective: Objective) -> Gains:
        return objective.gain(self.curve[-1]), -math.log(self.params)


@dataclass(frozen=True)
class Replay:
    """One study: share of epochs used, members of the true front and how many of them were stopped, share of the hypervolume lost."""

    used: float
    members: int
    lost: int
    hypervolume_loss: float


class DominatedNow:
    """Stops a candidate that some other, with no more parameters, was no worse than at the same step."""

    def __init__(self, objective: Objective, budget: int) -> None:
        self.objective = objective
        self.first = max(2, math.ceil(0.15 * budget))
        self.seen: dict[int, tuple[float, list[float]]] = {}

    def started(self, candidate: Candidate) -> None:
        self.seen[candidate.number] = (-candidate.known["params"], [])

    def reported(self, n: int, report: Report) -> None:
        self.seen[n][1].append(self.objective.gain(report.metrics[self.objective.metric]))

    def verdict(self, n: int) -> Verdict:
        size, curve = self.seen[n]
        step = len(curve)
        others = ((gains[step - 1], known) for m, (known, gains) in self.seen.items() if m != n and len(gains) >= step)
        beaten = step >= self.first and any(dominates(other, (curve[-1], size)) for other in others)
        return Verdict(True, {}, "dominated") if beaten else GO_ON

    def told(self, n: int, outcome: Outcome) -> None:
        """What was stopped counts as far as it went."""


class Never:
    """Stops nobody."""

    def started(self, candidate: Candidate) -> None: ...

    def reported(self, n: int, report: Report) -> None: ...

    def verdict(self, n: int) -> Verdict:
        return GO_ON

    def told(self, n: int, outcome: Outcome) -> None: ...


def rules(predictor: bool = False) -> dict[str, Make]:
    """The rules by name, each made of the score's objective, the budget and a seed."""

    def pareto(risk: float, **knobs: Any) -> Make:
        return lambda score, budget, seed: ParetoStopping((score, PARAMS), seed=seed, budget=budget, trials=CANDIDATES, risk=risk, **knobs)

    made: dict[str, Make] = {
        "none": lambda score, budget, seed: Never(),
        "median": lambda score, budget, seed: Median((score,), seed=seed, budget=budget, trials=CANDIDATES),
        "dominated now": lambda score, budget, seed: DominatedNow(score, budget),
        **{f"pareto, risk {risk:g}": pareto(risk) for risk in RISKS},
    }
    return {**made, "pareto with curve-svr, risk 0.05": pareto(0.05, predictor="curve-svr")} if predictor else made


def replay(stopper: Stopper, trials: Sequence[Trial], objective: Objective) -> Replay:
    """Run one study with the stopper over recorded curves, one candidate after another."""
    budget, spent, stopped = len(trials[0].curve), 0, set()
    for number, trial in enumerate(trials):
        known = {"params": trial.params}
        stopper.started(Candidate(number, Trace(), EMPTY, known))
        steps = _train(stopper, number, trial, objective.metric)
        spent += steps
        if steps < budget:
            stopped.add(number)
        status: Any = "completed" if steps == budget else "stopped"
        stopper.told(number, Outcome(status, {objective.metric: trial.curve[steps - 1], **known}, steps))
    vectors = [trial.vector(objective) for trial in trials]
    members = front(vectors)
    worst = tuple(map(min, zip(*vectors, strict=True)))
    kept = hypervolume([vector for number, vector in enumerate(vectors) if number not in stopped], worst)
    return Replay(spent / (budget * len(trials)), len(members), len(stopped.intersection(members)), 1 - kept / hypervolume(vectors, worst))


def _train(stopper: Stopper, number: int, trial: Trial, metric: str) -> int:
    for step, value in enumerate(trial.curve, 1):
        stopper.reported(number, Report(step, {metric: value}))
        if step < len(trial.curve) and stopper.verdict(number).stop:
            return step
    return len(trial.curve)


def synthetic(seed: int = 0, count: int = 1500, epochs: int = 20) -> list[Trial]:
    """Errors that fall by a power law: larger networks end lower, some learn slowly, some never do well."""
    rng = generator(seed, "probe", "curves")
    trials = []
    for _ in range(count):
        size, speed = rng.uniform(3, 6), 0.7 * math.exp(0.3 * rng.gauss(0, 1))
        floor = 0.4 - 0.06 * (size - 3) + 0.05 * rng.gauss(0, 1) + (0.24 * rng.random() if rng.random() < 0.15 else 0.0)
        curve = [max(0.01, floor + 0.5 * epoch**-speed + 0.006 * rng.gauss(0, 1)) for epoch in range(1, epochs + 1)]
        trials.append(Trial(10**size, tuple(curve)))
    return trials


def collections(folder: Path) -> Iterator[tuple[str, Objective, list[Trial]]]:
    """Name, objective and trials of every collection at hand."""
    yield "synthetic errors, 20 epochs", Objective("error", "min"), synthetic()
    sources: tuple[tuple[str, Objective, list[str], Callable[[Any], float]], ...] = (
        ("metaqnn_cifar10", Objective("accuracy"), [f"acc_{i}" for i in range(1, 21)], lambda row: row["num_params"]),
        ("deep_resnets_cifar10", Objective("accuracy"), [f"acc_{i}" for i in range(50)], lambda row: row["num_params"]),
        (
            "lstm_ptb",
            Objective("perplexity", "min"),
            [f"ppl_{i}" for i in range(60)],
            lambda row: 8 * row["n_layer"] * row["n_inputs"] ** 2,  # the weights of its recurrent layers
        ),
    )
    for name, objective, columns, size in sources:
        path = folder / f"{name}.parquet"
        if path.exists():
            import pandas

            rows = pandas.read_parquet(path).dropna(subset=columns).to_dict("records")
            yield name, objective, [Trial(float(size(row)), tuple(float(row[c]) for c in columns)) for row in rows]


def measure(
    trials: Sequence[Trial], objective: Objective, make: Make, *, studies: int = STUDIES, count: int = CANDIDATES
) -> dict[str, Any]:
    """One rule over ``studies`` replays of ``count`` candidates each; the interval of the lost share is the exact 95 % one."""
    from scipy.stats import binomtest

    replays = []
    for seed in range(studies):
        drawn = generator(seed, "probe", "draw").sample(list(trials), count)
        replays.append(replay(make(objective, len(drawn[0].curve), seed), drawn, objective))
    lost, members = sum(r.lost for r in replays), sum(r.members for r in replays)
    interval = binomtest(lost, members).proportion_ci(method="exact")
    return {
        "studies": studies,
        "trials": count,
        "epochs_used": round(statistics.mean(r.used for r in replays), 3),
        "members_per_study": round(members / studies, 1),
        "members_lost": round(lost / members, 4),
        "members_lost_low": round(float(interval.low), 4),
        "members_lost_high": round(float(interval.high), 4),
        "hypervolume_loss": round(statistics.mean(r.hypervolume_loss for r in replays), 5),
    }


def main(folder: Path) -> None:
    table = Table(title=f"stopping with two objectives: {STUDIES} studies of {CANDIDATES} candidates")
    for column in ("curves", "rule", "epochs used", "members lost", "95 % interval", "hypervolume lost"):
        table.add_column(column, justify="left" if column in ("curves", "rule") else "right")
    figures: dict[str, dict[str, Any]] = {}
    for name, objective, trials in collections(folder):
        figures[name] = {}
        for rule, make in rules(predictor=name == "metaqnn_cifar10").items():
            found = figures[name][rule] = measure(trials, objective, make, studies=6 if "curve-svr" in rule else STUDIES)
            interval = f"{found['members_lost_low']:.1%} to {found['members_lost_high']:.1%}"
            lost, volume = f"{found['members_lost']:.1%}", f"{found['hypervolume_loss']:.2%}"
            table.add_row(name, rule, f"{found['epochs_used']:.1%}", lost, interval, volume)
    Console().print(table)
    write("pareto_stopping", figures)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
