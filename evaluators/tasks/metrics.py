"""The standard metrics, on NumPy arrays."""

from __future__ import annotations

import numpy as np


def accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Share of rows whose largest logit is the target's: outputs (N, K), targets (N,)."""
    return float(np.mean(outputs.argmax(axis=1) == targets))


def rmse(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Root of the mean squared error, in the target's units."""
    return float(np.sqrt(np.mean((outputs - targets) ** 2, dtype=np.float64)))


def mae(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean absolute error, in the target's units."""
    return float(np.mean(np.abs(outputs - targets), dtype=np.float64))


def r2(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Share of the variance explained: ``1 - sum((y - f)^2) / sum((y - mean y)^2)``; 0 for a constant target."""
    spread = np.sum((targets - targets.mean(axis=0)) ** 2, dtype=np.float64)
    return float(1.0 - np.sum((outputs - targets) ** 2, dtype=np.float64) / spread) if spread > 0 else 0.0


CLASSIFICATION = {"accuracy": accuracy}
REGRESSION = {"rmse": rmse, "mae": mae, "r2": r2}
