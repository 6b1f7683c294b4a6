"""Linear attention in Triton: one launch per direction, the state in registers, float32 (float64 for float64 inputs).

A program owns one head of one sequence and a tile of its values, and walks over the steps as the definition does: a decay is multiplied
and nothing is ever divided or summed up as a logarithm, so that every decay down to zero is exact. There is no product of matrices in
it, and hence none of a transposed accumulator, which Triton 3.4 to 3.7.0 miscompiles on Hopper. Backward walks twice: forwards in time
for the states and the gradient of q, backwards in time for those of k and v. Nothing is saved but the inputs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import Core, Optional, accumulate_dtype
from ..launching import ACCUMULATE, cdiv, cover, launch, or_unused, tile
from ..spec import Variant
from .reference import reference, scale_of

NONE, HEAD, STEP, CHANNEL = (tl.constexpr(kind) for kind in range(4))


@triton.jit
def forward_kernel(
    q, k, v, log_decay, state, out, last, steps, heads, keys, values,
    SCALE: tl.constexpr, DECAY: tl.constexpr, HAS_STATE: tl.constexpr, ACC: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """q, k (batch, steps, heads, keys), v, out (batch, steps, heads, values), state, last (batch, heads, keys, values), contiguous."""
    which = tl.program_id(0).to(tl.int64)
    first = which // heads * steps * heads + which % heads
    column, lane = tl.arange(0, BLOCK_K), tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    has_key, has_value = column < keys, lane < values
    place = which * keys * values + column[:, None] * values + lane[None, :]
    memory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    if HAS_STATE:
        memory = tl.load(state + place, mask=has_key[:, None] & has_value[None, :], other=0.0).to(ACC)
    decay = 1.0
    if DECAY == HEAD:
        decay = tl.exp(tl.load(log_decay + which % heads).to(ACC))
    for step in range(0, steps):
        at = first + step * heads
        of_key, of_value = at * keys + column, at * values + lane
        query = tl.load(q + of_key, mask=has_key, other=0.0).to(ACC) * SCALE
        key = tl.load(k + of_key, mask=has_key, other=0.0).to(ACC)
        value = tl.load(v + of_value, mask=has_value, other=0.0).to(ACC)
        if DECAY == CHANNEL:
            memory *= tl.exp(tl.load(log_decay + of_key, mask=has_key, other=0.0).to(ACC))[:, None]
        elif DECAY == STEP:
            memory *= tl.exp(tl.load(log_decay + at).to(ACC))
        elif DECAY == HEAD:
            memory *= decay
        memory += key[:, None] * value[None, :]
        tl.store(out + of_value, tl.sum(query[:, None] * memory, axis=0), mask=has_value)
    tl.store(last + place, memory, mask=has_key[:, None] & has_value[None, :])


@triton.jit
def backward_kernel(
    q, k, v, log_decay, state, dout, dlast, dq, dk, dv, dstate, as_query, as_key, steps, heads, keys, values, rows,
    SCALE: tl.constexpr, DECAY: tl.constexpr, WANTS_DECAY: tl.constexpr, HAS_STATE: tl.constexpr, HAS_DLAST: tl.constexpr,
    ACC: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients, of which dq, dk (tiles, batch, steps, heads, keys) are the shares of the tiles of values; rows is batch * steps * heads.

    With a decay per head, ``as_query`` (tiles, batch, heads) is its gradient: the slope of the state with respect to it, read by q.
    Otherwise ``as_query``, ``as_key`` (tiles, batch, steps, heads, keys or 1) are what a row gives to its pairs with other rows.
    """
    which = tl.program_id(0).to(tl.int64)
    first = which // heads * steps * heads + which % heads
    share = tl.program_id(1).to(tl.int64) * rows
    column, lane = tl.arange(0, BLOCK_K), tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    has_key, has_value = column < keys, lane < values
    held = has_key[:, None] & has_value[None, :]
    place = which * keys * values + column[:, None] * values + lane[None, :]
    decay = 1.0
    if DECAY == HEAD:
        decay = tl.exp(tl.load(log_decay + which % heads).to(ACC))
    memory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    if HAS_STATE:
        memory = tl.load(state + place, mask=held, other=0.0).to(ACC)
    slope = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    effect = tl.zeros((BLOCK_K,), dtype=ACC)
    for step in range(0, steps):
        at = first + step * heads
        of_key, of_value = at * keys + column, at * values + lane
        key = tl.load(k + of_key, mask=has_key, other=0.0).to(ACC)
        value = tl.load(v + of_value, mask=has_value, other=0.0).to(ACC)
        given = tl.load(dout + of_value, mask=has_value, other=0.0).to(ACC)
        if DECAY == CHANNEL:
            memory *= tl.exp(tl.load(log_decay + of_key, mask=has_key, other=0.0).to(ACC))[:, None]
        elif DECAY == STEP:
            memory *= tl.exp(tl.load(log_decay + at).to(ACC))
        elif DECAY == HEAD:
            slope = (slope + memory) * decay
            memory *= decay
        dquery = tl.sum(memory * given[None, :], axis=1)
        if WANTS_DECAY:
            query = tl.load(q + of_key, mask=has_key, other=0.0).to(ACC) * SCALE
            if DECAY == CHANNEL:
                tl.store(as_query + share * keys + of_key, query * dquery, mask=has_key)
            elif DECAY == STEP:
                tl.store(as_query + share + at, tl.sum(query * dquery, axis=0))
            else:
                effect += query * tl.sum(slope * given[None, :], axis=1)
        tl.store(dq + share * keys + of_key, (dquery + tl.sum(value * given, axis=0) * key) * SCALE, mask=has_key)
        memory += key[:, None] * value[None, :]

    dmemory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    if HAS_DLAST:
        dmemory = tl.load(dlast + place, mask=held, other=0.0).to(ACC)
        effect += tl.sum(slope * dmemory, axis=1)
    if WANTS_DECAY and DECAY == HEAD:
        tl.store(as_query + tl.program_id(1) * tl.num_programs(0) + which, tl.sum(effect, axis=0))
    for done in range(0, steps):
        at = first + (steps - 1 - done) * heads
        of_key, of_value = at * keys + column, at * values + lane
        query = tl.load(q + of_key, mask=has_key, other=0.0).to(ACC) * SCALE
        key = tl.load(k + of_key, mask=has_key, other=0.0).to(ACC)
        value = tl.load(v + of_value, mask=has_value, other=0.0).to(ACC)
        given = tl.load(dout + of_value, mask=has_value, other=0.0).to(ACC)
        dkey = tl.sum(dmemory * value[None, :], axis=1)
        if WANTS_DECAY:
            if DECAY == CHANNEL:
                tl.store(as_key + share * keys + of_key, key * dkey, mask=has_key)
            elif DECAY == STEP:
                tl.store(as_key + share + at, tl.sum(key * dkey, axis=0))
        tl.store(dk + share * keys + of_key, dkey + tl.sum(value * given, axis=0) * query, mask=has_key)
        dmemory += query[:, None] * given[None, :]
        tl.store(dv + of_value, tl.sum(dmemory * key[:, None], axis=0), mask=has_value)
        if DECAY == CHANNEL:
            dmemory *= tl.exp(tl.load(log_decay + of_key, mask=has_key, other=0.0).to(ACC))[:, None]
        elif DECAY == STEP:
            dmemory *= tl.exp(tl.load(log_decay + at).to(ACC))
        elif DECAY == HEAD:
            dmemory *= decay
    tl.store(dstate + place, dmemory, mask=held)


def kind(log_decay: Tensor | None) -> int:
    return 0 if log_decay is None else {1: 1, 3: 2, 4: 3}[log_decay.dim()]


def blocks(keys: int, values: int, decay: int) -> dict[str, int]:
    """Keys held whole and values in small tiles, so that a warp or two hold a state: sums within a warp cost no barrier."""
    held = cover(keys)
    # with a decay per head backward holds a second tile
    return {"BLOCK_K": held, "BLOCK_V": tile(values, 16), "num_warps": max(1, held // 64) * (2 if decay == 1 else 1)}


def forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, *, scale: float | None, chunk: int | None
) -> tuple[tuple[Tensor, ...], Optional]:
    batch, steps, heads, keys = q.shape
    values, dtype = v.shape[3], accumulate_dtype(q, k, v, log_decay, state)
    out = torch.empty_like(v, memory_format=torch.contiguous_format)
    last = torch.empty((batch, heads, keys, values), dtype=dtype, device=q.device)
    tensors = (q.contiguous(), k.contiguous(), v.contiguous(), or_unused(log_decay, out), or_unused(state, out), out, last)
    options = {"SCALE": scale_of(q, scale), "DECAY": kind(log_decay), "HAS_STATE": state is not None, "ACC": ACCUMULATE[dtype]}
    tiles = blocks(keys, values, kind(log_decay))
    launch(forward_kernel, (batch * heads, cdiv(values, tiles["BLOCK_V"])), *tensors, steps, heads, keys, values, **options, **tiles)
    return (out, last), ()


def backward(
    args: Optional,
    outputs: Optional,
    saved: Optional,
    cotangents: Optional,
    wanted: tuple[bool, ...],
    *,
    scale: float | None,
    chunk: int | None,
) -> Optional:
    q, k, v, log_decay, state = args
    assert q is not None
    assert k is not None
    assert v is not None
    batch, steps, heads, keys = q.shape
    values, dtype, tiles = v.shape[3], accumulate_dtype(q, k, v, log_decay, state), blocks(keys, v.shape[3], kind(log_decay))
    count = cdiv(values, tiles["BLOCK_V"])
    dout, dlast = cotangents
    dout = torch.zeros_like(v, memory_format=torch.contiguous_format) if dout is None else dout.contiguous()

    def shares(*shape: int) -> Tensor:
        return torch.empty((count, *shape), dtype=dtype, device=v.device)

    dq, dk, dstate = shares(*q.shape), shares(*k.shape), torch.empty((batch, heads, keys, values), dtype=dtype, device=v.device)
    dv = torch.empty_like(v, memory_format=torch.contiguous_format)
    as_query = as_key = dq
    wants = log_decay is not None and wanted[3]
    if log_decay is not None and wants and log_decay.dim() == 1:
        as_query = shares(batch, heads)
    elif log_decay is not None and wants:
        as_query, as_key = (shares(batch, steps, heads, keys if log_decay.dim() == 4 else 1) for _ in range(2))
    given = (q.contiguous(), k.contiguous(), v.contiguous(), or_unused(log_decay, dv), or_unused(state, dv), dout, or_unused(dlast, dv))
    options = {"SCALE": scale_of(q, scale), "DECAY": kind(log_decay), "HAS_STATE": state is not None, "ACC": ACCUMULATE[dtype]}
    launch(
        backward_kernel, (batch * heads, count), *given, dq, dk, dv, dstate, as_query, as_key, steps, heads, keys, values,
        batch * steps * heads, WANTS_DECAY=wants, HAS_DLAST=dlast is not None, **options, **tiles,
    )  # fmt: skip
    ddecay = None
    if log_decay is not None and wants:
        per_head = log_decay.dim() == 1
        ddecay = as_query.sum((0, 1)) if per_head else _of_decay(log_decay, state, dstate, as_query.sum(0), as_key.sum(0))
        ddecay = ddecay.to(log_decay.dtype)
    return dq.sum(0).to(q.dtype), dk.sum(0).to(k.dtype), dv, ddecay, None if state is None else dstate.to(state.dtype)


def _of_decay(log_decay: Tensor, state: Tensor | None, dstate: Tensor, as_query: Tensor, as_key: Tensor) -> Tensor:
    """At step t: the pairs of the first state with everything after it, and what the rows before t change in that.

    Every pair carries a decay, so that strong decays lose no digits; the sum over the steps is in float64.
    """
    change = (as_key - as_query).double()
    each = change.cumsum(1) - change
    if state is not None:
        start = (state * dstate).sum(-1)
        each += (start if each.shape[-1] == start.shape[-1] else start.sum(-1, keepdim=True)).unsqueeze(1)
    return each if log_decay.dim() == 4 else each.squeeze(-1)


CORE = Core(forward, backward, reference)


def variants() -> list[Variant]:
    """Heads of 64 and of 128 in bfloat16, with every kind of decay."""
    sizes = dict.fromkeys(("steps", "heads", "keys", "values", "rows"), "i32")
    types = {**sizes, **dict.fromkeys(("state", "last", "dlast", "dstate", "as_query", "as_key", "dq", "dk"), "*fp32")}
    made = []
    for decay, keys in ((0, 64), (1, 64), (2, 64), (3, 128)):
        tiles = blocks(keys, 64, decay)
        options = {"num_warps": tiles.pop("num_warps")}
        constants = {"SCALE": 0.125, "DECAY": decay, "HAS_STATE": True, "ACC": tl.float32, **tiles}
        made.append(Variant(forward_kernel, constants, types, options))
        made.append(Variant(backward_kernel, {**constants, "WANTS_DECAY": decay > 0, "HAS_DLAST": True}, types, options))
    return made
