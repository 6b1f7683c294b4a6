"""The backward pass of the recurrence in Triton."""

from __future__ import annotations

import triton
import triton.language as tl

from ..numerics import sigmoid, tanh


@triton.jit
def backward_kernel(
    gates, recurrent, state, returning, h_out, kept, dh_out, dlast, dgates, dreturning, dstate, batch, steps, heads, width,
    CELL: tl.constexpr, HAS_STATE: tl.constexpr, HAS_DH: tl.constexpr, HAS_DLAST: tl.constexpr, REVERSE: tl.constexpr,
    ACC: tl.constexpr, DOT: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """From the last step to the first; ``returning`` is R h + b of every step, its gradient ``dreturning``; shapes as in forward."""
    size = BLOCK_D if EXACT else width  # known to the compiler, the rows of a head are read whole
    GATES: tl.constexpr = 1 if CELL == "elman" else (3 if CELL == "gru" else 4)
    row = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    head = tl.program_id(1)
    o = tl.arange(0, BLOCK_D)[:, None]
    i = tl.arange(0, BLOCK_D)[None, :]
    inside = (row < batch) & (i < size)
    square = (i < size) & (o < size)
    layer = heads * size
    ahead = layer if REVERSE else -layer
    final = 0 if REVERSE else (steps - 1)
    entry = row.to(tl.int64) * layer + head * size + i
    place = row.to(tl.int64) * steps * layer + head * size + i
    place_gates = row.to(tl.int64) * steps * GATES * layer + head * size + i
    at = tl.cast(final, tl.int64) * layer
    states = tl.cast(batch, tl.int64) * layer
    tape = states * steps

    matrix = recurrent + head * size * size + o * size + i
    r0 = tl.load(matrix, mask=square, other=0.0).to(DOT)
    if GATES > 1:
        r1 = tl.load(matrix + layer * size, mask=square, other=0.0).to(DOT)
        r2 = tl.load(matrix + 2 * layer * size, mask=square, other=0.0).to(DOT)
    if GATES > 3:
        r3 = tl.load(matrix + 3 * layer * size, mask=square, other=0.0).to(DOT)

    dh = tl.zeros((BLOCK_B, BLOCK_D), dtype=ACC)
    dc = dh
    dn = dh
    rest = dh
    c = dh
    n = dh
    if CELL == "lstm" or CELL == "slstm":
        c = tl.load(kept + at + place, mask=inside, other=0.0)
    if CELL == "slstm":
        n = tl.load(kept + tape + at + place, mask=inside, other=0.0)
    if HAS_DLAST:
        dh = tl.load(dlast + entry, mask=inside, other=0.0).to(ACC)
        if GATES > 3:
            dc = tl.load(dlast + states + entry, mask=inside, other=0.0).to(ACC)
        if CELL == "slstm":
            dn = tl.load(dlast + 2 * states + entry, mask=inside, other=0.0).to(ACC)
            rest = tl.load(dlast + 3 * states + entry, mask=inside, other=0.0).to(ACC) - dc * c - dn * n

    for done in range(steps):
        before = inside & (row * 0 + done + 1 < steps)
        start = inside & (row * 0 + done + 1 == steps)
        if HAS_DH:
            dh += tl.load(dh_out + at + place, mask=inside, other=0.0).to(ACC)
        p0 = tl.load(returning + GATES * at + place_gates, mask=inside, other=0.0)
        u0 = tl.load(gates + GATES * at + place_gates, mask=inside, other=0.0).to(ACC) + p0
        if GATES > 1:
            p1 = tl.load(returning + (GATES * at + layer) + place_gates, mask=inside, other=0.0)
            p2 = tl.load(returning + (GATES * at + 2 * layer) + place_gates, mask=inside, other=0.0)
            u1 = tl.load(gates + (GATES * at + layer) + place_gates, mask=inside, other=0.0).to(ACC) + p1
            u2 = tl.load(gates + (GATES * at + 2 * layer) + place_gates, mask=inside, other=0.0).to(ACC)
        if GATES > 3:
            u3 = tl.load(gates + (GATES * at + 3 * layer) + place_gates, mask=inside, other=0.0).to(ACC)
            u3 += tl.load(returning + (GATES * at + 3 * layer) + place_gates, mask=inside, other=0.0)
            c_before = tl.load(kept + (at + ahead) + place, mask=before, other=0.0)
            if HAS_STATE:
                c_before += tl.load(state + states + entry, mask=start, other=0.0).to(ACC)
        carry = tl.zeros((BLOCK_B, BLOCK_D), dtype=ACC)
        if CELL == "elman":
            y = tanh(u0)
            d0 = dh * (1.0 - y * y)
        if CELL == "gru":
            h_before = tl.load(h_out + (at + ahead) + place, mask=before, other=0.0).to(ACC)
            if HAS_STATE:
                h_before += tl.load(state + entry, mask=start, other=0.0).to(ACC)
            r = sigmoid(u0)
            z = sigmoid(u1)
            new = tanh(u2 + r * p2)
            dnew = dh * (1.0 - z) * (1.0 - new * new)
            d0 = dnew * p2 * r * (1.0 - r)
            d1 = dh * (h_before - new) * z * (1.0 - z)
            d2 = dnew * r
            carry = dh * z
        if CELL == "lstm":
            enter = sigmoid(u0)
            keep = sigmoid(u1)
            new = tanh(u2 + p2)
            out = sigmoid(u3)
            bent = tanh(c)
            dc += dh * out * (1.0 - bent * bent)
            d0 = dc * new * enter * (1.0 - enter)
            d1 = dc * c_before * keep * (1.0 - keep)
            d2 = dc * enter * (1.0 - new * new)
            d3 = dh * bent * out * (1.0 - out)
            dc = dc * keep
            c = c_before
        if CELL == "slstm":
            n_before = tl.load(kept + tape + (at + ahead) + place, mask=before, other=0.0)
            if HAS_STATE:
                n_before += tl.load(state + 2 * states + entry, mask=start, other=0.0).to(ACC)
            lead = tl.load(kept + (2 * tape + at) + place, mask=inside, other=0.0)
            larger = tl.where(lead <= 0.0, 1.0, 0.0)
            enter = tl.exp(tl.minimum(lead, 0.0))
            keep = tl.exp(tl.minimum(-lead, 0.0))
            new = tanh(u2 + p2)
            out = sigmoid(u3)
            divisor = tl.maximum(n, 1.0)
            y = out * c / divisor
            dc += dh * out / divisor
            dn -= tl.where(n < 1.0, 0.0, dh * y / divisor)
            rest -= tl.where(n < 1.0, dh * y, 0.0)
            d0 = enter * (new * dc + dn) + (1.0 - larger) * rest
            rest = larger * rest
            d1 = (keep * (c_before * dc + n_before * dn) + rest) * sigmoid(-u1)
            d2 = dc * enter * (1.0 - new * new)
            d3 = dh * (c / divisor) * out * (1.0 - out)
            dc = dc * keep
            dn = dn * keep
            c = c_before
            n = n_before
        dh = carry + tl.dot(d0.to(DOT), r0, out_dtype=ACC, input_precision="ieee")
        tl.store(dreturning + GATES * at + place_gates, d0, mask=inside)
        tl.store(dgates + GATES * at + place_gates, d0, mask=inside)
        if GATES > 1:
            dh += tl.dot(d1.to(DOT), r1, out_dtype=ACC, input_precision="ieee")
            dh += tl.dot(d2.to(DOT), r2, out_dtype=ACC, input_precision="ieee")
            tl.store(dreturning + (GATES * at + layer) + place_gates, d1, mask=inside)
            tl.store(dreturning + (GATES * at + 2 * layer) + place_gates, d2, mask=inside)
            tl.store(dgates + (GATES * at + layer) + place_gates, d1, mask=inside)
            if CELL == "gru":
                d2 = dnew
            tl.store(dgates + (GATES * at + 2 * layer) + place_gates, d2, mask=inside)
        if GATES > 3:
            dh += tl.dot(d3.to(DOT), r3, out_dtype=ACC, input_precision="ieee")
            tl.store(dreturning + (GATES * at + 3 * layer) + place_gates, d3, mask=inside)
            tl.store(dgates + (GATES * at + 3 * layer) + place_gates, d3, mask=inside)
        at += ahead

    tl.store(dstate + entry, dh, mask=inside)
    if GATES > 3:
        tl.store(dstate + states + entry, dc, mask=inside)
    if CELL == "slstm":
        tl.store(dstate + 2 * states + entry, dn, mask=inside)
        tl.store(dstate + 3 * states + entry, rest + dc * c + dn * n, mask=inside)
