"""The final value expected from the first steps of a curve, by a registered predictor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..search_space.protocols import Observation, Predictor

FOLDS = 3


@dataclass(frozen=True)
class PredictedFinals:
    """Means and spreads of a predictor that learns from curves; the counterpart of :class:`~.risk_bounded_finals.ExpectedFinals`.

    Args:
        predictor: fitted to all curves.
        held_out: [n, checks] what it says of each curve when fitted to two thirds of the others; the value at the check where it says
            nothing.
        finals: [n].
    """

    predictor: Predictor
    held_out: Any
    finals: Any

    @classmethod
    def fitted(cls, make: Callable[[], Predictor], seen: Sequence[Observation], steps: Sequence[int]) -> PredictedFinals:
        """From completed curves; ``make()`` gives a fresh predictor."""
        import numpy as np

        held_out = np.array([[each.curve[step - 1] for step in steps] for each in seen], dtype=float)
        for fold in range(FOLDS):
            others = make()
            others.fit([each for place, each in enumerate(seen) if place % FOLDS != fold])
            for place in range(fold, len(seen), FOLDS):
                for check, step in enumerate(steps):
                    told = others.predict(replace(seen[place], curve=seen[place].curve[:step], final=None))
                    if told is not None and math.isfinite(told.mean):
                        held_out[place, check] = told.mean
        whole = make()
        whole.fit(list(seen))
        return cls(whole, held_out, np.array([each.final for each in seen], dtype=float))

    def expected(self, curve: Sequence[float], features: Mapping[str, float]) -> tuple[float, float] | None:
        """Mean and spread for a curve; None where the predictor says nothing."""
        told = self.predictor.predict(Observation(tuple(curve), features))
        return None if told is None or not math.isfinite(told.mean) else (told.mean, told.spread)
