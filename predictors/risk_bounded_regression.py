"""What is still to be gained, from the shape of a curve and what was known of it: a line and a smooth function, averaged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
FEW = 6
"""Features up to which their squares are looked at; more are weighed down to count as many."""
WIDTH = 3.0
"""Of the Gaussian kernel, in deviations."""
HEIGHT = 3.0
"""By how much lighter the penalty on the smooth part is than on the line beside it (a standard deviation)."""
ANCHORS = 40
"""Curves whose kernels make up the smooth part."""
NOTHING, CONVINCED = 0.15, 0.45
"""The parts by which the smooth function must err less (mean square) to be listened to at all, and to replace the line."""

Columns = Callable[[Any], Any]
"""[n, 6 + p] of z to [n, columns]."""


@dataclass(frozen=True)
class Regression:
    r"""Weighted mean of ridge regressions, each on columns of its own.

    .. math:: f(z) = \sum_i w_i \left( b_i + \beta_i^\top (\phi_i(z) - \bar\phi_i) \right)

    One is a line in z, the shape of the curve and the features, centred at the median, scaled by the middle four fifths and clipped at
    four deviations: with the squares of the features where these are few, or with the shape alone, whichever errs less. The other has
    kernels beside z: Gaussian, 3 deviations wide, at 40 curves evenly spread over the targets (Williams & Seeger, 2001,
    Using the Nystroem method to speed up kernel machines). Penalties are those of the least error on curves left out, which has a closed
    form. Flexible and fitted to two dozen curves, the smooth function is readily too sure of itself: it is listened to where its mean
    square error on curves left out is at least 15 % below the line's, the more the further it is, and alone from 45 % on.

    Args:
        scaled: columns to z.
        parts: the regressions.
        weights: their weights, which sum to 1.
        error: root mean square of the weighted errors on curves left out.
    """

    scaled: _Scaled
    parts: tuple[_Ridge, ...]
    weights: tuple[float, ...]
    error: float

    @classmethod
    def fitted(cls, shapes: Any, features: Any, targets: Any) -> tuple[Regression, Any]:
        """From shapes [n, 6], features [n, p] and targets [n]; with the errors on each curve, left out [n]."""
        import numpy as np

        scaled = _Scaled.of(shapes, features)
        z = scaled.apply(shapes, features)
        lines: list[Columns] = [partial(_line, shapes.shape[1], wide) for wide in ((True, False) if features.shape[1] else (False,))]
        line = min((_Ridge.fitted(columns, z, targets) for columns in lines), key=lambda fit: fit[0].error)
        fits = (line, _Ridge.fitted(_Smooth.of(z, targets), z, targets))
        better = 1 - (fits[1][0].error / max(line[0].error, 1e-12)) ** 2
        smooth = min(1.0, max(0.0, (better - NOTHING) / (CONVINCED - NOTHING)))
        weights = (1 - smooth, smooth)
        errors = sum(weight * each for weight, (_, each) in zip(weights, fits, strict=True))
        error = math.sqrt(float(np.square(errors).mean()))
        return cls(scaled, tuple(part for part, _ in fits), weights, error), errors

    def predict(self, shapes: Any, features: Any) -> Any:
        """[n] of shapes [n, 6] and features [n, p]."""
        z = self.scaled.apply(shapes, features)
        return sum(weight * part.predict(z) for weight, part in zip(self.weights, self.parts, strict=True) if weight)


@dataclass(frozen=True)
class _Scaled:
    """Shapes and features as z."""

    middle: Any
    scale: Any

    @classmethod
    def of(cls, shapes: Any, features: Any) -> _Scaled:
        import numpy as np

        raw = np.concatenate([shapes, features], axis=1)
        low, middle, high = np.quantile(raw, [0.1, 0.5, 0.9], axis=0)
        scale, whole = (high - low) / 2.56, raw.std(axis=0)
        scale = np.where(scale > 1e-9, scale, np.where(whole > 1e-9, whole, np.inf))  # a constant column becomes zero
        scale[shapes.shape[1] :] *= math.sqrt(max(1.0, features.shape[1] / FEW))
        return cls(middle, scale)

    def apply(self, shapes: Any, features: Any) -> Any:
        import numpy as np

        return np.clip((np.concatenate([shapes, features], axis=1) - self.middle) / self.scale, -4, 4)


def _line(shapes: int, wide: bool, z: Any) -> Any:
    """The shape alone, or (``wide``) all of z, with the squares of the features where these are few."""
    import numpy as np

    if not wide:
        return z[:, :shapes]
    facts = z[:, shapes:]
    return np.concatenate([z, facts * facts], axis=1) if facts.shape[1] <= FEW else z


@dataclass(frozen=True)
class _Smooth:
    """z, and the kernels at some curves, turned so that their ridge regression is that of the kernel."""

    anchors: Any
    turn: Any

    @classmethod
    def of(cls, z: Any, targets: Any) -> _Smooth:
        import numpy as np

        places = np.linspace(0, len(z) - 1, min(ANCHORS, len(z))).round().astype(int)
        anchors = z[np.argsort(targets, kind="stable")[places]]
        values, vectors = np.linalg.eigh(_kernels(anchors, anchors))
        known = values > 1e-6
        return cls(anchors, HEIGHT * vectors[:, known] / np.sqrt(values[known]))

    def __call__(self, z: Any) -> Any:
        import numpy as np

        return np.concatenate([z, _kernels(z, self.anchors) @ self.turn], axis=1)


def _kernels(one: Any, other: Any) -> Any:
    import numpy as np

    apart = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T
    return np.exp(-np.maximum(apart, 0) / (2 * WIDTH**2))


@dataclass(frozen=True)
class _Ridge:
    columns: Columns
    centre: Any
    slope: Any
    level: float
    error: float

    @classmethod
    def fitted(cls, columns: Columns, z: Any, targets: Any) -> tuple[_Ridge, Any]:
        """With the penalty of least error; and the errors on curves left out."""
        import numpy as np

        inputs = columns(z)
        centre, level = inputs.mean(axis=0), float(targets.mean())
        inputs = inputs - centre
        squares, right = np.linalg.eigh(inputs.T @ inputs)
        squares = np.maximum(squares, 0)
        turned = inputs @ right
        along = turned.T @ (targets - level)
        best: tuple[float, Any, Any] | None = None
        for penalty in PENALTIES:
            slope = along / (squares + penalty)
            leverage = np.minimum((turned**2 / (squares + penalty)).sum(axis=1) + 1 / len(targets), 0.95)
            errors = (targets - level - turned @ slope) / (1 - leverage)
            mean = float(np.square(errors).mean())
            if best is None or mean < best[0]:
                best = (mean, errors, right @ slope)
        assert best is not None
        return cls(columns, centre, best[2], level, math.sqrt(best[0])), best[1]

    def predict(self, z: Any) -> Any:
        return self.level + (self.columns(z) - self.centre) @ self.slope
