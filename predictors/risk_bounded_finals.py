"""The final value expected from the first steps of a curve: one penalised regression for each check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
FLOOR = 0.75
"""Middle halves below the median at which a final counts as hopeless, however much worse it is."""
FEW = 6
"""Features up to which their squares are looked at; more are weighed down to count as many."""
CARRIED = 0.5
"""Weight of what was expected one check earlier, beside 1 for what is expected now."""


@dataclass(frozen=True)
class ExpectedFinals:
    r"""Ridge regressions of what is still to be gained, one for each check s.

    .. math:: \hat y_{T|s} = y_s + b_0 + b^\top \phi(y_1 .. y_s, x)

    The columns :math:`\phi` are the shape of the curve (:func:`shape`), the features x known before training and, where these are few,
    their squares; all centred at the median, scaled by the middle four fifths and clipped at four deviations. The penalty, and whether
    the features are used, are those with the least error on curves left out, which has a closed form.

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
    models: tuple[_Model, ...]
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
            model, held = _fitted(shape(curves[known, : steps[check]]), features[known], targets[known], floor)
            stopped = ~whole & (heard == check + 1)
            if stopped.any():
                targets[stopped] = model.expected(shape(curves[stopped, : steps[check]]), features[stopped], floor)
            models.append(model)
            held_out.append(held[whole[known]])
        return cls(tuple(steps), floor, tuple(models[::-1]), carried(np.stack(held_out[::-1], axis=1)), targets[whole])

    def expected(self, curve: Sequence[float], features: Any, check: int) -> tuple[float, float]:
        """The final expected of a curve at the check of this index, and the root mean square error of a single regression there."""
        import numpy as np

        seen, facts = np.array(curve)[None], features[None]
        checks = range(max(0, check - 1), check + 1)
        told = [self.models[at].expected(shape(seen[:, : self.steps[at]]), facts, self.floor) for at in checks]
        return float(carried(np.stack(told, axis=1))[0, -1]), self.models[check].error


def carried(told: Any) -> Any:
    """Predictions [n, checks], each averaged with the one before it, which has the weight :data:`CARRIED`."""
    import numpy as np

    return np.concatenate([told[:, :1], (told[:, 1:] + CARRIED * told[:, :-1]) / (1 + CARRIED)], axis=1)


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


@dataclass(frozen=True)
class _Columns:
    """Standardised columns: the shape's, then (``wide``) the features' and their squares."""

    middle: Any
    scale: Any
    shapes: int
    wide: bool

    @classmethod
    def of(cls, raw: Any, shapes: int, wide: bool) -> _Columns:
        import numpy as np

        low, middle, high = np.quantile(raw, [0.1, 0.5, 0.9], axis=0)
        scale, whole = (high - low) / 2.56, raw.std(axis=0)
        scale = np.where(scale > 1e-9, scale, np.where(whole > 1e-9, whole, np.inf))  # a constant column becomes zero
        return cls(middle, scale, shapes, wide)

    def apply(self, raw: Any) -> Any:
        """[n, shapes + p] to [n, columns]."""
        import numpy as np

        z = (raw - self.middle) / self.scale
        np.clip(z, -4, 4, out=z)
        facts = z[:, self.shapes :]
        count = facts.shape[1]
        if not self.wide or not count:
            return z[:, : self.shapes]
        if count > FEW:
            return np.concatenate([z[:, : self.shapes], facts * math.sqrt(FEW / count)], axis=1)
        return np.concatenate([z, facts * facts], axis=1)


@dataclass(frozen=True)
class _Model:
    columns: _Columns
    centre: Any
    weights: Any
    base: float
    error: float

    def expected(self, shapes: Any, features: Any, floor: float) -> Any:
        """[n] of shapes [n, 6] and features [n, p]."""
        import numpy as np

        rows = self.columns.apply(np.concatenate([shapes, features], axis=1))
        return np.maximum(shapes[:, 0], floor) + self.base + (rows - self.centre) @ self.weights


def _fitted(shapes: Any, features: Any, finals: Any, floor: float) -> tuple[_Model, Any]:
    """The model of one check, and what is expected of each curve by the others [n]."""
    import numpy as np

    raw = np.concatenate([shapes, features], axis=1)
    gains = finals - np.maximum(shapes[:, 0], floor)
    both = [_ridge(_Columns.of(raw, shapes.shape[1], wide), raw, gains) for wide in ((True, False) if features.shape[1] else (False,))]
    model, errors = min(both, key=lambda fit: fit[0].error)
    return model, finals - errors


def _ridge(columns: _Columns, raw: Any, gains: Any) -> tuple[_Model, Any]:
    """Ridge regression with the penalty of least error; the errors of curves left out in closed form."""
    import numpy as np

    inputs = columns.apply(raw)
    centre, base = inputs.mean(axis=0), float(gains.mean())
    left, singular, right = np.linalg.svd(inputs - centre, full_matrices=False)
    along = left.T @ (gains - base)
    best: tuple[float, Any, Any] | None = None
    for penalty in PENALTIES:
        shrunk = singular**2 / (singular**2 + penalty)
        leverage = np.minimum((left**2 * shrunk).sum(axis=1) + 1 / len(gains), 0.95)
        errors = (gains - base - left @ (shrunk * along)) / (1 - leverage)
        mean = float(np.square(errors).mean())
        if best is None or mean < best[0]:
            best = (mean, errors, right.T @ (singular / (singular**2 + penalty) * along))
    assert best is not None
    return _Model(columns, centre, best[2], base, math.sqrt(best[0])), best[1]
