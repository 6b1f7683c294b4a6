"""The bases in registers: value or slope of phi_g at a tile of inputs, for one g at a time."""

from __future__ import annotations

import triton
import triton.language as tl

from ..numerics import tanh

KINDS = {"rbf": 0, "relu": 1, "chebyshev": 2, "cardinal": 3, "knots": 4}
RBF, RELU, CHEBYSHEV, KNOTS = (tl.constexpr(KINDS[name]) for name in ("rbf", "relu", "chebyshev", "knots"))


@triton.jit
def argument(x, KIND: tl.constexpr):
    """What the basis is a function of: tanh(x) for polynomials, otherwise x."""
    if KIND == CHEBYSHEV:
        x = tanh(x)
    return x


@triton.jit
def basis(u, g, count, table, step, column, inside, SLOPE: tl.constexpr, KIND: tl.constexpr, ORDER: tl.constexpr):
    """phi_g(u), or its slope; ``table`` has ``step`` numbers a row: knots, or centres and then inverse widths."""
    if KIND == CHEBYSHEV:
        return chebyshev(u, g, SLOPE)
    elif KIND == KNOTS:
        return spline(u, g, table, step, column, inside, SLOPE, ORDER)
    else:
        inverse = tl.load(table + (count + g) * step + column, mask=inside, other=0.0)
        z = standardised(u, g, count, table, step, column, inside)
        if SLOPE:
            return bump_slope(z, KIND, ORDER) * inverse
        else:
            return bump(z, KIND, ORDER)


@triton.jit
def standardised(u, g, count, table, step, column, inside):
    """z = (u - c_g) / w_g."""
    centre = tl.load(table + g * step + column, mask=inside, other=0.0)
    inverse = tl.load(table + (count + g) * step + column, mask=inside, other=0.0)
    return (u - centre) * inverse


@triton.jit
def positive(z):
    """max(z, 0) that lets NaN through."""
    return tl.where(z < 0, 0.0, z)


@triton.jit
def bump(z, KIND: tl.constexpr, ORDER: tl.constexpr):
    if KIND == RBF:
        return tl.exp(-z * z)
    elif KIND == RELU:
        height = positive(1.0 - z * z)
        return height * height
    else:
        outer = positive(0.5 * (ORDER + 1) - tl.abs(z))
        inner = positive(outer - 1.0)
        if ORDER == 1:
            return outer
        elif ORDER == 2:
            return 0.5 * (outer * outer - 3.0 * inner * inner)
        else:
            return (outer * outer * outer - 4.0 * inner * inner * inner) / 6.0


@triton.jit
def bump_slope(z, KIND: tl.constexpr, ORDER: tl.constexpr):
    if KIND == RBF:
        return -2.0 * z * tl.exp(-z * z)
    elif KIND == RELU:
        return -4.0 * z * positive(1.0 - z * z)
    else:
        outer = positive(0.5 * (ORDER + 1) - tl.abs(z))
        inner = positive(outer - 1.0)
        if ORDER == 1:
            fall = tl.where((z >= -1) & (z < 1), 1.0, 0.0).to(z.dtype)
        elif ORDER == 2:
            fall = outer - 3.0 * inner
        else:
            fall = 0.5 * (outer * outer - 4.0 * inner * inner)
        return tl.where(z < 0, fall, -fall)


@triton.jit
def chebyshev(t, g, SLOPE: tl.constexpr):
    """T_g(t), or its slope g U_{g-1}(t); both obey s_{d+1} = 2 t s_d - s_{d-1}."""
    if SLOPE:
        now = t * 0.0
        after = now + 1.0
    else:
        now = t * 0.0 + 1.0
        after = t
    for _ in range(g):
        later = 2.0 * t * after - now
        now = after
        after = later
    if SLOPE:
        now = now * g
    return now


@triton.jit
def spline(x, g, knots, step, column, inside, SLOPE: tl.constexpr, ORDER: tl.constexpr):
    """The B-spline of this order that begins at knot g, by the recursion of Cox and de Boor, or its slope."""
    start = tl.load(knots + g * step + column, mask=inside, other=0.0)
    next_start = tl.load(knots + (g + 1) * step + column, mask=inside, other=0.0)
    if ORDER == 0:
        return tl.where((x >= start) & (x < next_start), 1.0, 0.0).to(x.dtype)
    else:
        end = tl.load(knots + (g + ORDER) * step + column, mask=inside, other=0.0)
        next_end = tl.load(knots + (g + ORDER + 1) * step + column, mask=inside, other=0.0)
        rising = spline(x, g, knots, step, column, inside, False, ORDER - 1) * inverse_length(start, end)
        falling = spline(x, g + 1, knots, step, column, inside, False, ORDER - 1) * inverse_length(next_start, next_end)
        if SLOPE:
            return ORDER * (rising - falling)
        else:
            return (x - start) * rising + (next_end - x) * falling


@triton.jit
def inverse_length(start, end):
    """1 / (end - start), and zero for an interval of no length."""
    length = end - start
    return tl.where(length > 0, 1.0 / tl.where(length > 0, length, 1.0), 0.0)
