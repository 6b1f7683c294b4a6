"""A split on the training device, and its random batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..tasks.definition import Scaling, Split, Task


class DeviceSplit:
    """Samples and targets of a split as tensors on ``device``; uint8 samples are scaled when they are read.

    Small data needs no loader: batches are index selections.
    """

    def __init__(self, task: Task, split: Split, device: torch.device) -> None:
        self.x = torch.as_tensor(split.x, device=device)
        self.y = torch.as_tensor(split.y, device=device)
        self._scaling = None if task.input_scaling is None else _on(task.input_scaling, device)

    def __len__(self) -> int:
        return len(self.x)

    def at(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The samples (B, ...) as float32 and the targets (B,) or (B, K) of ``rows``."""
        x = self.x[rows]
        if self._scaling is not None:
            mean, std = self._scaling
            x = (x.float() - mean) / std
        return x, self.y[rows]


def _on(scaling: Scaling, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(scaling.mean, device=device), torch.as_tensor(scaling.std, device=device)


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """How many batches :func:`random_batches` yields."""
    return sum(1 for _ in _sizes(rows, batch_size))


def random_batches(rows: int, batch_size: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """Every row once in random order, in batches of ``batch_size``; a last batch of one row is left out (batch statistics need two)."""
    order = torch.randperm(rows, generator=generator).to(device)
    start = 0
    for size in _sizes(rows, batch_size):
        yield order[start : start + size]
        start += size


def _sizes(rows: int, batch_size: int) -> Iterator[int]:
    for start in range(0, rows, batch_size):
        size = min(batch_size, rows - start)
        if size > 1 or start == 0 or batch_size == 1:
            yield size
