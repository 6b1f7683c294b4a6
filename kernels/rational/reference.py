"""The definition of the safe rational function."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compiling import for_each_part, in_parts

DENOMINATORS = ("abs-sum", "sum-abs")


def reference(x: Tensor, p: Tensor, q: Tensor, *, denominator: str) -> Tensor:
    """``P / Q`` by Horner's rule in the dtype of its inputs."""
    return _ratio(x, over_columns(p, x.shape[-1]), over_columns(q, x.shape[-1]), denominator)


def compilable(x: Tensor, p: Tensor, q: Tensor, *, denominator: str) -> Tensor:
    """The definition with sums over the rows in parts."""
    rows = in_parts(x)
    a, b = (for_each_part(over_columns(part, x.shape[-1]), len(rows)) for part in (p, q))
    return _ratio(rows, a, b, denominator).view(x.shape)


def _ratio(x: Tensor, a: Tensor, b: Tensor, denominator: str) -> Tensor:
    below = (x * polynomial(x, b)).abs() if denominator == "abs-sum" else x.abs() * polynomial(x.abs(), b.abs())
    return (polynomial(x, a) / (1.0 + below)).to(x.dtype)


def over_columns(coefficients: Tensor, width: int) -> Tensor:
    """(terms, groups) as (terms, width), those of a group beside each other."""
    terms, groups = coefficients.shape
    return coefficients[:, :, None].expand(terms, groups, width // groups).reshape(terms, width)


def polynomial(x: Tensor, coefficients: Tensor) -> Tensor:
    """``sum_i c_i x^i`` for coefficients (terms, ..., width)."""
    *lower, highest = coefficients.unbind()
    value = highest.expand(x.shape)
    for c in reversed(lower):
        value = value * x + c
    return value


def largest_plain(dtype: torch.dtype, terms_above: int, terms_below: int) -> float:
    """The magnitude up to which no power overflows: half the exponents are left to the coefficients."""
    return float(torch.finfo(dtype).max ** (0.5 / max(terms_above - 1, terms_below, 1)))
