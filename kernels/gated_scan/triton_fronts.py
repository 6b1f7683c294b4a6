"""The front ends in Triton: what a channel needs once, gates and inputs at a step, the gradients of that, and what follows the last step.

``FRONT`` chooses among them at compilation; the arguments p0 to p3 and q0 to q2 are those of :mod:`archwright.kernels.gated_scan.fronts` in
their order, and so are the numbers 1e-24 and 20. Real numbers leave the imaginary results unused.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..numerics import expm1, sigmoid, softplus
from ..scan.triton_ import load, store

NUMBERS = {"rg_lru_scan": 0, "min_gru_scan": 1, "hgrn_scan": 2, "gate_loop_scan": 3, "lru_scan": 4}


@triton.jit
def one(pointer, offset, mask, ACC: tl.constexpr):
    return tl.load(pointer + offset, mask=mask, other=0.0).to(ACC)


@triton.jit
def vectors(q0, q1, q2, channel, inside, c, FRONT: tl.constexpr, HAS_Q0: tl.constexpr, HAS_Q1: tl.constexpr, ACC: tl.constexpr):
    """RG-LRU: -c softplus(-log odds). HGRN: floor, cosine and sine of the phase. LRU: the gate's two parts and gamma."""
    w0 = tl.zeros(channel.shape, dtype=ACC)
    w1 = tl.zeros(channel.shape, dtype=ACC) + 1.0
    w2 = w0
    if FRONT == 0:
        w0 = -c * softplus(-one(q0, channel, inside, ACC))
    elif FRONT == 2:
        if HAS_Q0:
            w0 = one(q0, channel, inside, ACC)
        if HAS_Q1:
            theta = one(q1, channel, inside, ACC)
            w1 = tl.cos(theta)
            w2 = tl.sin(theta)
    elif FRONT == 4:
        keep = tl.exp(-tl.exp(tl.minimum(one(q0, channel, inside, ACC), 20.0)))
        theta = one(q1, channel, inside, ACC)
        w0 = keep * tl.cos(theta)
        w1 = keep * tl.sin(theta)
        w2 = tl.exp(one(q2, channel, inside, ACC))
    return w0, w1, w2


@triton.jit
def entered(
    p0, p1, p2, p3, w0, w1, w2, offset, mask,
    FRONT: tl.constexpr, FLAG: tl.constexpr, VALUE_COMPLEX: tl.constexpr, COMPLEX: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """a and x, both parts; masked lanes have a = 1 and x = 0, which leaves a state as it is."""
    if FRONT == 0:
        log_decay = w0 * sigmoid(one(p0, offset, mask, ACC))
        a_r = tl.exp(log_decay)
        scale = tl.sqrt(1e-24 - expm1(2.0 * log_decay))
        x_r = scale * sigmoid(one(p1, offset, mask, ACC)) * one(p2, offset, mask, ACC)
        a_i = a_r
        x_i = x_r
    elif FRONT == 1:
        update = one(p0, offset, mask, ACC)
        value = one(p1, offset, mask, ACC)
        if FLAG:
            value = tl.where(value >= 0, value + 0.5, sigmoid(value))
        a_r = sigmoid(-update)
        x_r = sigmoid(update) * value
        a_i = a_r
        x_i = x_r
    elif FRONT == 2:
        forget = one(p0, offset, mask, ACC)
        keep = w0 + (1.0 - w0) * sigmoid(forget)
        rest = (1.0 - w0) * sigmoid(-forget)
        value_r, value_i = load(p1, offset, mask, 0.0, ACC, VALUE_COMPLEX)
        a_r = keep
        a_i = keep
        if COMPLEX:
            a_r = keep * w1
            a_i = keep * w2
        x_r = rest * value_r
        x_i = tl.zeros_like(x_r)
        if VALUE_COMPLEX:
            x_i = rest * value_i
    elif FRONT == 3:
        magnitude = one(p0, offset, mask, ACC)
        phase = one(p1, offset, mask, ACC)
        keep = sigmoid(magnitude)
        a_r = keep * tl.cos(phase)
        a_i = keep * tl.sin(phase)
        x_r = one(p2, offset, mask, ACC) * one(p3, offset, mask, ACC)
        if FLAG:
            x_r = x_r * sigmoid(-magnitude)
        x_i = tl.zeros_like(x_r)
    else:
        u_r, u_i = load(p0, offset, mask, 0.0, ACC, VALUE_COMPLEX)
        x_r = w2 * u_r
        x_i = tl.zeros_like(x_r)
        if VALUE_COMPLEX:
            x_i = w2 * u_i
        a_r = tl.zeros_like(x_r) + w0
        a_i = tl.zeros_like(x_r) + w1
    return tl.where(mask, a_r, 1.0), tl.where(mask, a_i, 0.0), tl.where(mask, x_r, 0.0), tl.where(mask, x_i, 0.0)


@triton.jit
def pulled(
    p0, p1, p2, p3, d0, d1, d2, d3, w0, w1, w2, offset, mask, da_r, da_i, dx_r, dx_i,
    FRONT: tl.constexpr, FLAG: tl.constexpr, VALUE_COMPLEX: tl.constexpr, COMPLEX: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write the gradients at a step; return what it adds to those of the vectors."""
    s0 = tl.zeros_like(da_r)
    s1 = s0
    s2 = s0
    if FRONT == 0:
        recurrence = one(p0, offset, mask, ACC)
        opened = sigmoid(recurrence)
        let_in = sigmoid(one(p1, offset, mask, ACC))
        log_decay = w0 * opened
        a = tl.exp(log_decay)
        square = 1e-24 - expm1(2.0 * log_decay)
        du = dx_r * tl.sqrt(square) * let_in
        d_let_in = du * one(p2, offset, mask, ACC)
        d_log = (da_r - d_let_in * a / square) * a
        tl.store(d0 + offset, d_log * log_decay * sigmoid(-recurrence), mask=mask)
        tl.store(d1 + offset, d_let_in * (1.0 - let_in), mask=mask)
        tl.store(d2 + offset, du, mask=mask)
        s0 = d_log * opened
    elif FRONT == 1:
        update = one(p0, offset, mask, ACC)
        value = one(p1, offset, mask, ACC)
        z = sigmoid(update)
        slope = tl.zeros_like(value) + 1.0
        if FLAG:
            low = sigmoid(value)
            slope = tl.where(value >= 0, 1.0, low * (1.0 - low))
            value = tl.where(value >= 0, value + 0.5, low)
        tl.store(d0 + offset, (dx_r * value - da_r) * z * sigmoid(-update), mask=mask)
        tl.store(d1 + offset, dx_r * z * slope, mask=mask)
    elif FRONT == 2:
        forget = one(p0, offset, mask, ACC)
        up = sigmoid(forget)
        down = sigmoid(-forget)
        above = 1.0 - w0
        value_r, value_i = load(p1, offset, mask, 0.0, ACC, VALUE_COMPLEX)
        d_keep = da_r - dx_r * value_r
        if COMPLEX:
            s1 = (w0 + above * up) * (da_i * w1 - da_r * w2)
            d_keep = da_r * w1 + da_i * w2 - dx_r * value_r
        if VALUE_COMPLEX:
            d_keep -= dx_i * value_i
        s0 = d_keep * down
        tl.store(d0 + offset, d_keep * above * up * down, mask=mask)
        store(d1, offset, above * down * dx_r, above * down * dx_i, mask, VALUE_COMPLEX)
    elif FRONT == 3:
        magnitude = one(p0, offset, mask, ACC)
        phase = one(p1, offset, mask, ACC)
        key = one(p2, offset, mask, ACC)
        value = one(p3, offset, mask, ACC)
        keep = sigmoid(magnitude)
        rest = sigmoid(-magnitude)
        cos = tl.cos(phase)
        sin = tl.sin(phase)
        d_keep = da_r * cos + da_i * sin
        entering = dx_r
        if FLAG:
            d_keep -= dx_r * key * value
            entering = dx_r * rest
        tl.store(d0 + offset, d_keep * keep * rest, mask=mask)
        tl.store(d1 + offset, keep * (da_i * cos - da_r * sin), mask=mask)
        tl.store(d2 + offset, entering * value, mask=mask)
        tl.store(d3 + offset, entering * key, mask=mask)
    else:
        u_r, u_i = load(p0, offset, mask, 0.0, ACC, VALUE_COMPLEX)
        s0 = da_r
        s1 = da_i
        s2 = dx_r * u_r
        if VALUE_COMPLEX:
            s2 += dx_i * u_i
        store(d0, offset, w2 * dx_r, w2 * dx_i, mask, VALUE_COMPLEX)
    return s0, s1, s2


@triton.jit
def at_the_end(q0, sum0, sum1, sum2, w0, w1, w2, channel, inside, c, FRONT: tl.constexpr, ACC: tl.constexpr):
    """The vectors' gradients from their sums over the steps."""
    if FRONT == 0:
        sum0 = sum0 * c * sigmoid(-one(q0, channel, inside, ACC))
    if FRONT == 4:
        nu = one(q0, channel, inside, ACC)
        along = sum0 * w0 + sum1 * w1
        across = sum1 * w0 - sum0 * w1
        sum0 = tl.where(nu <= 20.0, -tl.exp(tl.minimum(nu, 20.0)) * along, 0.0)
        sum1 = across
        sum2 = w2 * sum2
    return sum0, sum1, sum2
