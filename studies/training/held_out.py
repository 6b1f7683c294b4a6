"""What the prior-fitted network is worth on made-up studies that it was not trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from archwright.predictors.prior_fitted.bars import EDGES, ROOM, TAIL, Bars, class_of, log_scale
from archwright.predictors.prior_fitted.network import RowTransformer
from archwright.predictors.prior_fitted.sampling import Batch, draw_batch
from archwright.search_space.seeds import derive_seed

SIZES = (0, 1, 4, 16, 64, 128)
FARTHEST = EDGES[-1] + 2 * TAIL
"""Answers beyond this many units teach, and count, no more than one at it."""


def negative_log_likelihood(network: RowTransformer, batch: Batch) -> Tensor:
    """Mean over all that was asked, in nats, of the final value in units of its study."""
    target = np.clip(batch.target, -FARTHEST, FARTHEST)
    told = network(torch.from_numpy(batch.context).float(), torch.from_numpy(batch.asked).float())
    chosen = told.gather(-1, torch.from_numpy(class_of(target))[..., None])[..., 0]
    return -(chosen + torch.from_numpy(log_scale(target)).float()).mean()


def figures(network: RowTransformer, *, seed: int, batches: int) -> dict[str, dict[str, float]]:
    """By number of finished candidates in the context: errors and coverage.

    Returns:
        for each size ``loss_nats``; mean absolute error over that of the last value (``error_to_last``) and of the regression the network
        starts from (``error_to_anchor``), no error counting more than 20 units; and the share of finals within the 90 % interval
        (``coverage``).
    """
    return {str(size): _figures(network, size, seed, batches) for size in SIZES}


def _figures(network: RowTransformer, size: int, seed: int, batches: int) -> dict[str, float]:
    found: list[dict[str, Any]] = []
    for number in range(batches):
        batch = draw_batch(np.random.default_rng(derive_seed(seed, "probe", f"{size} {number}")), finished=size)
        with torch.no_grad():
            loss = negative_log_likelihood(network, batch).item()
            told = network(torch.from_numpy(batch.context).float(), torch.from_numpy(batch.asked).float())
        bars = Bars(told.exp().double().flatten(0, 1).numpy())
        mean, spread, right = bars.mean(), bars.spread(), batch.target.ravel()
        last = ((batch.last - batch.anchor) / batch.unit).ravel()
        found.append({
            "loss": loss,
            "held": np.abs(right - mean) <= ROOM * spread,
            "errors": [np.minimum(np.abs(right - guess), 20.0).mean() for guess in (mean, last, np.zeros_like(right))],
        })  # fmt: skip
    mine, last, anchor = np.mean([each["errors"] for each in found], axis=0)
    return {
        "loss_nats": round(float(np.mean([each["loss"] for each in found])), 4),
        "error_to_last": round(float(mine / last), 4),
        "error_to_anchor": round(float(mine / anchor), 4),
        "coverage": round(float(np.mean([each["held"].mean() for each in found])), 4),
    }
