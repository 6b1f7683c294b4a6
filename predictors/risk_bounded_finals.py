"""The final value expected from the first steps of a curve: one regression for each check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .risk_bounded_regression import Regression

FLOOR = 0.75
"""Middle halves below the median at which a final counts as hopeless, however much worse it is."""
CARRIED = 0.5
"""Weight of what was expected one check earlier, beside 1 for what is expected now, where it errs no more."""


@dataclass(frozen=True)
class ExpectedFinals:
    r"""Regressions of what is still to be gained, one for each check s.

    .. math:: \hat y_{T|s} = y_s + f_s(y_1 .. y_s, x)

    with f of the shape of the curve (:func:`shape`) and the features x known before training
    (:class:`~.risk_bounded_regression.Regression`).

    Curves that were stopped teach, too. From the last check to the first, a curve that was stopped at a check counts at all earlier
    ones with the final expected of it there: by :math:`E[y_T | y_1 .. y_s] = E[\, E[y_T | y_1 .. y_{s'}] \,|\, y_1 .. y_s]`, s < s', which
    holds among the curves that went on from s as well, since what let them go on was their first s steps.

    One dip must not end a training: what counts is the mean of what is expected now and, with half the weight, one check earlier.

    Finals count as no lower than a floor below the median: how badly the hopeless end is of no interest.

    Args:
        steps: the checks, rising.
        floor: the value below which a final counts as this.
        models: one for each check.
        held_out: [n, checks] what each of n whole curves is expected to end at by the others.
        finals: [n] their finals, floored.
    """

    steps: tuple[int, ...]
    floor: float
    models: tuple[Regression, ...]
    held_out: Any
    finals: Any

    @classmethod
    def fitted(cls, curves: Any, features: Any, finals: Any, steps: Sequence[int], heard: Any = None) -> ExpectedFinals:
        """From curves [m, T], what was known of them [m, p] and their finals [m].

        Args:
            curves: finite as far as they were heard.
            features: finite.
            finals: NaN for curves that were stopped.
            steps: the checks, rising.
            heard: [m] how many checks each curve got to; by default all of them.
        """
        import numpy as np

        whole = np.isfinite(finals)
        heard = np.full(len(finals), len(steps)) if heard is None else heard
        low, middle, high = np.quantile(finals[whole], [0.25, 0.5, 0.75])
        floor = float(middle - FLOOR * (high - low))
        targets = np.maximum(finals, floor)
        models, held_out = [], []
        for check in reversed(range(len(steps))):
            known = whole | (heard > check + 1)
            shapes = shape(curves[known, : steps[check]])
            start = np.maximum(shapes[:, 0], floor)
            model, errors = Regression.fitted(shapes, features[known], targets[known] - start)
            stopped = ~whole & (heard == check + 1)
            if stopped.any():
                targets[stopped] = _told(model, shape(curves[stopped, : steps[check]]), features[stopped], floor)
            models.append(model)
            held_out.append((targets[known] - errors)[whole[known]])
        models = models[::-1]
        held = carried(np.stack(held_out[::-1], axis=1), [model.error for model in models])
        return cls(tuple(steps), floor, tuple(models), held, targets[whole])

    def expected(self, curve: Sequence[float], features: Any, check: int) -> tuple[float, float]:
        """The final expected of a curve at the check of this index, and the root mean square error there of a check by itself."""
        import numpy as np

        seen, facts = np.array(curve)[None], features[None]
        checks = range(max(0, check - 1), check + 1)
        told = [_told(self.models[at], shape(seen[:, : self.steps[at]]), facts, self.floor) for at in checks]
        return float(carried(np.stack(told, axis=1), [self.models[at].error for at in checks])[0, -1]), self.models[check].error


def _told(model: Regression, shapes: Any, features: Any, floor: float) -> Any:
    import numpy as np

    return np.maximum(shapes[:, 0], floor) + model.predict(shapes, features)


def carried(told: Any, errors: Sequence[float]) -> Any:
    """Predictions [n, checks], each averaged with the one before it, which weighs less the more it errs.

    >>> import numpy as np
    >>> carried(np.array([[1.0, 4.0, 4.0]]), [2.0, 2.0, 1.0]).round(3).tolist()
    [[1.0, 3.0, 4.0]]
    """
    import numpy as np

    squares = np.maximum(np.square(errors), 1e-24)
    weights = CARRIED * np.minimum(1.0, squares[1:] / squares[:-1])
    return np.concatenate([told[:, :1], (told[:, 1:] + weights * told[:, :-1]) / (1 + weights)], axis=1)


def shape(curves: Any) -> Any:
    """Last value and best; means of the whole, of the first half, the second half and the last third: [n, 6] of curves [n, s].

    >>> import numpy as np
    >>> shape(np.array([[1.0, 2.0, 3.0, 6.0]])).tolist()
    [[6.0, 6.0, 3.0, 1.5, 4.5, 4.5]]
    """
    import numpy as np

    step = curves.shape[1]
    parts = (curves, curves[:, : max(1, step // 2)], curves[:, step // 2 :], curves[:, -((step + 2) // 3) :])
    return np.stack([curves[:, -1], curves.max(axis=1), *(part.mean(axis=1) for part in parts)], axis=1)
