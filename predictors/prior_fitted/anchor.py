"""Where predictions start from: a ridge regression of the remaining gain, fitted on the finished candidates of the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

PENALTY, DOUBT = 2.0, 0.5
"""Weight, in candidates, of the prior for a slope of 0 and for a mean gain of 0."""
Array = Any


@dataclass(frozen=True)
class Anchor:
    r"""Ridge regression :math:`y_T - y_s \approx w_0 + w^\top x` of B studies, on four numbers of the prefix and eight features.

    The network predicts what this leaves, in units of its own errors left out: so it need not learn to regress, and where it knows
    nothing better it says so in the right units. Without a finished candidate the anchor is the last value.

    Args:
        left_out: [B, n], for each finished candidate the prediction of the others.
        unit: [B, 1], mean absolute error of those, with the width of the study weighing as one more candidate.
        quality: [B, 1], log of the ratio of errors to the deviation of gains, within -1 and 1 after division by 5.
        spread: [B, 1], mean absolute deviation of the finals.
        within: [B, 1], whether all that was seen lies in [0, 1].
    """

    middle: Array
    scale: Array
    weights: Array
    left_out: Array
    unit: Array
    quality: Array
    spread: Array
    within: Array

    @classmethod
    def of(cls, prefixes: Array, features: Array, finals: Array) -> Anchor:
        """Fit on prefixes [B, n, s], features [B, n, 8] and finals [B, n]; n may be 0."""
        shapes = _shapes(prefixes, features)
        studies, count, width = shapes.shape
        if count == 0:
            none = np.zeros((studies, 1))
            flat = np.zeros((studies, 1, width))
            return cls(flat, flat + 1, np.zeros((studies, width + 1)), np.zeros((studies, 0)), none, none, none, none > 1)
        middle, deviation = shapes.mean(axis=1, keepdims=True), shapes.std(axis=1, keepdims=True)
        scale = np.where(deviation > 1e-9 * (1 + np.abs(middle)), deviation, np.inf)
        inputs = _inputs(shapes, middle, scale)
        gains = finals - prefixes[..., -1]
        targets = _tamed(gains)
        inverse = np.linalg.inv(np.swapaxes(inputs, 1, 2) @ inputs + np.diag([DOUBT] + [PENALTY] * width))
        weights = np.einsum("bpq,bnq,bn->bp", inverse, inputs, targets)
        leverage = np.einsum("bnp,bpq,bnq->bn", inputs, inverse, inputs)
        fitted = np.einsum("bnp,bp->bn", inputs, weights)
        left_out = prefixes[..., -1] + targets - (targets - fitted) / np.maximum(1 - leverage, 1e-6)
        error = np.abs(finals - left_out).sum(axis=1, keepdims=True)
        spread, varied = (np.abs(v - np.median(v, axis=1, keepdims=True)).mean(axis=1, keepdims=True) for v in (finals, gains))
        unit = (error + spread + np.abs(gains).mean(axis=1, keepdims=True)) / (count + 1)
        quality = np.clip(np.log((error / count + 1e-12) / (varied + 1e-12)) / 5, -1, 1)
        seen = np.concatenate([prefixes.reshape(studies, -1), finals], axis=1)
        within = ((seen >= 0) & (seen <= 1)).all(axis=1, keepdims=True)
        return cls(middle, scale, weights, left_out, unit, quality, spread, within)

    def predict(self, prefixes: Array, features: Array) -> Array:
        """[B, m], the final values expected of prefixes [B, m, s] and features [B, m, 8]."""
        inputs = _inputs(_shapes(prefixes, features), self.middle, self.scale)
        return prefixes[..., -1] + np.einsum("bnp,bp->bn", inputs, self.weights)


def _shapes(prefixes: Array, features: Array) -> Array:
    """[B, n, 12]: last value, rise over the second half, last three against the last, best so far against the last; features."""
    last = prefixes[..., -1]
    half = prefixes[..., (prefixes.shape[-1] - 1) // 2]
    shape = (last, last - half, prefixes[..., -3:].mean(axis=-1) - last, prefixes.max(axis=-1) - last)
    return np.concatenate([np.stack(shape, axis=-1), features], axis=-1)


def _inputs(shapes: Array, middle: Array, scale: Array) -> Array:
    """With a column of ones; nobody is taken to be further than four deviations from what was seen."""
    scaled = np.clip((shapes - middle) / scale, -4, 4)
    return np.concatenate([np.ones((*scaled.shape[:2], 1)), scaled], axis=-1)


def _tamed(gains: Array) -> Array:
    """Gains no further than five interquartile ranges outside the quartiles, so that one diverged training does not bend the line."""
    low, high = np.quantile(gains, [0.25, 0.75], axis=1, keepdims=True)
    reach = np.where(high > low, 5 * (high - low), np.inf)
    return np.clip(gains, low - reach, high + reach)
