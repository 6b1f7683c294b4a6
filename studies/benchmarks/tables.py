"""Controllers against each other on every table of recorded evaluations: the figures the project stands by.

Run ``python studies/benchmarks/tables.py [SUITE...] [--seeds N] [--jobs N] [--out FOLDER]``; without a suite, all of them. Finished
runs are kept in FOLDER (default ``comparisons``), so that a second call goes on where the first one stopped, and a controller whose
code has changed is run anew. The suites that ran take their place in ``results/tables.json``, the others keep theirs.

A controller that is not registered is left out, and so is a table whose file is not there; a printed line says so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from archwright import compare
from archwright.evaluators.tables.registry import TABLES
from archwright.search_space.errors import ArchwrightError
from archwright.studies.benchmarks._results import RESULTS, write
from archwright.studies.compare.contender import contender
from archwright.studies.compare.report import report
from archwright.studies.compare.result import Comparison

REGULARIZED = "evolution:population=30,sample=10,crossover=0.0,novelty=0"
#: What others use.
PEERS = ("random", REGULARIZED, "optuna", "local-search")
#: What is ours, or ours to tune.
OURS = ("predictor-guided", "predictor-filtered-genetic", "evolution")
#: So slow that they run with fewer seeds.
SLOW = {"optuna:sampler=gp": 20}
MO_TPE = "optuna:sampler_options={multivariate: true}"
MULTI_PEERS = ("random", "optuna:sampler=nsga-ii", MO_TPE)
#: Optuna's default with several objectives: each choice by itself, at five times the cost.
SLOW_MULTI = {"optuna": 5}
MULTI_OURS = ("predictor-guided", "evolution", "pareto-tournament-evolution")
LEARNED = ("rnn-reinforce", "ppo", "conservative-rl")

DATASETS = ("cifar10", "cifar100", "imagenet16_120")
DEVICES = ("1080ti_32", "eyeriss", "fpga", "pixel3", "raspi4", "samsung_a50")
Runs = Callable[["Bench"], Iterable[tuple[str, Comparison]]]
console = Console(width=150, highlight=False)


@dataclass
class Bench:
    """What the command line asked for.

    Args:
        seeds: at most so many; None for those of each suite.
        jobs: processes; None for all cores.
        out: folder of all runs.
        missing: names that were left out.
    """

    seeds: int | None = None
    jobs: int | None = None
    out: str = "comparisons"
    missing: set[str] = field(default_factory=set)

    def known(self, names: Iterable[str]) -> list[str]:
        """The names that can be made: they and the predictors they ask for are registered."""
        found = []
        for name in names:
            try:
                _ = contender(name).key
                found.append(name)
            except ArchwrightError as error:
                if name not in self.missing:
                    console.print(f"{name} is left out: {error}")
                self.missing.add(name)
        return found

    def compare(self, table: str, names: Sequence[str], seeds: int, **more: Any) -> Comparison | None:
        """One comparison, printed; None where its table is not there."""
        chosen = self.known(names)
        seeds = min(seeds, self.seeds or seeds)
        try:
            if table not in TABLES:
                raise ArchwrightError(f'no table is called "{table}" yet')
            found = compare(chosen, table=table, seeds=seeds, jobs=self.jobs, out=self.out, **more)
        except ArchwrightError as error:
            console.print(f"{table} {more.get('params', '')} is left out: {error}")
            return None
        console.print(report(found))
        for sentence in found.failures:
            console.print(f"[red]{sentence}[/red]")
        return found


def _nasbench201(bench: Bench) -> Iterable[tuple[str, Comparison]]:
    for dataset in DATASETS:
        yield from _one(bench, dataset, "nasbench201", (*OURS, *LEARNED, *PEERS), 100, params={"dataset": dataset}, budget=200)


def _short_training(bench: Bench) -> Iterable[tuple[str, Comparison]]:
    """Searched on the validation accuracy after 12 epochs, whose noise is what a cheap search sees."""
    yield from _one(bench, "cifar10", "nasbench201", (*OURS, *PEERS), 100, params={"dataset": "cifar10", "epochs": 12}, budget=200)


def _graph(bench: Bench) -> Iterable[tuple[str, Comparison]]:
    for dataset in ("cora", "pubmed"):
        yield from _one(bench, dataset, "nasbench-graph", (*OURS, *PEERS), 100, params={"dataset": dataset}, budget=100)


def _macro(bench: Bench) -> Iterable[tuple[str, Comparison]]:
    yield from _one(bench, "cifar10", "nasbench-macro", (*OURS, *PEERS), 100, budget=200, levels=(93.05, 93.10))


def _pareto(bench: Bench) -> Iterable[tuple[str, Comparison]]:
    """Accuracy and latency: hypervolume above 10 % accuracy and below the largest latency, both scaled to [0, 1]."""
    for device in DEVICES:
        yield from _one(bench, device, "nasbench201", (*MULTI_OURS, *MULTI_PEERS), 30, **_two_objectives(device))


def _two_objectives(device: str) -> dict[str, Any]:
    return {"params": {"device": device}, "budget": 200, "reference": {"valid_accuracy": 10.0}}


def _learned(bench: Bench) -> Iterable[tuple[str, Comparison]]:
    """Policies, which learn slowly, over a longer search."""
    for dataset in DATASETS:
        yield from _one(bench, dataset, "nasbench201", (*LEARNED, "random", REGULARIZED), 10, params={"dataset": dataset}, budget=2000)


def _one(bench: Bench, name: str, table: str, names: Sequence[str], seeds: int, **more: Any) -> Iterable[tuple[str, Comparison]]:
    found = bench.compare(table, names, seeds, **more)
    if found is not None:
        yield name, found


def _slow(bench: Bench) -> Iterable[tuple[str, Comparison]]:
    """The controllers that are too slow for all seeds, beside the others with the seeds that they have."""
    for slow, seeds in SLOW.items():
        for dataset in DATASETS:
            names = (*OURS, *PEERS, slow)
            yield from _one(bench, f"{dataset}, {slow}", "nasbench201", names, seeds, params={"dataset": dataset}, budget=200)
    for slow, seeds in SLOW_MULTI.items():
        for device in DEVICES:
            names = (*MULTI_OURS, *MULTI_PEERS, slow)
            yield from _one(bench, f"{device}, {slow}", "nasbench201", names, seeds, **_two_objectives(device))


SUITES: dict[str, Runs] = {
    "nasbench201": _nasbench201,
    "nasbench201-12": _short_training,
    "graph": _graph,
    "macro": _macro,
    "pareto": _pareto,
    "rl": _learned,
    "slow": _slow,
}


def figures(comparison: Comparison) -> dict[str, Any]:
    """Means, standard errors and tests of a comparison, without its curves and single runs."""
    whole = comparison.to_json()
    dropped = ("final_scores", "seeds")
    controllers = [
        {**{key: value for key, value in item.items() if key not in dropped}, "seeds": len(item["seeds"])} for item in whole["controllers"]
    ]
    peers = {*PEERS, *MULTI_PEERS, *SLOW, *SLOW_MULTI}
    pairs = [pair for pair in whole["pairs"] if pair["left"] in peers or pair["right"] in peers]
    kept = {key: whole[key] for key in ("setting", "remark", "score")}
    return {**kept, "controllers": controllers, "against_peers": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description="Controllers against each other on every table of recorded evaluations.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"one or more of {', '.join(SUITES)}; by default all")
    parser.add_argument("--seeds", type=int, help="at most so many, for a quick look")
    parser.add_argument("--jobs", type=int, help="processes; by default one for each core")
    parser.add_argument("--out", default="comparisons", help="folder of all runs (default: %(default)s)")
    given = parser.parse_args()
    for name in given.suites:
        if name not in SUITES:
            parser.error(f'no suite is called "{name}"; there are {", ".join(SUITES)}')
    bench = Bench(given.seeds, given.jobs, given.out)
    for name in given.suites or SUITES:
        console.rule(name)
        found = {label: figures(comparison) for label, comparison in _pictured(SUITES[name](bench))}
        if found and given.seeds is None:
            write("tables", {**_written(), name: found})


def _pictured(found: Iterable[tuple[str, Comparison]]) -> Iterable[tuple[str, Comparison]]:
    """Each comparison with its file and pictures in the folder of its setting; the first one of a setting, which has all seeds."""
    seen = set()
    for label, comparison in found:
        if comparison.folder is not None and comparison.folder not in seen:
            comparison.write(comparison.folder)
            seen.add(comparison.folder)
        yield label, comparison


def _written() -> dict[str, Any]:
    """The figures of earlier calls."""
    path = RESULTS / "tables.json"
    return json.loads(path.read_text())["figures"] if path.is_file() else {}


if __name__ == "__main__":
    main()
