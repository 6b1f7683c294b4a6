"""Functions for Triton kernels, stable for any argument: each exponential has an argument at or below zero.

They need neither libdevice nor inline assembly, so that the interpreter runs them.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def tanh(x):
    e = tl.exp(-2.0 * tl.abs(x))
    y = (1.0 - e) / (1.0 + e)
    return tl.where(x >= 0, y, -y)


@triton.jit
def log1p_exp_negative(x):
    """log(1 + exp(-|x|)) by the series of 2 artanh(e / (2 + e)), exact to rounding in float64: 1 + e would round e away."""
    e = tl.exp(-tl.abs(x))
    ratio = e / (2.0 + e)
    square = ratio * ratio
    p = 1.0 / 33.0 + square * (1.0 / 35.0)
    p = 1.0 / 31.0 + square * p
    p = 1.0 / 29.0 + square * p
    p = 1.0 / 27.0 + square * p
    p = 1.0 / 25.0 + square * p
    p = 1.0 / 23.0 + square * p
    p = 1.0 / 21.0 + square * p
    p = 1.0 / 19.0 + square * p
    p = 1.0 / 17.0 + square * p
    p = 1.0 / 15.0 + square * p
    p = 1.0 / 13.0 + square * p
    p = 1.0 / 11.0 + square * p
    p = 1.0 / 9.0 + square * p
    p = 1.0 / 7.0 + square * p
    p = 1.0 / 5.0 + square * p
    p = 1.0 / 3.0 + square * p
    return 2.0 * ratio * (1.0 + square * p)


@triton.jit
def softplus(x):
    return tl.maximum(x, 0.0) + log1p_exp_negative(x)


@triton.jit
def log_sigmoid(x):
    return tl.minimum(x, 0.0) - log1p_exp_negative(x)


@triton.jit
def expm1(x):
    """exp(x) - 1 without cancellation: a series near zero (error below 1e-16 of the result at the switch)."""
    p = 1.0 + x * (1.0 / 15.0)
    p = 1.0 + x * (1.0 / 14.0) * p
    p = 1.0 + x * (1.0 / 13.0) * p
    p = 1.0 + x * (1.0 / 12.0) * p
    p = 1.0 + x * (1.0 / 11.0) * p
    p = 1.0 + x * (1.0 / 10.0) * p
    p = 1.0 + x * (1.0 / 9.0) * p
    p = 1.0 + x * (1.0 / 8.0) * p
    p = 1.0 + x * (1.0 / 7.0) * p
    p = 1.0 + x * (1.0 / 6.0) * p
    p = 1.0 + x * (1.0 / 5.0) * p
    p = 1.0 + x * (1.0 / 4.0) * p
    p = 1.0 + x * (1.0 / 3.0) * p
    p = 1.0 + x * (1.0 / 2.0) * p
    return tl.where(tl.abs(x) < 0.5, x * p, tl.exp(x) - 1.0)


@triton.jit
def gelu(x):
    return 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))


@triton.jit
def gelu_slope(x):
    density = 0.3989422804014327 * tl.exp(-0.5 * x * x)
    return 0.5 * (1.0 + tl.math.erf(x * 0.7071067811865476)) + x * density


@triton.jit
def silu(x):
    return x * sigmoid(x)


@triton.jit
def silu_slope(x):
    s = sigmoid(x)
    return s * (1.0 + x * (1.0 - s))
