"""The delta rule in Triton: one launch per direction.

A program owns one head of one sequence and a tile of the value width. It walks over the sequence in chunks of 16 steps; the
mathematics of a chunk is that of :mod:`.fast`. Its part of the state lies in memory, where backward needs it anyway, and passes
through registers in blocks of 16 keys' components: heads of any width compile without spilling. Each program finds the small
triangular inverse for itself; the gradients of queries, keys, rates and decays are sums over the value tiles, made after the launch.

No product takes a transposed accumulator as its operand (compilers get those wrong on some GPUs): a matrix that is needed transposed
is computed transposed, from what was loaded.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from ..launching import ACCUMULATE, cdiv, launch, or_unused, tile
from ..spec import Variant
from .reference import EPS, Run, reference, scale_of

ROWS = 16
# a second stage would keep the next block in registers, and four warps spill in backward
FORWARD, BACKWARD = {"num_warps": 4, "num_stages": 1}, {"num_warps": 8, "num_stages": 1}


@triton.jit
def dot(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def inverse(strict, row, ACC: tl.constexpr, LEVELS: tl.constexpr):
    """(I + strict)^-1 for a strictly triangular matrix by substitution of blocks: from the inverses of two neighbouring diagonal
    blocks that of their union. Unlike a power series it never forms large terms that have to cancel."""
    x = tl.where(row[:, None] == row[None, :], 1.0, 0.0).to(ACC)
    for level in tl.static_range(LEVELS):
        one, other = row[:, None] >> level, row[None, :] >> level
        between = tl.where((one != other) & ((one >> 1) == (other >> 1)), strict, 0.0)
        x -= between if level == 0 else dot(dot(x, between), x)
    return x


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
    head, many = tl.program_id(1).to(tl.int64), tl.num_programs(1).to(tl.int64)
    row, column = tl.arange(0, ROWS), tl.arange(0, BLOCK_K)
    at_v = tl.program_id(0) * BLOCK_V + tl.arange(0, BLOCK_V)
    in_v = at_v < values
    first = head // heads * steps * heads + head % heads
    below, past = row[:, None] > row[None, :], row[:, None] >= row[None, :]
    cells = head * width * values
    for block in range(0, width, BLOCK_K):
        at_k = block + column
        cell, in_cell = cells + at_k[:, None] * values + at_v[None, :], (at_k < width)[:, None] & in_v[None, :]
        memory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
        if HAS_STATE:
            memory = tl.load(state + cell, mask=in_cell, other=0.0).to(ACC)
        tl.store(states + cell, memory, mask=in_cell)
    for start in range(0, steps, ROWS):
        tl.debug_barrier()  # the memory that the chunk before has stored
        t = start + row
        inside = t < steps
        line = first + t.to(tl.int64) * heads
        wide, in_wide = line[:, None] * values + at_v[None, :], inside[:, None] & in_v[None, :]
        rate = tl.load(beta + line, mask=inside, other=0.0).to(ACC)
        reach, clash = tl.zeros((ROWS, ROWS), dtype=ACC), tl.zeros((ROWS, ROWS), dtype=ACC)
        seen, known = tl.zeros((ROWS, BLOCK_V), dtype=ACC), tl.zeros((ROWS, BLOCK_V), dtype=ACC)
        query_size, key_size = tl.zeros((ROWS,), dtype=ACC), tl.zeros((ROWS,), dtype=ACC)
        for block in range(0, width, BLOCK_K):
            at_k = block + column
            narrow, in_narrow = line[:, None] * width + at_k[None, :], inside[:, None] & (at_k < width)[None, :]
            cell, in_cell = cells + at_k[:, None] * values + at_v[None, :], (at_k < width)[:, None] & in_v[None, :]
            query = tl.load(q + narrow, mask=in_narrow, other=0.0).to(ACC)
            key = tl.load(k + narrow, mask=in_narrow, other=0.0).to(ACC)
            memory = tl.load(states + cell, mask=in_cell, other=0.0)
            reach += dot(query, tl.trans(key))
            clash += dot(key, tl.trans(key))
            seen += dot(query, memory)
            known += dot(key, memory)
            if UNIT:
                query_size += tl.sum(query * query, axis=1)
                key_size += tl.sum(key * key, axis=1)
        weight = rate
        if UNIT:
            per_query, per_key = 1.0 / tl.sqrt(query_size + EPS), 1.0 / tl.sqrt(key_size + EPS)
            weight = rate * per_key
            reach, clash = reach * per_query[:, None], clash * per_key[:, None]
            seen, known = seen * per_query[:, None], known * per_key[:, None]
        reach, clash = tl.where(past, reach * weight[None, :], 0.0), tl.where(below, clash * weight[None, :], 0.0)
        if HAS_DECAY:
            gate = tl.load(log_decay + line, mask=inside, other=0.0).to(ACC)
            pairs, enter, leave, whole = decays(gate, row)
            reach, clash, seen, known = reach * pairs, clash * pairs, seen * enter[:, None], known * enter[:, None]
            weight *= leave
        value = tl.load(v + wide, mask=in_wide, other=0.0).to(ACC)
        fresh = dot(inverse(clash, row, ACC, LEVELS), value - known)
        tl.store(written + wide, fresh, mask=in_wide)
        tl.store(out + wide, SCALE * (seen + dot(reach, fresh)), mask=in_wide)
        for block in range(0, width, BLOCK_K):
            at_k = block + column
            narrow, in_narrow = line[:, None] * width + at_k[None, :], inside[:, None] & (at_k < width)[None, :]
            cell, in_cell = at_k[:, None] * values + at_v[None, :], (at_k < width)[:, None] & in_v[None, :]
            memory = tl.load(states + cells + cell, mask=in_cell, other=0.0)
            if HAS_DECAY:
                memory *= whole
            key = tl.load(k + narrow, mask=in_narrow, other=0.0).to(ACC)
            memory += dot(tl.trans(key * weight[:, None]), fresh)
            if start + ROWS < steps:
                tl.store(states + cells + many * width * values + cell, memory, mask=in_cell)
            else:
                tl.store(last + head * width * values + cell, memory, mask=in_cell)
        cells += many * width * values


@triton.jit
def backward_kernel(
    q, k, beta, log_decay, states, written, dout, dlast, dq, dk, dv, dbeta, dlog, dstate, steps, heads, width, values,
    HAS_DECAY: tl.constexpr, HAS_DOUT: tl.constexpr, HAS_DLAST: tl.constexpr, UNIT: tl.constexpr, EPS: tl.constexpr,
    SCALE: tl.constexpr, ACC: tl.constexpr, ROWS: tl.constexpr, LEVELS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """From the last chunk to the first; dq, dk, dbeta, dlog have one more axis in front, the value tile.

    ``dstate`` holds the gradient of the memory between chunks, and in the end that of the first one.
    """
    head, many = tl.program_id(1).to(tl.int64), tl.num_programs(1).to(tl.int64)
    row, column = tl.arange(0, ROWS), tl.arange(0, BLOCK_K)
    at_v = tl.program_id(0) * BLOCK_V + tl.arange(0, BLOCK_V)
    in_v = at_v < values
    first = head // heads * steps * heads + head % heads
    partial = tl.program_id(0).to(tl.int64) * many * steps
    below, past = row[:, None] > row[None, :], row[:, None] >= row[None, :]
    above, ahead = row[:, None] < row[None, :], row[:, None] <= row[None, :]
    own = head * width * values
    for block in range(0, width, BLOCK_K):
        at_k = block + column
        cell, in_cell = own + at_k[:, None] * values + at_v[None, :], (at_k < width)[:, None] & in_v[None, :]
        dmemory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
        if HAS_DLAST:
            dmemory = tl.load(dlast + cell, mask=in_cell, other=0.0).to(ACC)
        tl.store(dstate + cell, dmemory, mask=in_cell)
    chunks = tl.cdiv(steps, ROWS)
    for done in range(0, chunks):
        tl.debug_barrier()  # the gradient that the chunk after has stored
        chunk = chunks - 1 - done
        t = chunk * ROWS + row
        inside = t < steps
        line = first + t.to(tl.int64) * heads
        wide, in_wide = line[:, None] * values + at_v[None, :], inside[:, None] & in_v[None, :]
        entering = states + chunk * many * width * values
        reach, clash = tl.zeros((ROWS, ROWS), dtype=ACC), tl.zeros((ROWS, ROWS), dtype=ACC)
        seen, known = tl.zeros((ROWS, BLOCK_V), dtype=ACC), tl.zeros((ROWS, BLOCK_V), dtype=ACC)
        heard = tl.zeros((ROWS, BLOCK_V), dtype=ACC)
        query_size, key_size = tl.zeros((ROWS,), dtype=ACC), tl.zeros((ROWS,), dtype=ACC)
        kept = tl.zeros((BLOCK_K,), dtype=ACC)
        for block in range(0, width, BLOCK_K):
            at_k = block + column
            narrow, in_narrow = line[:, None] * width + at_k[None, :], inside[:, None] & (at_k < width)[None, :]
            cell, in_cell = own + at_k[:, None] * values + at_v[None, :], (at_k < width)[:, None] & in_v[None, :]
            query = tl.load(q + narrow, mask=in_narrow, other=0.0).to(ACC)
            key = tl.load(k + narrow, mask=in_narrow, other=0.0).to(ACC)
            memory = tl.load(entering + cell, mask=in_cell, other=0.0)
            dmemory = tl.load(dstate + cell, mask=in_cell, other=0.0)
            # transposed: keys on the first axis
            reach += dot(key, tl.trans(query))
            clash += dot(key, tl.trans(key))
            seen += dot(query, memory)
            known += dot(key, memory)
            heard += dot(key, dmemory)
            if UNIT:
                query_size += tl.sum(query * query, axis=1)
                key_size += tl.sum(key * key, axis=1)
            if HAS_DECAY:
                kept += tl.sum(memory * dmemory, axis=1)
        rate = tl.load(beta + line, mask=inside, other=0.0).to(ACC)
        if UNIT:
            per_query, per_key = 1.0 / tl.sqrt(query_size + EPS), 1.0 / tl.sqrt(key_size + EPS)
            reach, clash = reach * per_key[:, None] * per_query[None, :], clash * per_key[:, None] * per_key[None, :]
            seen, known, heard = seen * per_query[:, None], known * per_key[:, None], heard * per_key[:, None]
        reach, clash = tl.where(ahead, reach, 0.0), tl.where(above, clash, 0.0)
        if HAS_DECAY:
            gate = tl.load(log_decay + line, mask=inside, other=0.0).to(ACC)
            pairs, enter, leave, whole = decays(gate, row)
            reach, clash = reach * tl.trans(pairs), clash * tl.trans(pairs)
            seen, known, heard = seen * enter[:, None], known * enter[:, None], heard * leave[:, None]
        dseen = tl.zeros((ROWS, BLOCK_V), dtype=ACC)
        if HAS_DOUT:
            dseen = SCALE * tl.load(dout + wide, mask=in_wide, other=0.0).to(ACC)
        dfresh = dot(reach * rate[:, None], dseen) + heard * rate[:, None]
        dvalue = dot(inverse(clash * rate[:, None], row, ACC, LEVELS), dfresh)
        tl.store(dv + wide, dvalue, mask=in_wide)
        fresh = tl.load(written + wide, mask=in_wide, other=0.0)
        dreach, dclash = tl.where(past, dot(dseen, tl.trans(fresh)), 0.0), tl.where(below, -dot(dvalue, tl.trans(fresh)), 0.0)
        by_query, by_key = dreach * tl.trans(reach), dclash * tl.trans(clash)
        left = tl.sum(heard * fresh, axis=1)
        drate = tl.sum(by_query + by_key, axis=0) + left
        tl.store(dbeta + partial + line, drate, mask=inside)
        by_query, by_key = by_query * rate[None, :], by_key * rate[None, :]
        query_entered, key_entered = tl.sum(dseen * seen, axis=1), -tl.sum(dvalue * known, axis=1)
        if UNIT:
            along_query, along_key = tl.sum(by_query, axis=1) + query_entered, tl.sum(by_key, axis=1) + key_entered + rate * drate
        if HAS_DECAY:
            crossing = tl.cumsum(by_query + by_key, axis=0, reverse=True) + (rate * left)[None, :]
            entered = tl.where(ahead, (query_entered + key_entered)[None, :], 0.0)
            dgate = tl.sum(tl.where(below, crossing, 0.0) + entered, axis=1) + whole * tl.sum(kept, axis=0)
            tl.store(dlog + partial + line, dgate, mask=inside)
            dreach, dclash = dreach * pairs, dclash * pairs
        for block in range(0, width, BLOCK_K):
            at_k = block + column
            narrow, in_narrow = line[:, None] * width + at_k[None, :], inside[:, None] & (at_k < width)[None, :]
            cell, in_cell = own + at_k[:, None] * values + at_v[None, :], (at_k < width)[:, None] & in_v[None, :]
            query = tl.load(q + narrow, mask=in_narrow, other=0.0).to(ACC)
            key = tl.load(k + narrow, mask=in_narrow, other=0.0).to(ACC)
            memory = tl.load(entering + cell, mask=in_cell, other=0.0)
            dmemory = tl.load(dstate + cell, mask=in_cell, other=0.0)
            if UNIT:
                query, key = query * per_query[:, None], key * per_key[:, None]
            dquery, dkey, dwrite = dot(dseen, tl.trans(memory)), -dot(dvalue, tl.trans(memory)), dot(dmemory, tl.trans(fresh))
            asking, knowing = query, key
            if HAS_DECAY:
                dquery, dkey, dwrite = dquery * enter[:, None], dkey * enter[:, None], dwrite * leave[None, :]
                asking, knowing = query * enter[:, None], key * enter[:, None]
                dmemory *= whole
            write = key * rate[:, None]
            dquery += dot(dreach, write)
            # width on the first axis, so that the transposes are of what was loaded
            dwrite += dot(tl.trans(query), dreach) + dot(tl.trans(key), dclash)
            dkey += dot(dclash, write) + rate[:, None] * tl.trans(dwrite)
            if UNIT:
                dquery = (dquery - query * along_query[:, None]) * per_query[:, None]
                dkey = (dkey - key * along_key[:, None]) * per_key[:, None]
            tl.store(dq + partial * width + narrow, dquery, mask=in_narrow)
            tl.store(dk + partial * width + narrow, dkey, mask=in_narrow)
            dmemory += dot(tl.trans(asking), dseen) - dot(tl.trans(knowing), dvalue)
            tl.store(dstate + cell, dmemory, mask=in_cell)


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
    values, sizes = v.shape[-1], _sizes(q, v)
    out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    written = torch.empty(v.shape, dtype=dtype, device=v.device)
    last = torch.empty((batch, heads, width, values), dtype=dtype, device=v.device)
    states = torch.empty((cdiv(steps, sizes["ROWS"]), *last.shape), dtype=dtype, device=v.device)
    given = [x.contiguous() for x in (q, k, v, beta)]
    flags = {"HAS_DECAY": log_decay is not None, "HAS_STATE": state is not None, **_common(q, scale, normalise, dtype)}
    launch(
        forward_kernel, (cdiv(values, sizes["BLOCK_V"]), batch * heads), *given, or_unused(log_decay, last), or_unused(state, last),
        out, last, states, written, steps, heads, width, values, **flags, **sizes, **FORWARD,
    )  # fmt: skip
    return (out, last), (states, written)


def backward(
    args: tuple[Any, ...],
    outputs: Optional,
    saved: tuple[Any, ...],
    cotangents: tuple[Any, ...],
    wanted: tuple[bool, ...],
    *,
    scale: float | None = None,
    chunk: int | None = None,
    normalise: bool = False,
) -> Optional:
    q, k, v, beta, log_decay, state = args
    (states, written), (dout, dlast) = saved, cotangents
    batch, steps, heads, width = q.shape
    values, sizes, dtype = v.shape[-1], _sizes(q, v), states.dtype
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
        **flags, **sizes, **BACKWARD,
    )  # fmt: skip
    summed = [None if x is None else x.sum(0).to(like.dtype) for x, like in ((dq, q), (dk, k), (dbeta, beta), (dlog, log_decay))]
    return summed[0], summed[1], dv, summed[2], summed[3], None if state is None else dstate.to(state.dtype)


CORE = Core(forward, backward, reference)


def _common(q: Tensor, scale: float | None, normalise: bool, dtype: torch.dtype) -> dict[str, Any]:
    """The scale is a constant of the compilation, since an argument would be rounded to float32."""
    return {"UNIT": normalise, "EPS": EPS, "SCALE": scale_of(q, scale), "ACC": ACCUMULATE[dtype]}


def _sizes(q: Tensor, v: Tensor) -> dict[str, int]:
    rows = tile(q.shape[1], ROWS, least=ROWS)
    return {**_rows(rows), "BLOCK_K": tile(q.shape[-1], 16, least=16), "BLOCK_V": tile(v.shape[-1], 32, least=16)}


def _rows(rows: int) -> dict[str, int]:
    return {"ROWS": rows, "LEVELS": rows.bit_length() - 1}


def variants() -> list[Variant]:
    wide = ("states", "written", "last", "dlast", "dstate", "dq", "dk", "dbeta", "dlog", "state")
    types = {**dict.fromkeys(("steps", "heads", "width", "values"), "i32"), **dict.fromkeys(wide, "*fp32")}
    made = []
    for every in (False, True):
        common = {"HAS_DECAY": every, "UNIT": every, "EPS": EPS, "SCALE": 0.125, "ACC": tl.float32}
        sizes = {**_rows(ROWS), "BLOCK_K": 16, "BLOCK_V": 32}
        made.append(Variant(forward_kernel, {**common, **sizes, "HAS_STATE": True}, types, FORWARD))
        made.append(Variant(backward_kernel, {**common, **sizes, "HAS_DOUT": True, "HAS_DLAST": True}, types, BACKWARD))
    return made
