"""The delta rule in Triton: one launch per direction.

A program owns one head of one sequence and a tile of the value width; it walks over the sequence in chunks of 16 steps with its
part of the state in registers. The mathematics of a chunk is that of :mod:`.fast`. Each program finds the small triangular inverse
for itself; the gradients of queries, keys, rates and decays are sums over the value tiles, made from partial results after the launch.

No product takes a transposed accumulator as its operand (compilers get those wrong on some GPUs): backward computes the transposes
that it needs from what it has loaded.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from ..launching import ACCUMULATE, cdiv, cover, launch, or_unused, tile
from ..spec import Variant
from .reference import EPS, Run, reference, scale_of

WIDEST = 128


@triton.jit
def exact(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def dot(a, b):
    return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def inverse(strict, row, ACC: tl.constexpr, LEVELS: tl.constexpr):
    """(I + strict)^-1 for a strictly triangular matrix by substitution of blocks: from the inverses of two neighbouring diagonal
    blocks that of their union. Unlike a power series it never forms large terms that have to cancel."""
    x = tl.where(row[:, None] == row[None, :], 1.0, 0.0).to(ACC)
    for level in tl.static_range(LEVELS):
        one, other = row[:, None] >> level, row[None, :] >> level
        between = tl.where((one != other) & ((one >> 1) == (other >> 1)), strict, 0.0)
        x -= between if level == 0 else exact(exact(x, between), x)
    return x


@triton.jit
def unit(x, EPS: tl.constexpr):
    """Rows over their L2 norms, and the factors that did it."""
    factor = 1.0 / tl.sqrt(tl.sum(x * x, axis=1) + EPS)
    return x * factor[:, None], factor


@triton.jit
def decays(gate, row):
    """Factors of a chunk: for pairs (i, j), from the start to i, from i to the end, over the whole. Each exponent is a sum of its own
    steps, so that one strong decay does not take the digits of the others."""
    steps = tl.where(row[:, None] > row[None, :], gate[:, None] + 0.0 * row[None, :], 0.0)
    pairs = tl.where(row[:, None] >= row[None, :], tl.exp(tl.cumsum(steps, axis=0)), 0.0)
    enter = tl.exp(tl.sum(tl.where(row[None, :] <= row[:, None], gate[None, :], 0.0), axis=1))
    leave = tl.exp(tl.sum(tl.where(row[None, :] > row[:, None], gate[None, :], 0.0), axis=1))
    return pairs, enter, leave, tl.exp(tl.sum(gate, axis=0))


@triton.jit
def forward_kernel(
    q, k, v, beta, log_decay, state, out, last, states, written, steps, heads, width, values,
    HAS_DECAY: tl.constexpr, HAS_STATE: tl.constexpr, UNIT: tl.constexpr, EPS: tl.constexpr, SCALE: tl.constexpr, ACC: tl.constexpr,
    ROWS: tl.constexpr, LEVELS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """q, k (batch, steps, heads, width), v, out, written (batch, steps, heads, values), beta, log_decay (batch, steps, heads),
    state, last (batch, heads, width, values), states (chunks, batch, heads, width, values), all contiguous."""
    head = tl.program_id(1).to(tl.int64)
    row, at_k = tl.arange(0, ROWS), tl.arange(0, BLOCK_K)
    at_v = tl.program_id(0) * BLOCK_V + tl.arange(0, BLOCK_V)
    in_k, in_v = at_k < width, at_v < values
    cell = at_k[:, None] * values + at_v[None, :]
    in_cell = in_k[:, None] & in_v[None, :]
    memory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    if HAS_STATE:
        memory = tl.load(state + head * width * values + cell, mask=in_cell, other=0.0).to(ACC)
    first = head // heads * steps * heads + head % heads
    below, past = row[:, None] > row[None, :], row[:, None] >= row[None, :]
    store = states + head * width * values
    for start in range(0, steps, ROWS):
        t = start + row
        inside = t < steps
        line = first + t.to(tl.int64) * heads
        narrow = line[:, None] * width + at_k[None, :]
        wide = line[:, None] * values + at_v[None, :]
        in_narrow, in_wide = inside[:, None] & in_k[None, :], inside[:, None] & in_v[None, :]
        query = tl.load(q + narrow, mask=in_narrow, other=0.0).to(ACC)
        key = tl.load(k + narrow, mask=in_narrow, other=0.0).to(ACC)
        value = tl.load(v + wide, mask=in_wide, other=0.0).to(ACC)
        rate = tl.load(beta + line, mask=inside, other=0.0).to(ACC)
        if UNIT:
            query, _ = unit(query, EPS)
            key, _ = unit(key, EPS)
        write = key * rate[:, None]
        reach, clash = tl.where(past, dot(query, tl.trans(write)), 0.0), tl.where(below, dot(key, tl.trans(write)), 0.0)
        tl.store(store + cell, memory, mask=in_cell)
        store += tl.num_programs(1).to(tl.int64) * width * values
        seen, wrong = dot(query, memory), dot(key, memory)
        if HAS_DECAY:
            gate = tl.load(log_decay + line, mask=inside, other=0.0).to(ACC)
            pairs, enter, leave, whole = decays(gate, row)
            reach, clash, seen, wrong = reach * pairs, clash * pairs, seen * enter[:, None], wrong * enter[:, None]
            write *= leave[:, None]
            memory *= whole
        fresh = dot(inverse(clash, row, ACC, LEVELS), value - wrong)
        tl.store(written + wide, fresh, mask=in_wide)
        tl.store(out + wide, SCALE * (seen + dot(reach, fresh)), mask=in_wide)
        memory += dot(tl.trans(write), fresh)
    tl.store(last + head * width * values + cell, memory, mask=in_cell)


@triton.jit
def backward_kernel(
    q, k, beta, log_decay, states, written, dout, dlast, dq, dk, dv, dbeta, dlog, dstate,
    steps, heads, width, values,
    HAS_DECAY: tl.constexpr, HAS_DOUT: tl.constexpr, HAS_DLAST: tl.constexpr, UNIT: tl.constexpr, EPS: tl.constexpr,
    SCALE: tl.constexpr, ACC: tl.constexpr, ROWS: tl.constexpr, LEVELS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """From the last chunk to the first; dq, dk, dbeta, dlog have one more axis in front, the value tile."""
    part, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    many = tl.num_programs(1).to(tl.int64)
    row, at_k = tl.arange(0, ROWS), tl.arange(0, BLOCK_K)
    at_v = tl.program_id(0) * BLOCK_V + tl.arange(0, BLOCK_V)
    in_k, in_v = at_k < width, at_v < values
    cell = at_k[:, None] * values + at_v[None, :]
    in_cell = in_k[:, None] & in_v[None, :]
    dmemory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    if HAS_DLAST:
        dmemory = tl.load(dlast + head * width * values + cell, mask=in_cell, other=0.0).to(ACC)
    first = head // heads * steps * heads + head % heads
    partial = part * many * steps
    below, past = row[:, None] > row[None, :], row[:, None] >= row[None, :]
    above, ahead = row[:, None] < row[None, :], row[:, None] <= row[None, :]
    chunks = tl.cdiv(steps, ROWS)
    for done in range(0, chunks):
        chunk = chunks - 1 - done
        t = chunk * ROWS + row
        inside = t < steps
        line = first + t.to(tl.int64) * heads
        narrow = line[:, None] * width + at_k[None, :]
        wide = line[:, None] * values + at_v[None, :]
        in_narrow, in_wide = inside[:, None] & in_k[None, :], inside[:, None] & in_v[None, :]
        query = tl.load(q + narrow, mask=in_narrow, other=0.0).to(ACC)
        key = tl.load(k + narrow, mask=in_narrow, other=0.0).to(ACC)
        rate = tl.load(beta + line, mask=inside, other=0.0).to(ACC)
        memory = tl.load(states + (chunk * many + head) * width * values + cell, mask=in_cell, other=0.0)
        # values on the first axis: the transposes are loaded, not computed
        fresh = tl.load(written + line[None, :] * values + at_v[:, None], mask=inside[None, :] & in_v[:, None], other=0.0)
        dseen = tl.zeros((ROWS, BLOCK_V), dtype=ACC)
        if HAS_DOUT:
            dseen = SCALE * tl.load(dout + wide, mask=in_wide, other=0.0).to(ACC)
        if UNIT:
            query, query_factor = unit(query, EPS)
            key, key_factor = unit(key, EPS)
        write = key * rate[:, None]
        reach, clash = tl.where(ahead, dot(write, tl.trans(query)), 0.0), tl.where(above, dot(write, tl.trans(key)), 0.0)
        leaving, asking, knowing = write, query, key
        if HAS_DECAY:
            gate = tl.load(log_decay + line, mask=inside, other=0.0).to(ACC)
            pairs, enter, leave, whole = decays(gate, row)
            reach, clash = reach * tl.trans(pairs), clash * tl.trans(pairs)
            leaving, asking, knowing = write * leave[:, None], query * enter[:, None], key * enter[:, None]
        dfresh = dot(reach, dseen) + dot(leaving, dmemory)
        dvalue = dot(inverse(clash, row, ACC, LEVELS), dfresh)
        tl.store(dv + wide, dvalue, mask=in_wide)
        dreach, dclash = tl.where(past, dot(dseen, fresh), 0.0), tl.where(below, -dot(dvalue, fresh), 0.0)
        dquery, dkey = dot(dseen, tl.trans(memory)), -dot(dvalue, tl.trans(memory))
        dwrite = dot(dmemory, fresh)
        if HAS_DECAY:
            crossing = tl.cumsum(dreach * tl.trans(reach) + dclash * tl.trans(clash), axis=0, reverse=True)
            dgate = tl.sum(tl.where(below, crossing, 0.0), axis=1) + whole * tl.sum(memory * dmemory)
            dreach, dclash = dreach * pairs, dclash * pairs
            dquery, dkey, dwrite = dquery * enter[:, None], dkey * enter[:, None], dwrite * leave[None, :]
            entered = tl.sum(dquery * query + dkey * key, axis=1)
            left = tl.sum(dwrite * tl.trans(write), axis=0)
            dgate += tl.sum(tl.where(ahead, entered[None, :], 0.0) + tl.where(below, left[None, :], 0.0), axis=1)
            tl.store(dlog + partial + line, dgate, mask=inside)
            dmemory *= whole
        dquery += dot(dreach, write)
        dkey += dot(dclash, write)
        # width on the first axis, for the same reason
        dwrite += dot(tl.trans(query), dreach) + dot(tl.trans(key), dclash)
        tl.store(dbeta + partial + line, tl.sum(dwrite * tl.trans(key), axis=0), mask=inside)
        dkey += rate[:, None] * tl.trans(dwrite)
        if UNIT:
            dkey = (dkey - key * tl.sum(dkey * key, axis=1)[:, None]) * key_factor[:, None]
            dquery = (dquery - query * tl.sum(dquery * query, axis=1)[:, None]) * query_factor[:, None]
        tl.store(dq + partial * width + narrow, dquery, mask=in_narrow)
        tl.store(dk + partial * width + narrow, dkey, mask=in_narrow)
        dmemory += dot(tl.trans(asking), dseen) - dot(tl.trans(knowing), dvalue)
    tl.store(dstate + head * width * values + cell, dmemory, mask=in_cell)


def run(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None = None, state: Tensor | None = None, **options: Any) -> Run:
    out, last = fused(CORE, q, k, v, beta, log_decay, state, outputs=2, **options)
    return out, last


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None,
    state: Tensor | None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
    normalise: bool = False,
) -> tuple[Tensors, Optional]:
    """The outputs, the last state, and for backward the state entering each chunk and what was written at each step."""
    dtype = accumulate_dtype(q, k, v, beta, log_decay, state)
    batch, steps, heads, width = q.shape
    values, sizes = v.shape[-1], _sizes(q, v, chunk)
    out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    written = torch.empty(v.shape, dtype=dtype, device=v.device)
    last = torch.empty((batch, heads, width, values), dtype=dtype, device=v.device)
    states = torch.empty((cdiv(steps, sizes["ROWS"]), *last.shape), dtype=dtype, device=v.device)
    given = [x.contiguous() for x in (q, k, v, beta)]
    flags = {"HAS_DECAY": log_decay is not None, "HAS_STATE": state is not None, **_common(q, scale, normalise, dtype)}
    launch(
        forward_kernel, (cdiv(values, sizes["BLOCK_V"]), batch * heads), *given, or_unused(log_decay, last), or_unused(state, last),
        out, last, states, written, steps, heads, width, values, **flags, **sizes, **compiler(sizes),
    )  # fmt: skip
    return (out, last), (states, written)


def backward(
    args: Optional,
    outputs: Optional,
    saved: Optional,
    cotangents: Optional,
    wanted: tuple[bool, ...],
    *,
    scale: float | None = None,
    chunk: int | None = None,
    normalise: bool = False,
) -> Optional:
    q, k, v, beta, log_decay, state = args
    assert q is not None and k is not None and v is not None and beta is not None
    (states, written), (dout, dlast) = saved, cotangents
    assert states is not None
    batch, steps, heads, width = q.shape
    values, sizes, dtype = v.shape[-1], _sizes(q, v, chunk), states.dtype
    tiles = cdiv(values, sizes["BLOCK_V"])

    def parts(*shape: int) -> Tensor:
        return torch.empty((tiles, batch, steps, heads, *shape), dtype=dtype, device=v.device)

    dq, dk, dbeta = parts(width), parts(width), parts()
    dlog = None if log_decay is None else parts()
    dv = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    dstate = torch.empty(states.shape[1:], dtype=dtype, device=v.device)
    given = [x.contiguous() for x in (q, k, beta)]
    flags = {"HAS_DECAY": log_decay is not None, "HAS_DOUT": dout is not None, "HAS_DLAST": dlast is not None}
    flags |= _common(q, scale, normalise, dtype)
    launch(
        backward_kernel, (tiles, batch * heads), *given, or_unused(log_decay, dv), states, written, or_unused(dout, dv),
        or_unused(dlast, dv), dq, dk, dv, dbeta, or_unused(dlog, dv), dstate, steps, heads, width, values,
        **flags, **sizes, **compiler(sizes),
    )  # fmt: skip
    summed = [None if x is None else x.sum(0).to(like.dtype) for x, like in ((dq, q), (dk, k), (dbeta, beta), (dlog, log_decay))]
    dq, dk, dbeta, dlog = summed
    return dq, dk, dv, dbeta, dlog, None if state is None else dstate.to(state.dtype)


CORE = Core(forward, backward, reference)


def _common(q: Tensor, scale: float | None, normalise: bool, dtype: torch.dtype) -> dict[str, Any]:
    """The scale is a constant of the compilation, since an argument would be rounded to float32."""
    return {"UNIT": normalise, "EPS": EPS, "SCALE": scale_of(q, scale), "ACC": ACCUMULATE[dtype]}


def _sizes(q: Tensor, v: Tensor, chunk: int | None) -> dict[str, int]:
    """Chunks of 16 rows, or of 32 where asked for."""
    rows = tile(q.shape[1], 32 if chunk is not None and chunk >= 32 else 16, least=16)
    return {
        "ROWS": rows,
        "LEVELS": rows.bit_length() - 1,
        "BLOCK_K": max(16, cover(q.shape[-1])),
        "BLOCK_V": tile(v.shape[-1], 32, least=16),
    }


def compiler(sizes: dict[str, int]) -> dict[str, int]:
    return {"num_warps": 4}


def variants() -> list[Variant]:
    floats = ("states", "written", "last", "dlast", "dstate", "dq", "dk", "dbeta", "dlog", "state")
    types = {**dict.fromkeys(("steps", "heads", "width", "values"), "i32"), **dict.fromkeys(floats, "*fp32")}
    made = []
    for rows, block_k, block_v, gated, normalised in VARIANTS:
        sizes = {"ROWS": rows, "LEVELS": rows.bit_length() - 1, "BLOCK_K": block_k, "BLOCK_V": block_v}
        common = {"HAS_DECAY": gated, "UNIT": normalised, "EPS": EPS, "SCALE": 0.125, "ACC": tl.float32, **sizes}
        made.append(Variant(forward_kernel, {**common, "HAS_STATE": True}, types, compiler(sizes)))
        made.append(Variant(backward_kernel, {**common, "HAS_DOUT": True, "HAS_DLAST": True}, types, compiler(sizes)))
    return made


VARIANTS = ((16, 32, 32, False, False), (16, 64, 32, True, True))
