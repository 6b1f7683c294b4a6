r"""The bases of a block of rows and their slopes, written into buffers that stay in cache: (G, Din, rows).

Three bases are bumps ``f((x - c_g) / w_g)`` of one shape: the Gaussian ``exp(-z^2)``, the ReLU-KAN bump
``(4 relu(x - lo) relu(hi - x) / (hi - lo)^2)^2 = relu(1 - z^2)^2``, and on uniform knots the cardinal B-spline of order k up to 3,

.. math:: f(z) = \frac{1}{k!} \left[ \left(\tfrac{k+1}{2} - |z|\right)_+^k - (k+1) \left(\tfrac{k-1}{2} - |z|\right)_+^k \right] .

A B-spline on other knots, or of a higher order, takes the recursion of Cox and de Boor. Constants are left out of values and slopes:
they are multiplied into the weights, which are far fewer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import factorial

import torch
from torch import Tensor

from .reference import uniform_grid

CLOSED_FORM = 3  # the closed form of B-splines of a higher order loses digits


class Buffers:
    """Memory for one block of rows, used again for the next."""

    def __init__(self, like: Tensor, shape: tuple[int, int], rows: int) -> None:
        self._like, self._shape, self._largest = like, shape, rows
        self._kept: dict[str, Tensor] = {}
        self.rows = rows

    def __getitem__(self, name: str) -> Tensor:
        outer, inner = self._shape
        if name not in self._kept:
            self._kept[name] = self._like.new_empty(outer * inner * self._largest)
        return self._kept[name][: outer * inner * self.rows].view(outer, inner, self.rows)


@dataclass(frozen=True)
class Basis(ABC):
    """phi is ``value_scale`` times the buffer ``values``, phi' is ``slope_scale`` (G or 1, Din or 1, 1) times the buffer ``slopes``."""

    value_scale: float
    slope_scale: Tensor

    @abstractmethod
    def write(self, x: Tensor, buffers: Buffers, *, slopes: bool) -> None:
        """Fill ``values``, and ``slopes`` if asked, for x (Din, rows)."""

    def chain(self, du: Tensor, buffers: Buffers) -> Tensor:
        """The gradient of x from that of the argument of the basis."""
        return du


@dataclass(frozen=True)
class Bumps(Basis):
    """``f((x - c_g) / w_g)``; centres and inverse widths are (G, Din or 1, 1); B-splines have one ``width``."""

    kind: str
    order: int
    centres: Tensor
    inverse: Tensor
    width: float = 1.0

    def write(self, x: Tensor, buffers: Buffers, *, slopes: bool) -> None:
        torch.sub(x, self.centres, out=buffers["offsets"])
        if self.kind == "rbf":
            _gaussian(self.inverse.square(), buffers, slopes)
        elif self.kind == "relu":
            _relu_bump(self.inverse.square(), buffers, slopes)
        else:
            _cardinal_spline(1 / self.width, self.order, buffers, slopes)


def _gaussian(inverse_square: Tensor, buffers: Buffers, slopes: bool) -> None:
    """exp(-(d / w)^2), and -w^2 / 2 times its slope."""
    offsets = buffers["offsets"]
    values = torch.mul(offsets, offsets, out=buffers["values"]).mul_(-inverse_square).exp_()
    if slopes:
        torch.mul(offsets, values, out=buffers["slopes"])


def _relu_bump(inverse_square: Tensor, buffers: Buffers, slopes: bool) -> None:
    """relu(1 - (d / w)^2)^2, and -w^2 / 4 times its slope."""
    offsets = buffers["offsets"]
    height = torch.mul(offsets, offsets, out=buffers["slopes"]).mul_(-inverse_square).add_(1).clamp_min_(0)
    torch.mul(height, height, out=buffers["values"])
    if slopes:
        height.mul_(offsets)


def _cardinal_spline(inverse: float, order: int, buffers: Buffers, slopes: bool) -> None:
    """k! times the B-spline, and -(k-1)! w times its slope, at a knot the slope to the right of it."""
    offsets, lower = buffers["offsets"], buffers["slopes"]
    values = torch.abs(offsets, out=buffers["values"])
    torch.sub(offsets.new_tensor((order + 1) / 2), values, alpha=inverse, out=values).clamp_min_(0)
    if order == 1:
        lower.copy_((offsets * inverse >= -1) & (offsets * inverse < 1))
    else:
        inner = torch.sub(values, 1, out=buffers["work"]).clamp_min_(0)
        if order == 2:
            torch.sub(values, inner, alpha=3, out=lower)
            values.square_().addcmul_(inner, inner, value=-3)
        else:
            square = torch.mul(inner, inner, out=buffers["spare"])
            values.mul_(torch.mul(values, values, out=lower)).addcmul_(inner, square, value=-4)
            lower.sub_(square, alpha=4)
    if slopes:
        torch.copysign(lower, offsets, out=lower)  # a bump falls on both sides of its centre


@dataclass(frozen=True)
class Chebyshev(Basis):
    """T_d(tanh x) by its recurrence, and U_{d-1} by the same, of which d times is the slope."""

    def write(self, x: Tensor, buffers: Buffers, *, slopes: bool) -> None:
        t = torch.tanh(x)
        _recurrence(buffers["values"], t.new_ones(()), t, 2 * t)
        if slopes:
            _recurrence(buffers["slopes"], t.new_zeros(()), t.new_ones(()), 2 * t)

    def chain(self, du: Tensor, buffers: Buffers) -> Tensor:
        t = buffers["values"][1:2]
        return du.sub_(du * t.square().sum(0))


def _recurrence(out: Tensor, first: Tensor, second: Tensor, factor: Tensor) -> None:
    """out_0 = first, out_1 = second, out_d = factor * out_{d-1} - out_{d-2}."""
    at = out.unbind(0)
    for value, given in zip(at, (first, second), strict=False):
        value.copy_(given)
    for before, previous, value in zip(at, at[1:], at[2:], strict=False):
        torch.mul(factor, previous, out=value).sub_(before)


@dataclass(frozen=True)
class CoxDeBoor(Basis):
    """B-splines on any knots, (G + order + 1, Din or 1, 1), of which intervals of no length count as zero."""

    order: int
    knots: Tensor

    def write(self, x: Tensor, buffers: Buffers, *, slopes: bool) -> None:
        knots = self.knots
        above = x >= knots
        level = (above[:-1] & ~above[1:]).to(x.dtype)
        for p in range(1, self.order + 1):
            inverse = _inverse(knots[p:] - knots[:-p])
            if p == self.order and slopes:
                steep = level * inverse
                torch.sub(steep[:-1], steep[1:], out=buffers["slopes"])
            rising = (x - knots[:-p]).mul_(inverse).mul_(level)
            level = rising[:-1] + level[1:] - rising[1:]
        buffers["values"].copy_(level)


def _inverse(lengths: Tensor) -> Tensor:
    return torch.where(lengths > 0, 1 / torch.where(lengths > 0, lengths, 1), 0)


def make_basis(
    x: Tensor, weight: Tensor, grid: Tensor | None, dtype: torch.dtype, basis: str, order: int, low: float, high: float
) -> Basis:
    """The basis in the dtype it is computed in."""
    count = weight.shape[2]
    one = torch.ones((1, 1, 1), dtype=dtype, device=x.device)
    given = uniform_grid(basis, count, order, low, high, one) if grid is None else grid.detach()
    if given is None:
        return Chebyshev(1.0, torch.arange(count, dtype=dtype, device=x.device).view(-1, 1, 1))
    given = given.to(dtype)
    if basis == "bspline" and grid is None and order <= CLOSED_FORM:
        width = (high - low) / (count - order)
        centres = _leading((given[: -order - 1] + given[order + 1 :]) / 2)
        return Bumps(1 / factorial(order), one / (-width * factorial(order - 1)), basis, order, centres, one / width, width)
    if basis == "bspline":
        return CoxDeBoor(1.0, one * order, order, _leading(given))
    if basis == "rbf" and grid is None:
        width = (high - low) / (count - 1)
        return Bumps(1.0, one * (-2 / width**2), basis, order, given[0].view(-1, 1, 1), one / width)
    centres, widths = centres_and_widths(given, basis)
    return Bumps(1.0, (-2.0 if basis == "rbf" else -4.0) / widths.square(), basis, order, centres, 1 / widths)


def centres_and_widths(grid: Tensor, basis: str) -> tuple[Tensor, Tensor]:
    """(G, Din or 1, 1) each, from centres and widths or from lows and highs, (2, G) or (2, Din, G)."""
    first, second = _leading(grid[0]), _leading(grid[1])
    return (first, second) if basis == "rbf" else ((first + second) / 2, (second - first) / 2)


def _leading(grid: Tensor) -> Tensor:
    """(G) or (Din, G) as (G, Din or 1, 1)."""
    return grid.reshape(-1, grid.shape[-1]).T.unsqueeze(2).contiguous()


def grid_gradient(centres: Tensor, widths: Tensor, grid: Tensor, basis: str) -> Tensor:
    """The gradient of ``grid`` from those of centres and widths, (G, Din) each."""
    both = torch.stack([centres, widths] if basis == "rbf" else [(centres - widths) / 2, (centres + widths) / 2])
    if grid.dim() == 2:
        both = both.sum(2, keepdim=True)
    return both.transpose(1, 2).reshape(grid.shape).to(grid.dtype)
