"""What the rules that compare curves at equal steps share: one objective, the curves heard so far, the final they expect."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..search_space.outcomes import Objective, Outcome, Prediction, Report
from ..search_space.protocols import Candidate, Verdict
from .expected_final import expected_final
from .one_objective import only_objective
from .predictive_termination import Scale

GO_ON = Verdict(False)


@dataclass
class Curve:
    """What was heard of one candidate.

    Args:
        bracket: where it competes, for a rule with brackets.
        features: what was known before training, for a rule that predicts.
        gains: the objective after steps 1, 2, ..., turned so that larger is better; NaN where a report lacks it.
        means: the mean of the gains up to each step.
        final: the gain it completed with.
        ended: nothing more is heard of it.
    """

    bracket: int = 0
    features: Mapping[str, float] = field(default_factory=dict)
    gains: list[float] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    final: float | None = None
    ended: bool = False

    def add(self, gain: float) -> None:
        self.gains.append(gain)
        before = self.means[-1] if self.means else gain
        self.means.append(before + (gain - before) / len(self.gains))

    def at(self, step: int, budget: int) -> float | None:
        """The gain after ``step``, the final one after the whole budget; None when it did not get there."""
        if step == budget:
            return self.final
        return self.gains[step - 1] if step <= len(self.gains) else None


class BanditRule(ABC):
    """Base of the rules that judge a candidate by the curves of the others; a subclass says when (:meth:`judged`) and how.

    Candidates that fail compete with nobody; stopped ones count as far as they went.

    Args:
        name: registered name, for messages.
        objectives: exactly one.
        budget: units of budget a full training takes.
    """

    def __init__(self, name: str, objectives: Sequence[Objective], budget: int) -> None:
        self.objective = only_objective(name, objectives)
        self.budget = budget
        self.curves: dict[int, Curve] = {}
        self.scale = Scale(log=self.objective.direction == "min")

    def started(self, candidate: Candidate) -> None:
        self.curves[candidate.number] = Curve()

    def reported(self, n: int, report: Report) -> None:
        """Reports of a step already heard (after a restart) are dropped."""
        curve = self.curves.get(n)
        if curve is None or curve.ended or report.step != len(curve.gains) + 1:
            return
        value = report.metrics.get(self.objective.metric, math.nan)
        if value <= 0:
            self.scale = Scale(log=False)
        curve.add(self.objective.gain(value))

    def told(self, n: int, outcome: Outcome) -> None:
        curve = self.curves.get(n)
        if curve is None:
            return
        final = self.objective.gain(outcome.metrics.get(self.objective.metric, math.nan))
        if outcome.status == "failed" or not math.isfinite(final):
            self.forget(n)
            return
        curve.ended = True
        curve.final = final if outcome.status == "completed" else None

    def forget(self, n: int) -> None:
        """Take a candidate out of every comparison."""
        del self.curves[n]

    def verdict(self, n: int) -> Verdict:
        curve = self.curves.get(n)
        if curve is None or curve.ended or not curve.gains or not math.isfinite(curve.gains[-1]):
            return GO_ON
        reason = self.judged(curve) if len(curve.gains) < self.budget else ""
        return Verdict(True, self._predicted(curve), reason) if reason else GO_ON

    @abstractmethod
    def judged(self, curve: Curve) -> str:
        """Why the candidate with this curve is to be stopped where it stands, or ""."""

    @abstractmethod
    def checkpoints(self, curve: Curve) -> Sequence[int]:
        """Steps between here and the budget at which candidates may have been dropped."""

    def shown(self, gain: float) -> str:
        """A gain as a value of the metric."""
        return f"{self.objective.gain(gain):.4g}"

    def _predicted(self, curve: Curve) -> dict[str, Prediction]:
        step, forth = len(curve.gains), self.scale.forth
        path = [step, *(later for later in self.checkpoints(curve) if step < later < self.budget), self.budget]
        others = [[other.at(place, self.budget) for place in path] for other in self.curves.values() if len(other.gains) > step]
        known = [[value if value is None else forth(value) for value in row] for row in others]
        expected = expected_final(forth(curve.gains[-1]), known)
        if expected is None:
            return {}
        told = self.scale.back(expected)
        return {self.objective.metric: Prediction(self.objective.gain(told.mean), told.spread)}
