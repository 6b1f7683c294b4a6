"""Linear attention in Triton, step by step: the state in registers, float32 (float64 for float64 inputs).

A program owns one head of one sequence and a tile of its values, and walks over the steps as the definition does: a decay is multiplied
and nothing is ever divided or summed up as a logarithm, so that every decay down to zero is exact. There is no product of matrices in
it, and hence none of a transposed accumulator, which Triton 3.4 to 3.7.0 miscompiles on Hopper. Backward walks twice: forwards in time
for the states and the gradient of q, backwards in time for those of k and v. Nothing is saved but the inputs.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..launching import cover, tile
from ..spec import Variant
from .launches import core

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


def blocks(keys: int, values: int, decay: int) -> dict[str, int]:
    """Keys held whole and values in small tiles, so that a warp or two hold a state: sums within a warp cost no barrier."""
    held = cover(keys)
    # with a decay per head backward holds a second tile
    return {"BLOCK_K": held, "BLOCK_V": tile(values, 16), "num_warps": max(1, held // 64) * (2 if decay == 1 else 1)}


CORE = core(forward_kernel, backward_kernel, lambda q, v, decay: blocks(q.shape[3], v.shape[3], decay))


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
