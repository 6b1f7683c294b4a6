"""Augmentations of training batches: functions of PyTorch tensors ``(x, generator) -> x``."""

from __future__ import annotations

import math
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


def random_affine(shift: float, degrees: float, scale: float) -> Callable[[Any, Any], Any]:
    """Moves, turns, shears and scales each image of a batch (N, C, H, W), reading between pixels linearly.

    The map of output to input positions is ``A p + t`` with ``A = (1 + s) [[cos a, k - sin a], [sin a, cos a]]``; all its
    numbers are uniform, independent per image. Beyond the edge the image's edge repeats.

    Args:
        shift: largest move along each axis, in pixels.
        degrees: largest turn ``a``; the shear ``k`` goes up to ``degrees / 60``.
        scale: largest relative change of size ``s``.
    """

    def jitter(x: Any, generator: Any) -> Any:
        import torch

        n, _, height, width = x.shape
        angle, size, shear, across, down = 2.0 * torch.rand(5, n, generator=generator) - 1.0
        angle, shear = angle * math.radians(degrees), shear * degrees / 60.0
        cosine, sine = (1.0 + size * scale) * torch.cos(angle), (1.0 + size * scale) * torch.sin(angle)
        first = torch.stack([cosine, shear - sine, across * 2.0 * shift / width], dim=1)
        second = torch.stack([sine, cosine, down * 2.0 * shift / height], dim=1)
        maps = torch.stack([first, second], dim=1).to(x)  # (N, 2, 3)
        grid = torch.nn.functional.affine_grid(maps, x.shape, align_corners=False)
        return torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    return jitter
