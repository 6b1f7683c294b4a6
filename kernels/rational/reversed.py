r"""The rational function where powers of x would overflow: both polynomials in z = 1/x.

With P(x) = x^m P~(z), S(x) = x^n S~(z) and Q(x) = |x|^n (|z|^n + |S~(z)|),

.. math:: P / Q = \frac{x^m}{|x|^n} \frac{\tilde P(z)}{|z|^n + |\tilde S(z)|}

Entries of moderate size keep the plain form, as do columns whose denominator is 1 (where only the result itself can overflow). Both
forms are one formula in t, which is x or z, with coefficients in ascending or in descending order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .reference import largest_plain


@dataclass(frozen=True)
class _Parts:
    """What both directions need, at the shape of x: (rows, width)."""

    far: Tensor
    t: Tensor
    base: Tensor  # t, or |t| for a denominator of magnitudes
    factor: Tensor  # x^m / |x|^n where far, else 1
    above: Tensor
    sums: Tensor
    below: Tensor


def reversed_forward(x: Tensor, a: Tensor, b: Tensor, denominator: str) -> Tensor:
    """y for x (rows, width), coefficients a (m + 1, width) and b (n, width)."""
    parts = _parts(x, a, b, denominator)
    return parts.above * parts.factor / parts.below


def reversed_backward(x: Tensor, a: Tensor, b: Tensor, dy: Tensor, denominator: str) -> tuple[Tensor, Tensor, Tensor]:
    """dx (rows, width), and the sums over rows that are da (m + 1, width) and db (n, width)."""
    parts = _parts(x, a, b, denominator)
    m, n, far, t = len(a) - 1, len(b), parts.far, parts.t
    over = dy * parts.factor / parts.below
    under = -(over * parts.above / parts.below) * parts.sums.sign()
    inner = torch.where(far, t, torch.ones_like(t))
    turn = inner if denominator == "abs-sum" else torch.where(far, t, t.sign())
    slope_above, slope_below = _selected(t, far, _slopes(a, 0)), _selected(parts.base, far, _slopes(b, 1))
    dx = over * inner * slope_above + under * turn * slope_below
    powers, magnitudes = _powers(t, m), _powers(parts.base, n)
    da = [(over * torch.where(far, powers[m - i], powers[i])).sum(0) for i in range(m + 1)]
    db = [(under * torch.where(far, magnitudes[n - j], magnitudes[j])).sum(0) for j in range(1, n + 1)]
    return dx, torch.stack(da), torch.stack(db)


def _parts(x: Tensor, a: Tensor, b: Tensor, denominator: str) -> _Parts:
    m, n = len(a) - 1, len(b)
    far = (x.abs() > largest_plain(x.dtype, m + 1, n)) & (b != 0).any(0)
    one = torch.ones_like(x)
    far_x = torch.where(far, x, one)
    t = torch.where(far, 1 / far_x, x)
    base = t if denominator == "abs-sum" else t.abs()
    sums = _selected(base, far, [torch.zeros_like(b[0]), *b])
    factor = far_x.sign() ** n * far_x ** (m - n)
    below = torch.where(far, t.abs() ** n, one) + sums.abs()
    return _Parts(far, t, base, factor, _selected(t, far, list(a)), sums, below)


def _selected(t: Tensor, far: Tensor, coefficients: list[Tensor]) -> Tensor:
    """``sum_k c_k t^k``, and where ``far`` with the coefficients in the opposite order."""
    if not coefficients:
        return torch.zeros_like(t)
    value = torch.where(far, coefficients[0], coefficients[-1])
    for ascending, descending in zip(coefficients[1:], reversed(coefficients[:-1]), strict=True):
        value = torch.addcmul(torch.where(far, ascending, descending), value, t)
    return value


def _slopes(coefficients: Tensor, first: int) -> list[Tensor]:
    """i c_i for i from 1, where the first of ``coefficients`` is that of power ``first``."""
    return [(i + first) * c for i, c in enumerate(coefficients) if i + first > 0]


def _powers(t: Tensor, highest: int) -> list[Tensor]:
    powers = [torch.ones_like(t)]
    for _ in range(highest):
        powers.append(powers[-1] * t)
    return powers
