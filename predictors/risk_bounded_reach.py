"""How far below its due a candidate may look and still be the winner: the test that ``risk-bounded`` stops by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

DRAWS = 2000
"""Simulated studies that set the reach."""
TOP = 2.0
"""Logarithm of how much more the best curve weighs than the worst."""
AIM = 0.8
"""Share of the stated risk that simulated studies may use up: few curves make them hopeful. Chosen, like
:data:`IGNORANCE`, on the recorded collections that ``risk-bounded`` names; on deep ResNets the best is lost more often than simulated."""
IGNORANCE = 5.0
"""By how much wider the reach is where predictions say nothing of finals: there little is known of their errors, either."""
SMOOTH = 0.5
"""Standard deviation, in spreads, of the noise that fills the gaps between recorded errors."""
LOWEST = 0.3
"""The reach is never less, however little a simulated study loses."""


@dataclass(frozen=True)
class Plan:
    """What of a study bears on its risk.

    Args:
        trials: candidates planned.
        warmup: of these, those at the start that are never stopped.
        share: of the others, the share that is never stopped.
        risk: probability of a loss that is accepted.
        lateness: [checks] weight of each check: the reach is this many times wider there.
    """

    trials: int
    warmup: int
    share: float
    risk: float
    lateness: Any


@dataclass(frozen=True)
class Reach:
    r"""What the prediction of a candidate that ends at y looks like at each check, learned from curves left out.

    A regression draws what it expects towards the mean, so the final of the best candidate lies above what was expected of it more
    often than its interval says. The question is therefore turned round: of candidates that *do* end at y, what was expected?

    .. math:: \hat y_s \mid y = a_s + b_s (y - \bar y) + \sigma_s e_s

    by weighted least squares of held-out predictions on finals, the best curve weighing :math:`e^2` times the worst. A candidate is
    stopped when the final :math:`y^* + tolerance` it would need is implausible,

    .. math:: \hat y_s < a_s + b_s (y^* + tolerance - \bar y) - r \, k_s \, \sigma_s

    with k the caution at the check and r the reach: the least that keeps the share of simulated studies that lose their best below
    four fifths of the risk (:data:`AIM`). The caution is the lateness of the check times :math:`1 + 5 (1 - R_s^2)`, R the
    correlation of predictions and finals: waiting a few steps for a better prediction costs little. Each simulated study draws its
    two best finals and the best one before them from a normal distribution fitted to the upper half of the finals, the place of the
    best at random, and the errors at all checks together from those of a recorded curve (the better ones more often), smoothed, and
    stretched by a draw of Student's t for the few curves there are. A best that the second best comes near is no loss.

    Args:
        centre: the weighted mean of the finals.
        level: [checks] a.
        slope: [checks] b.
        spread: [checks] sigma, for a new curve near the centre.
        count: curves that the weights amount to.
        variance: weighted variance of the finals.
        caution: [checks] k.
        reach: r.
    """

    centre: float
    level: Any
    slope: Any
    spread: Any
    count: float
    variance: float
    caution: Any
    reach: float

    @classmethod
    def fitted(cls, held_out: Any, finals: Any, tolerance: float, plan: Plan, seed: int) -> Reach:
        """From held-out predictions [n, checks] of curves that nobody chose, and their finals [n].

        Args:
            held_out: predictions.
            finals: what the curves ended at.
            tolerance: by how much the reported best may be below the best, in units of the finals.
            plan: the study.
            seed: of the simulated studies.
        """
        import numpy as np

        ranks = np.argsort(np.argsort(finals, kind="stable"), kind="stable")
        weights = np.exp(TOP * ranks / (len(finals) - 1))
        weights = weights / weights.sum()
        centre = float(weights @ finals)
        away = finals - centre
        variance = max(float(weights @ away**2), 1e-18)
        level = weights @ held_out
        slope = np.clip((weights * away) @ (held_out - level) / variance, 0.0, 1.0)
        errors = held_out - level - np.outer(away, slope)
        count = 1 / float(weights @ weights)
        spread = np.sqrt(np.maximum(weights @ errors**2 * count / (count - 2), 1e-18))
        known = slope**2 * variance / (slope**2 * variance + spread**2)
        plain = cls(centre, level, slope, spread, count, variance, plan.lateness * (1 + IGNORANCE * (1 - known)), math.inf)
        return replace(plain, reach=plain._calibrated(errors / spread, weights, finals, tolerance, plan, seed))

    def least(self, needed: float, check: int) -> float:
        """The least that must be expected at a check of a candidate that is to end at ``needed`` and not to be stopped."""
        wide = self._widening(needed) * self.reach * self.caution[check]
        return float(self.level[check] + self.slope[check] * (needed - self.centre) - wide * self.spread[check])

    def _widening(self, final: Any) -> Any:
        """Of the spread for a curve that ends away from the centre, where the line is less certain."""
        return (1 + 1 / self.count + (final - self.centre) ** 2 / (self.count * self.variance)) ** 0.5

    def _calibrated(self, errors: Any, weights: Any, finals: Any, tolerance: float, plan: Plan, seed: int) -> float:
        import numpy as np

        draw = np.random.Generator(np.random.PCG64(seed))
        best, second, before, place = _simulated(draw, finals, plan.trials)
        freedom = max(3.0, self.count - 2)
        stretch = np.sqrt(freedom / draw.chisquare(freedom, DRAWS))
        rows = errors[draw.choice(len(errors), DRAWS, p=weights**2 / float(weights @ weights))]
        drawn = (rows + SMOOTH * draw.standard_normal((DRAWS, 1))) * (stretch / math.hypot(1, SMOOTH))[:, None]
        ahead = best - before - tolerance
        lead = self.slope * ahead[:, None] / (self.spread * self._widening(best)[:, None])
        needed = ((-drawn - lead) / self.caution).max(axis=1)
        harmless = (best - second <= tolerance) | (place < plan.warmup) | (draw.random(DRAWS) < plan.share)
        return max(LOWEST, float(np.quantile(np.where(harmless, LOWEST, needed), 1 - AIM * plan.risk)))


def _simulated(draw: Any, finals: Any, trials: int) -> tuple[Any, Any, Any, Any]:
    """Of simulated studies: the best final, the second best, the best of those before the best, and the place of the best.

    Order statistics of uniform draws, taken through the normal distribution fitted to the upper half of the finals.
    """
    import numpy as np
    from scipy.special import ndtri

    middle = float(np.median(finals))
    width = math.sqrt(float(np.square(finals[finals >= middle] - middle).mean()))
    place = draw.integers(0, trials, DRAWS)
    top = draw.random(DRAWS) ** (1 / trials)
    second = top * draw.random(DRAWS) ** (1 / max(1, trials - 1))
    third = second * draw.random(DRAWS) ** (1 / np.maximum(place, 1))
    before = np.where(draw.random(DRAWS) < place / max(1, trials - 1), second, third)
    best, next_best, earlier = (middle + width * ndtri(np.clip(level, 1e-9, 1 - 1e-12)) for level in (top, second, before))
    return best, next_best, earlier, place
