"""Predictor-guided search: a surrogate learns from what was evaluated and ranks what was not."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..search_space.choices import Integer, OneOf, Real, Trace, trace_key
from ..search_space.dominance import front
from ..search_space.outcomes import Objective, Outcome, gains
from ..search_space.protocols import Observation, Proposal
from ..search_space.seeds import derive_seed, generator
from ..search_space.space import Space
from .acquisition import ACQUISITIONS, expected_hypervolume_improvement, one_objective, scalarised_improvement
from .batch_selection import SELECTORS
from .candidates import Candidates, name_of, pool
from .ranking import Ranking
from .registry import controller
from .surrogates import MOST_ON_FRONTS, Learned, Result, checked_predictor, learned, trace_of

Array = Any

LONGEST_WAIT = 32
SHORTLIST = 3
RENEWED = 10
STARTS = 3


@dataclass(frozen=True)
class Plan:
    """What was known when a refit fell due: its number, how many results and asks there were, and who was running."""

    number: int
    results: int
    asks: int
    running: tuple[Observation, ...]


@controller(
    "predictor-guided",
    knobs={
        "initial": Integer(2, 500),
        "refit": Real(0.0, 1.0),
        "acquisition": OneOf(ACQUISITIONS),
        "incumbents": Integer(1, 100),
        "neighbours": Integer(1, 500),
        "bred": Integer(0, 1000),
        "drawn": Integer(0, 1000),
        "climbs": Integer(0, 20),
        "history": Integer(10, 5000),
        "selector": OneOf(("none", *SELECTORS)),
    },
    paper="BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture Search (2021, arXiv 1910.11858)",
)
class PredictorGuided:
    """Bayesian optimisation with a surrogate of networks: fit, make candidates around the best, rank them, ask in that order.

    The first ``initial`` candidates are drawn at random. Whenever the number of results has grown by the share ``refit`` since the
    last fit (by 1 at least, by 32 at most), one surrogate per objective is fitted to the results on a normal scale::

        t_i = Phi^-1((rank_i - 1/2) / n)                     failed and infeasible candidates rank below all others
        pool = every neighbour of the ``incumbents`` best  +  ``bred`` bolder descendants of them  +  ``drawn`` random candidates
        ``climbs`` times: the neighbours of the 3 candidates of the largest acquisition join the pool
        rank the pool by the acquisition of (mean, spread), never asking for a network twice

    One objective: expected improvement over the best (or another of ``acquisition``). Two: the exact expected hypervolume
    improvement on the normal scales. More: the expected improvement of random scalarisations. A ranking that is used up is followed
    by random candidates until the next refit. The ranking is a function of the seed and of what was known when the refit fell due,
    and is worked out when it is first asked for, so that resuming a study costs one fit.

    Args:
        space: what to search.
        objectives: what to improve.
        seed: the study's seed.
        predictor: the surrogate, a function ``predictor(seed=...)``; in a configuration the name of a registered predictor.
        initial: random candidates with a result before the first fit.
        refit: share by which the results grow between two fits; 0 fits after every result.
        acquisition: how one objective ranks candidates.
        incumbents: how many of the best have their neighbourhood searched.
        neighbours: the most neighbours of one incumbent in the pool.
        bred: candidates two edits from an incumbent, or an edit from a crossing of two.
        drawn: random candidates in the pool; a tenth of them is new at each fit.
        climbs: rounds of a local search for the largest acquisition, which leads far from what was evaluated.
        history: the most results fitted to: the best half of them, and a random choice of the rest.
        selector: how the candidates asked before the next refit are picked from three times as many of the highest rank, so that
            they differ (``lcmd``, ``maxdist``, ``maxdet``, ``kmeanspp``, ``random``); ``none`` keeps the ranking.

    Raises:
        ConfigError: ``predictor`` is not a function.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        *,
        seed: int,
        predictor: Any = "architecture-gp",
        initial: int = 10,
        refit: float = 0.125,
        acquisition: str = "expected-improvement",
        incumbents: int = 5,
        neighbours: int = 48,
        bred: int = 10,
        drawn: int = 100,
        climbs: int = 2,
        history: int = 400,
        selector: str = "none",
    ) -> None:
        self.objectives = tuple(objectives)
        self.fresh = math.ceil(drawn / RENEWED)
        self.seed = seed
        self.predictor = checked_predictor(predictor, "predictor-guided")
        self.candidates = Candidates(space, seed, neighbours)
        self.initial, self.refit, self.acquisition = initial, refit, acquisition
        self.incumbents, self.bred, self.drawn, self.climbs = incumbents, bred, drawn, climbs
        self.history, self.selector = history, selector
        self._running: dict[int, Observation] = {}
        self._asked: dict[str, int] = {}
        self._traces: dict[bytes, int] = {}
        self._results: list[Result] = []
        self._due = initial
        self._plan: Plan | None = None
        self._ranked: list[Observation] | None = None

    def ask(self, n: int) -> Proposal:
        for seen in self._ranking():
            if name_of(seen) not in self._asked:
                return Proposal(trace_of(seen))
        return Proposal(self.candidates.novel(generator(self.seed, "ask", n), self._asked))

    def asked(self, n: int, trace: Trace, note: Mapping[str, Any]) -> None:
        seen = self.candidates.of(trace)
        self._running[n] = seen
        self._traces.setdefault(trace_key(trace), len(self._asked))
        self._asked.setdefault(name_of(seen), len(self._asked))

    def told(self, n: int, outcome: Outcome) -> None:
        seen = self._running.pop(n)
        if outcome.status == "duplicate":
            return
        self._results.append((seen, gains(outcome, self.objectives)))
        if len(self._results) >= self._due:
            self._due = len(self._results) + self._wait()
            self._plan = Plan(
                self._plan.number + 1 if self._plan else 0, len(self._results), len(self._asked), tuple(self._running.values())
            )
            self._ranked = None

    def _wait(self) -> int:
        """Results until the next fit."""
        return min(max(int(len(self._results) * self.refit), 1), LONGEST_WAIT)

    def _ranking(self) -> Sequence[Observation]:
        """Candidates, the most promising first; none before the first fit."""
        if self._ranked is None:
            self._ranked = [] if self._plan is None else self._planned(self._plan)
        return self._ranked

    def _planned(self, plan: Plan) -> list[Observation]:
        import numpy as np

        seed = derive_seed(self.seed, "fit", plan.results)
        rng, numbers = random.Random(seed), np.random.default_rng(seed)
        known = learned(self.predictor, self._results[: plan.results], self.history, seed, rng)
        latest = range(plan.number * self.fresh, plan.number * self.fresh + self.drawn)
        met = {key for key, number in self._traces.items() if number < plan.asks}
        ranking = Ranking(known, lambda mean, spread: self._promise(mean, spread, known, numbers), met)
        ranking.add(pool(self.candidates, known.best(self.incumbents), rng, bred=self.bred, drawn=latest))
        for _ in range(self.climbs):
            ranking.climb(lambda seen: self.candidates.around(trace_of(seen)), STARTS)
        ranked = ranking.best_first()
        return ranked if self.selector == "none" else self._spread_out(ranked, known, plan, numbers)

    def _promise(self, mean: Array, spread: Array, known: Learned, numbers: Any) -> Array:
        """The acquisition of every candidate."""
        if mean.shape[1] == 1:
            return one_objective(self.acquisition, mean[:, 0], spread[:, 0], known.scores.max(), numbers)
        if mean.shape[1] > 2:
            return scalarised_improvement(mean, spread, known.scores, numbers)
        points = [tuple(row) for row in known.scores[known.order[:MOST_ON_FRONTS]].tolist()]
        return expected_hypervolume_improvement(mean, spread, [points[i] for i in front(points)], tuple(known.scores.min(axis=0)))

    def _spread_out(self, ranked: Sequence[Observation], known: Learned, plan: Plan, numbers: Any) -> list[Observation]:
        """The ranking with those asked before the next refit first: the best, then a selection among the next in rank."""
        wanted = self._due - plan.results
        asked = {name for name, number in self._asked.items() if number < plan.asks}
        short: list[Observation] = []
        for seen in ranked:
            if len(short) == SHORTLIST * wanted:
                break
            if name_of(seen) not in asked:
                short.append(seen)
        first = short[:1] + self._picked(short[1:], known, [*plan.running, *short[:1]], wanted - 1, numbers)
        chosen = {id(seen) for seen in first}
        return [*first, *(seen for seen in ranked if id(seen) not in chosen)]

    def _picked(
        self, found: Sequence[Observation], known: Learned, others: Sequence[Observation], count: int, numbers: Any
    ) -> list[Observation]:
        """``count`` candidates that differ from each other, from the results and from ``others``."""
        import numpy as np

        if not found or count < 1:
            return []
        whole = [*found, *(known.seen[i] for i in known.used), *others]
        embedded = np.hstack([surrogate.embed(whole) for surrogate in known.surrogates])
        picks = SELECTORS[self.selector](embedded[: len(found)], embedded[len(found) :], count, numbers)
        return [found[i] for i in picks]
