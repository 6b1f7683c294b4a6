"""Scans of channels that know nothing of each other, forwards or half of them backwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Scan = Callable[..., tuple[Tensor, Tensor]]


def scan_channels(
    scan: Scan, tensors: Sequence[Tensor | None], state: Tensor | None, *, causal: bool, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """``scan(*tensors, state, **options)``; with ``causal=False`` the second half of the channels runs from the last step to the first.

    Args:
        scan: a kernel with the option ``reverse``, such as :func:`archwright.kernels.linear_scan`.
        tensors: its arguments before the state, with the channels on their last axis.
        state: the state before the first step; ``causal=False`` takes None.

    Returns:
        All states, and the last one (None where channels run in both directions).
    """
    if causal:
        return scan(*tensors, state, **options)
    width = next(tensor.shape[-1] for tensor in tensors if tensor is not None)
    middle = width - width // 2
    halves = (
        scan(*(None if tensor is None else tensor[..., part] for tensor in tensors), None, reverse=reverse, **options)[0]
        for part, reverse in ((slice(middle), False), (slice(middle, None), True))
    )
    return torch.cat(list(halves), dim=-1), None


def complex_from(real: Tensor, imaginary: Tensor) -> Tensor:
    """``real + i imaginary`` in complex64, or complex128 for float64."""
    dtype = torch.float64 if real.dtype == torch.float64 else torch.float32
    return torch.complex(real.to(dtype), imaginary.to(dtype))


def parts_of(states: Tensor) -> Tensor:
    """Real parts before imaginary ones on the last axis; real states as they are."""
    return torch.cat([states.real, states.imag], dim=-1) if states.is_complex() else states
