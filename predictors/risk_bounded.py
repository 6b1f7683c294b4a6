"""Stop a candidate that would hardly look as it does if it were the winner: ``risk-bounded``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..search_space.choices import Domain, Integer, Real
from ..search_space.outcomes import Objective, Outcome, Prediction, Report
from ..search_space.protocols import Candidate, Observation, Verdict
from ..search_space.registry import Entry
from ..search_space.seeds import derive_seed, generator
from .features import candidate_features
from .one_objective import only_objective
from .predictive_termination import Scale, refit_at, trained_from
from .registry import PREDICTORS, check_knobs, stopper
from .risk_bounded_finals import ExpectedFinals
from .risk_bounded_predicted import PredictedFinals
from .risk_bounded_reach import Plan, Reach

KNOBS: dict[str, Domain] = {
    "risk": Real(0.0, 0.5),
    "tolerance": Real(0.0, 1e9),
    "share": Real(0.0, 1.0),
    "warmup": Integer(6, 1000),
}
GO_ON = Verdict(False)
APART = 1.25
"""Ratio of one check to the next, once they are further apart than a step."""
FIRST = 0.03
"""Share of the budget before which nobody is judged."""
LATE = 1.0
"""By how much wider the reach is at the end of a training than at its beginning: little is saved there."""


@dataclass
class _Run:
    """What was heard of one candidate; ``free`` ones are never stopped, and ``drawn`` those that owe it to chance."""

    features: dict[str, float]
    free: bool
    drawn: bool
    gains: list[float] = field(default_factory=list)
    final: float | None = None
    needed: float | None = None


@dataclass(frozen=True)
class _Fit:
    """What was learned from the first ``count`` candidates that completed or were stopped."""

    count: int
    scale: Scale
    finals: ExpectedFinals | PredictedFinals
    table: _Table
    reach: Reach

    def expected(self, curve: Sequence[float], features: Mapping[str, float], check: int) -> tuple[float, float] | None:
        """Mean and error of the final expected after ``curve``."""
        if isinstance(self.finals, PredictedFinals):
            return self.finals.expected(curve, features)
        return self.finals.expected(curve, self.table.row(features), check)


@dataclass(frozen=True)
class _Table:
    """Features as rows: an option never chosen is 0, anything else unknown is as usual (the median)."""

    names: tuple[str, ...]
    usual: tuple[float, ...]

    @classmethod
    def of(cls, seen: Sequence[Mapping[str, float]]) -> _Table:
        names = tuple(sorted({name for features in seen for name in features}))
        known = [[features[name] for features in seen if name in features] for name in names]
        return cls(names, tuple(0.0 if "=" in name else statistics.median(have) for name, have in zip(names, known, strict=True)))

    def row(self, features: Mapping[str, float]) -> Any:
        import numpy as np

        return np.array([features.get(name, usual) for name, usual in zip(self.names, self.usual, strict=True)])


@stopper("risk-bounded", knobs=KNOBS)
class RiskBounded:
    r"""Stops a candidate that would hardly look as it does if it were to beat the incumbent by more than the tolerance.

    ``risk`` is the probability, over a whole study, that the reported winner is worse than the best candidate of the study by more than
    ``tolerance``. Only the best candidate can be lost in that sense, so each candidate is put to one test at that level: were it to end
    at :math:`y^* + tolerance`, would it be expected to look as bad as this (:class:`~.risk_bounded_reach.Reach`)? What it is expected
    to end at comes from a penalised regression at each check (:class:`~.risk_bounded_finals.ExpectedFinals`); the first is at 3 % of
    the budget, and each of the others a quarter further than the one before. It learns from what was stopped, too, and is refitted each
    time the candidates that completed or were stopped have grown by 10 % and at least 2.

    The first ``warmup`` candidates and a random ``share`` of the rest always run to the end. The test is calibrated on these alone:
    other completed candidates were let through by the rule itself. The random share is the audit (:meth:`audit`).

    **When the bound holds.** If (1) candidates come in an order that says nothing of their curves (random search; a controller that
    improves makes late candidates better than the simulated studies have them, and the best then arrives with a smaller lead), (2)
    given the final, what was expected of a curve is a line in the final plus errors that do not depend on it, (3) the upper half of the
    finals is that of a normal distribution, and (4) the recorded curves of the warm-up show how large errors get. All of these are
    approximations: with 25 curves nobody can verify a probability of 5 %. That the rate of loss stays below the stated risk on recorded
    collections of curves is what ``archwright study-stopping`` measures, and is empirical.

    The constants of the rule were chosen by replaying the collections MetaQNN, deep ResNets and LSTM PTB under some dozens of settings.
    Rates of loss on these three are therefore hopeful, whatever the seeds of the replay: other seeds draw the same curves.

    The bound is known to fail where the best are unlike the rest and the warm-up holds none like them: on random recurrent cells
    (NAS-Bench-NLP) and on small networks for handwritten digits, whose best learn slowly at first, the best was lost several times as
    often as stated. Replay curves of your own kind: ``archwright study-stopping --curves STUDY``.

    A metric that is made small and has been positive throughout is looked at on the scale of its logarithm.

    Args:
        objectives: exactly one.
        seed: of the random share and of the simulated studies.
        budget: units of budget a full training takes.
        trials: candidates the study plans.
        risk: probability of the loss over the whole study; 0 never stops.
        tolerance: how much worse than the best the winner may be, in units of the metric; by default 0.002 of a metric made large
            (of the incumbent where that is above 1), and 0.75 % of the incumbent of one made small.
        share: of the candidates after the warm-up, those that always run to the end.
        warmup: candidates at the start that always run to the end; by default ``trials // 8``, from 8 to 24.
        predictor: registered name of another predictor of finals; by default the regressions described above.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        *,
        seed: int,
        budget: int,
        trials: int,
        risk: float = 0.05,
        tolerance: float | None = None,
        share: float = 0.005,
        warmup: int | None = None,
        predictor: str | None = None,
    ) -> None:
        given = {"risk": risk, "tolerance": tolerance, "share": share, "warmup": warmup}
        check_knobs("stopper", "risk-bounded", {name: value for name, value in given.items() if value is not None}, KNOBS)
        self.objective = only_objective("risk-bounded", objectives)
        self.seed, self.budget, self.trials = seed, budget, trials
        self.risk, self.tolerance, self.share = risk, tolerance, share
        self.predictor = predictor
        self._entry = None if predictor is None else PREDICTORS[predictor]
        self.warmup = max(8, min(24, trials // 8)) if warmup is None else warmup
        self.steps = checks(budget)
        self._place = {step: check for check, step in enumerate(self.steps)}
        self._runs: dict[int, _Run] = {}
        self._ended: list[_Run] = []
        self._first = self._whole = 0
        self._scale = Scale(log=self.objective.direction == "min")
        self._best = -math.inf
        self._fit: _Fit | None = None
        self._tally = {"stopped": 0, "spent": 0, "whole": 0, "audited": 0, "audit_stopped": 0, "audit_lost": 0}

    def started(self, candidate: Candidate) -> None:
        first = self._first < self.warmup
        self._first += first
        drawn = not first and generator(self.seed, "fit", f"share {candidate.number}").random() < self.share
        self._runs[candidate.number] = _Run(candidate_features(candidate), first or drawn, drawn)

    def reported(self, n: int, report: Report) -> None:
        """Reports of a step already heard (after a restart) are dropped."""
        run = self._runs.get(n)
        if run is None or report.step != len(run.gains) + 1:
            return
        value = report.metrics.get(self.objective.metric, math.nan)
        if value <= 0:
            self._scale = Scale(log=False)
        run.gains.append(self.objective.gain(value))
        if run.drawn and run.needed is None:
            judged = self._judged(run)
            if judged is not None and judged.implausible:
                run.needed = judged.needed

    def told(self, n: int, outcome: Outcome) -> None:
        run = self._runs.pop(n, None)
        if run is None:
            return
        final = self.objective.gain(outcome.metrics.get(self.objective.metric, math.nan))
        if outcome.status in ("completed", "stopped"):
            self._tally["spent"] += len(run.gains)
            self._tally["whole"] += self.budget
            self._tally["stopped"] += outcome.status == "stopped"
        if outcome.status == "stopped":
            self._ended.append(run)
        if outcome.status != "completed" or not math.isfinite(final):
            self._first -= run.free and not run.drawn  # another takes its place in the warm-up
            return
        run.final = final
        self._ended.append(run)
        self._whole += run.free
        self._best = max(self._best, final)
        if run.drawn:
            self._tally["audited"] += 1
            self._tally["audit_stopped"] += run.needed is not None
            self._tally["audit_lost"] += run.needed is not None and final > run.needed

    def verdict(self, n: int) -> Verdict:
        run = self._runs.get(n)
        if run is None or run.free:
            return GO_ON
        judged = self._judged(run)
        if judged is None:
            return GO_ON
        told = {self.objective.metric: Prediction(self.objective.gain(judged.predicted.mean), judged.predicted.spread)}
        return Verdict(True, told, self._reason(judged, len(run.gains))) if judged.implausible else Verdict(False, told)

    def audit(self) -> dict[str, float]:
        """What was saved, what was risked, and what the random share says of it so far.

        ``saved``: share of the steps of all ended candidates that was not spent. ``stopped``: candidates. ``risk``: as stated.
        ``spreads``: the reach of the test now. ``audited``: candidates of the random share that completed, of which ``audit_stopped``
        would have been stopped and ``audit_lost`` would have been stopped and beat the incumbent of that moment by more than the
        tolerance.
        """
        tally, fit = self._tally, self._fit
        saved = 1 - tally["spent"] / tally["whole"] if tally["whole"] else 0.0
        facts = {name: float(tally[name]) for name in ("stopped", "audited", "audit_stopped", "audit_lost")}
        return {"saved": saved, "risk": self.risk, **facts, **({"spreads": fit.reach.reach} if fit else {})}

    def _judged(self, run: _Run) -> _Judged | None:
        check = self._place.get(len(run.gains))
        fit = self._fitted() if check is not None and self.risk > 0 else None
        if check is None or fit is None:
            return None
        curve, needed = filled(run.gains, self._scale), self._best + self._tolerated(self._best)
        if curve is None or (self._scale.log and needed >= 0):
            return None
        told = fit.expected(curve, run.features, check)
        if told is None:
            return None
        implausible = told[0] < fit.reach.least(self._scale.forth(needed), check)
        return _Judged(self._scale.back(Prediction(*told)), needed, implausible)

    def _tolerated(self, best: float) -> float:
        return usual_tolerance(self.objective, best) if self.tolerance is None else self.tolerance

    def _fitted(self) -> _Fit | None:
        """The fit that is due: a function of the events heard."""
        if self._whole < self.warmup:
            return None
        count = refit_at(len(self._ended), self.warmup)
        if self._fit is None or (self._fit.count, self._fit.scale) != (count, self._scale):
            self._fit = self._learned(self._ended[:count], count)
        return self._fit

    def _learned(self, runs: Sequence[_Run], count: int) -> _Fit | None:
        import numpy as np

        scale = self._scale
        rows = [(run, curve) for run in runs if self._teaches(run) and (curve := filled(run.gains, scale)) is not None]
        free = [run.free for run, _ in rows if run.final is not None]
        if sum(free) < 6:
            return None
        table = _Table.of([run.features for run, _ in rows])
        learned = self._regressed(rows, table) if self._entry is None else self._predicted(rows, self._entry)
        lateness = 1 + LATE * np.array(self.steps) / self.budget
        plan = Plan(self.trials, self.warmup, self.share, self.risk, lateness)
        best = max(run.final for run in runs if run.final is not None)
        tolerance = scale.forth(min(best + self._tolerated(best), best / 2 if scale.log else math.inf)) - scale.forth(best)
        reach = Reach.fitted(learned.held_out[free], learned.finals[free], tolerance, plan, derive_seed(self.seed, "fit", count))
        return _Fit(count, scale, learned, table, reach)

    def _teaches(self, run: _Run) -> bool:
        """A training that completed has passed every check; of one that was stopped, whatever was heard is of use."""
        return run.final is None or len(run.gains) >= self.steps[-1]

    def _regressed(self, rows: _Rows, table: _Table) -> ExpectedFinals:
        import numpy as np

        curves = np.full((len(rows), self.steps[-1]), np.nan)
        for place, (_, curve) in enumerate(rows):
            seen = curve[: self.steps[-1]]
            curves[place, : len(seen)] = seen
        heard = np.searchsorted(self.steps, [len(curve) for _, curve in rows], side="right")
        facts = np.array([table.row(run.features) for run, _ in rows]).reshape(len(rows), len(table.names))
        finals = np.array([math.nan if run.final is None else self._scale.forth(run.final) for run, _ in rows])
        return ExpectedFinals.fitted(curves, facts, finals, self.steps, heard)

    def _predicted(self, rows: _Rows, entry: Entry) -> PredictedFinals:
        make = partial(entry.obj, seed=self.seed, **trained_from(entry.name, self.warmup * 2 // 3))
        seen = [Observation(tuple(curve), run.features, self._scale.forth(run.final)) for run, curve in rows if run.final is not None]
        return PredictedFinals.fitted(make, seen, self.steps)

    def _reason(self, judged: _Judged, step: int) -> str:
        shown = f"{self.objective.gain(judged.predicted.mean):.4g} +- {judged.predicted.spread:.2g}"
        return (
            f"{self.objective.metric} is predicted at {shown} after step {step}, which one that ends at "
            f"{self.objective.gain(judged.needed):.4g} would hardly be; stopped at a stated risk of {self.risk:g} over the study."
        )


_Rows = Sequence[tuple[_Run, list[float]]]


@dataclass(frozen=True)
class _Judged:
    """The final expected (gain), the gain needed to matter, and whether a candidate that ends there would hardly look like this."""

    predicted: Prediction
    needed: float
    implausible: bool


def usual_tolerance(objective: Objective, best: float) -> float:
    """A tolerance for a metric whose best value is ``best``: 0.002 where it is made large (of it, above 1), 0.75 % of it otherwise."""
    return 0.0075 * abs(best) if objective.direction == "min" else 0.002 * max(1.0, abs(best))


def checks(budget: int) -> tuple[int, ...]:
    """The steps that are judged: from 3 % of the budget to 95 %, each a quarter further than the one before.

    >>> checks(20)
    (1, 2, 3, 4, 5, 7, 9, 12, 15, 19)
    """
    found, step = [], max(1, math.ceil(FIRST * budget))
    while step <= max(1, 0.95 * budget):
        found.append(step)
        step = max(step + 1, math.ceil(step * APART))
    return tuple(found)


def filled(gains: Sequence[float], scale: Scale) -> list[float] | None:
    """A curve on the scale of predictions, a value that is not finite replaced by the one before it; None without any."""
    seen: list[float] = []
    for gain in gains:
        if math.isfinite(gain):
            seen.append(scale.forth(gain))
        elif seen:
            seen.append(seen[-1])
    return [seen[0]] * (len(gains) - len(seen)) + seen if seen else None
