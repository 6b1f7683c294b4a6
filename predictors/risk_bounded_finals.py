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


@dataclass(frozen=True)
class ExpectedFinals:
    r"""Ridge regressions of what is still to be gained, one for each check s.

    .. math:: \hat y_{T|s} = y_s + b_0 + b^\top \phi(y_1 .. y_s, x)

    The columns :math:`\phi` are the shape of the curve (:func:`shape`), the features x known before training and, where these are few,
    their squares; all centred at the median, scaled by the middle four fifths and clipped at four deviations. The penalty, and whether
    the features are used, are those with the least error on curves left out, which has a closed form.

    Finals count as no lower than a floor below the median: how badly the hopeless end is of no interest.

    Args:
        steps: the checks, rising.
        floor: the value below which a final counts as this.
        models: one for each check.
        held_out: [n, checks] what each curve is expected to end at by the others.
        finals: [n] the finals, floored.
    """

    steps: tuple[int, ...]
    floor: float
    models: tuple[_Model, ...]
    held_out: Any
    finals: Any

    @classmethod
    def fitted(cls, curves: Any, features: Any, finals: Any, steps: Sequence[int]) -> ExpectedFinals:
        """From whole curves [n, T], what was known of them [n, p] and their finals [n], all finite."""
        import numpy as np

        low, middle, high = np.quantile(finals, [0.25, 0.5, 0.75])
        floor = float(middle - FLOOR * (high - low))
        finals = np.maximum(finals, floor)
        fits = [_fitted(np.array([shape(row, step) for row in curves.tolist()]), features, finals, floor) for step in steps]
        return cls(tuple(steps), floor, tuple(model for model, _ in fits), np.stack([held for _, held in fits], axis=1), finals)

    def expected(self, curve: Sequence[float], features: Any, check: int) -> tuple[float, float]:
        """The final expected of a curve at the check of this index, and the root mean square error of such."""
        step = self.steps[check]
        model = self.models[check]
        return max(curve[step - 1], self.floor) + model.gain(shape(curve, step), features), model.error


def shape(curve: Sequence[float], step: int) -> list[float]:
    """Last value and best; means of the whole, of its first half, its second half and its last third.

    >>> shape([1.0, 2.0, 3.0, 6.0], 4)
    [6.0, 6.0, 3.0, 1.5, 4.5, 4.5]
    """
    seen = curve[:step]
    parts = (seen, seen[: max(1, step // 2)], seen[step // 2 :], seen[-((step + 2) // 3) :])
    return [seen[-1], max(seen), *(sum(part) / len(part) for part in parts)]


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

    def gain(self, shaped: Sequence[float], features: Any) -> float:
        import numpy as np

        row = self.columns.apply(np.concatenate([shaped, features])[None])[0]
        return self.base + float((row - self.centre) @ self.weights)


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
