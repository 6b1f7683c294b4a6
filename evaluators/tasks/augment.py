"""Augmentations of training batches: functions of PyTorch tensors ``(x, generator) -> x``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def random_shift(pixels: int) -> Callable[[Any, Any], Any]:
    """Moves each image of a batch (N, C, H, W) by up to ``pixels`` in both directions, filling with the image's own edge.

    Shifts are uniform on the integers -pixels..pixels, independent per image and axis.
    """

    def shift(x: Any, generator: Any) -> Any:
        import torch

        n, _, height, width = x.shape
        padded = torch.nn.functional.pad(x, (pixels,) * 4, mode="replicate")
        offsets = torch.randint(0, 2 * pixels + 1, (2, n, 1), generator=generator).to(x.device)
        rows = offsets[0] + torch.arange(height, device=x.device)  # (N, H)
        columns = offsets[1] + torch.arange(width, device=x.device)  # (N, W)
        images = torch.arange(n, device=x.device)
        return padded[images[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    return shift
