"""Linear attention in Triton, a chunk of 16 steps at a time: products of matrices on tensor cores, for half precision and long sequences.

A program owns one head of one sequence and a tile of its values, and walks over the chunks with the state in registers. Operands of
products are rounded to the precision of the inputs (a state beyond 65504 overflows in float16), sums are in float32. Every factor of a
decay is the exponential of a sum over its own steps alone, at most one: nothing overflows, -inf included, and a strong decay does not
take the digits of the others. With a decay per channel, the pairs of a chunk meet at the border between sibling blocks of 1, 2, 4 and 8
rows, where both factors are at most one; the chunk and the state meet as the block of 16.

Backward sweeps twice: forwards in time for the states and the gradient of q, backwards in time for those of k and v. Rows lie along the
second axis, so that the warps share the products by key channels. No product takes a transposed accumulator, which Triton 3.4 to 3.7.0
miscompiles on Hopper: the scores and their gradients are made in the orientation that is needed. Nothing is saved but the inputs.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from ..launching import cover, tile
from ..spec import Variant
from .launches import core

HEAD, STEP, CHANNEL = (tl.constexpr(kind) for kind in (1, 2, 3))
ROWS = 16


@triton.jit
def dot(left, right, DOT: tl.constexpr, ACC: tl.constexpr):
    return tl.dot(left.to(DOT), right.to(DOT), input_precision="ieee", out_dtype=ACC)


@triton.jit
def widened(near, far, row, level, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Log decays from the first row of its block up to each row, and after it to the last, (WIDTH, ROWS): of blocks twice as long."""
    sibling_ends = ((((row >> level) ^ 1) + 1) << level) - 1
    whole = tl.gather(near, tl.broadcast_to(sibling_ends[None, :], (WIDTH, ROWS)), axis=1)
    second = (((row >> level) & 1) == 1)[None, :]
    return near + tl.where(second, whole, 0.0), far + tl.where(second, 0.0, whole)


@triton.jit
def meeting(later, earlier, level):
    """Pairs of rows in two blocks that are the halves of one."""
    return (((later ^ earlier) >> level) == 1) & (later > earlier)


@triton.jit
def per_row(log_decay, at, row, which, heads, inside, DECAY: tl.constexpr, ACC: tl.constexpr):
    """The log decay of each row where channels share it."""
    gate = tl.where(inside, 0.0, 0.0).to(ACC)
    if DECAY == HEAD:
        gate = tl.where(inside, tl.load(log_decay + which % heads).to(ACC), 0.0)
    elif DECAY == STEP:
        gate = tl.load(log_decay + at + row * heads, mask=inside, other=0.0).to(ACC)
    return gate


@triton.jit
def between(gate, row, AXIS: tl.constexpr):
    """What decays between two rows, the later one along AXIS; zero where that is the earlier one."""
    later, earlier = tl.expand_dims(row, 1 - AXIS), tl.expand_dims(row, AXIS)
    steps = tl.where(later > earlier, tl.expand_dims(gate, 1 - AXIS), 0.0)
    return tl.where(later >= earlier, tl.exp(tl.cumsum(steps, axis=AXIS)), 0.0)


@triton.jit
def ends(gate, row):
    """What decays from the start up to each row, after it to the end, and over the whole chunk; the first two (1, ROWS)."""
    later = tl.where(row[:, None] > row[None, :], gate[:, None], 0.0)
    return tl.exp(tl.cumsum(gate, axis=0))[None, :], tl.exp(tl.sum(later, axis=0))[None, :], tl.exp(tl.sum(gate, axis=0))


@triton.jit
def forward_kernel(
    q, k, v, log_decay, state, out, last, steps, heads, keys, values,
    SCALE: tl.constexpr, DECAY: tl.constexpr, HAS_STATE: tl.constexpr, ACC: tl.constexpr, DOT: tl.constexpr,
    ROWS: tl.constexpr, LEVELS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """q, k (batch, steps, heads, keys), v, out (batch, steps, heads, values), state, last (batch, heads, keys, values), contiguous."""
    which = tl.program_id(0).to(tl.int64)
    first = which // heads * steps * heads + which % heads
    row, column, lane = tl.arange(0, ROWS), tl.arange(0, BLOCK_K), tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    has_key, has_value = (column < keys)[:, None], (lane < values)[None, :]
    place = which * keys * values + column[:, None] * values + lane[None, :]
    memory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    if HAS_STATE:
        memory = tl.load(state + place, mask=has_key & has_value, other=0.0).to(ACC)
    of_key, of_value = row[None, :] * heads * keys + column[:, None], row[:, None] * heads * values + lane[None, :]
    for begin in range(0, steps, ROWS):
        at, inside = first + begin * heads, begin + row < steps
        query = tl.load(q + at * keys + of_key, mask=has_key & inside[None, :], other=0.0).to(ACC)
        key = tl.load(k + at * keys + of_key, mask=has_key & inside[None, :], other=0.0).to(ACC)
        value = tl.load(v + at * values + of_value, mask=inside[:, None] & has_value, other=0.0)
        score = dot(tl.trans(query), key, DOT, ACC)
        if DECAY == CHANNEL:
            gates = tl.load(log_decay + at * keys + of_key, mask=has_key & inside[None, :], other=0.0).to(ACC)
            score = tl.where(row[:, None] == row[None, :], score, 0.0)
            near, far = gates, tl.zeros((BLOCK_K, ROWS), dtype=ACC)
            for level in range(LEVELS):
                pairs = dot(tl.trans(query * tl.exp(near)), key * tl.exp(far), DOT, ACC)
                score += tl.where(meeting(row[:, None], row[None, :], level), pairs, 0.0)
                near, far = widened(near, far, row, level, ROWS, BLOCK_K)
            enter, leave = tl.exp(near), tl.exp(far)
            whole = tl.exp(tl.sum(gates, axis=1))[:, None]
        else:
            gate = per_row(log_decay, at, row, which, heads, inside, DECAY, ACC)
            score *= between(gate, row, 0)
            enter, leave, whole = ends(gate, row)
        found = dot(tl.trans(query * enter), memory, DOT, ACC) + dot(score, value, DOT, ACC)
        tl.store(out + at * values + of_value, found * SCALE, mask=inside[:, None] & has_value)
        memory = memory * whole + dot(key * leave, value, DOT, ACC)
    tl.store(last + place, memory, mask=has_key & has_value)


@triton.jit
def backward_kernel(
    q, k, v, log_decay, state, dout, dlast, dq, dk, dv, dstate, as_query, as_key, steps, heads, keys, values, rows,
    SCALE: tl.constexpr, DECAY: tl.constexpr, WANTS_DECAY: tl.constexpr, HAS_STATE: tl.constexpr, HAS_DLAST: tl.constexpr,
    ACC: tl.constexpr, DOT: tl.constexpr, ROWS: tl.constexpr, LEVELS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients, of which dq, dk (tiles, batch, steps, heads, keys) are the shares of the tiles of values; rows is batch * steps * heads.

    With a decay per head, ``as_query`` (tiles, batch, heads) is its gradient: the slope of the state with respect to it, read by q.
    Otherwise ``as_query``, ``as_key`` (tiles, batch, steps, heads, keys or 1) are what a row gives to its pairs with other rows.
    """
    which = tl.program_id(0).to(tl.int64)
    first = which // heads * steps * heads + which % heads
    share = tl.program_id(1).to(tl.int64) * rows
    row, column, lane = tl.arange(0, ROWS), tl.arange(0, BLOCK_K), tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    has_key, has_value = (column < keys)[:, None], lane < values
    held = has_key & has_value[None, :]
    place = which * keys * values + column[:, None] * values + lane[None, :]
    of_key = row[None, :] * heads * keys + column[:, None]
    of_value, of_value_across = row[:, None] * heads * values + lane[None, :], row[None, :] * heads * values + lane[:, None]
    memory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    if HAS_STATE:
        memory = tl.load(state + place, mask=held, other=0.0).to(ACC)
    slope = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    effect = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    close = tl.zeros((ROWS, ROWS), dtype=ACC)
    for begin in range(0, steps, ROWS):
        at, inside = first + begin * heads, begin + row < steps
        in_keys = has_key & inside[None, :]
        query = tl.load(q + at * keys + of_key, mask=in_keys, other=0.0).to(ACC) * SCALE
        key = tl.load(k + at * keys + of_key, mask=in_keys, other=0.0).to(ACC)
        value = tl.load(v + at * values + of_value, mask=inside[:, None] & has_value[None, :], other=0.0)
        given = tl.load(dout + at * values + of_value_across, mask=has_value[:, None] & inside[None, :], other=0.0)
        # (the row of the key, the row of the query)
        dscore = dot(value, given, DOT, ACC)
        own = tl.sum(tl.where(row[:, None] == row[None, :], dscore, 0.0), axis=0)[None, :] * key
        if DECAY == CHANNEL:
            gates = tl.load(log_decay + at * keys + of_key, mask=in_keys, other=0.0).to(ACC)
            near, far = gates, tl.zeros((BLOCK_K, ROWS), dtype=ACC)
            dquery = tl.zeros((BLOCK_K, ROWS), dtype=ACC)
            for level in range(LEVELS):
                pairs = tl.where(meeting(row[None, :], row[:, None], level), dscore, 0.0)
                dquery += dot(key * tl.exp(far), pairs, DOT, ACC) * tl.exp(near)
                near, far = widened(near, far, row, level, ROWS, BLOCK_K)
            dquery += dot(memory, given, DOT, ACC) * tl.exp(near)
            leave = tl.exp(far)
            whole = tl.exp(tl.sum(gates, axis=1))[:, None]
        else:
            gate = per_row(log_decay, at, row, which, heads, inside, DECAY, ACC)
            enter, leave, whole = ends(gate, row)
            dscore = tl.where(row[None, :] > row[:, None], dscore * between(gate, row, 1), 0.0)
            dquery = dot(memory, given, DOT, ACC) * enter + dot(key, dscore, DOT, ACC)
            if WANTS_DECAY and DECAY == HEAD:
                close += dscore * dot(tl.trans(key), query, DOT, ACC) * (row[None, :] - row[:, None])
                effect += dot(query * enter, tl.trans(given), DOT, ACC) * slope
                effect += dot(query * enter * (row + 1)[None, :], tl.trans(given), DOT, ACC) * memory
                to_go = tl.minimum(steps - begin, ROWS) - 1
                slope = (slope + (to_go + 1) * memory) * whole + dot(key * leave * (to_go - row)[None, :], value, DOT, ACC)
        if WANTS_DECAY:
            if DECAY == CHANNEL:
                tl.store(as_query + (share + at) * keys + of_key, query * dquery, mask=in_keys)
            elif DECAY == STEP:
                tl.store(as_query + share + at + row * heads, tl.sum(query * dquery, axis=0), mask=inside)
        tl.store(dq + (share + at) * keys + of_key, (dquery + own) * SCALE, mask=in_keys)
        memory = memory * whole + dot(key * leave, value, DOT, ACC)

    dmemory = tl.zeros((BLOCK_K, BLOCK_V), dtype=ACC)
    if HAS_DLAST:
        dmemory = tl.load(dlast + place, mask=held, other=0.0).to(ACC)
        effect += slope * dmemory
    if WANTS_DECAY and DECAY == HEAD:
        effect_of_all = tl.sum(tl.sum(effect, axis=1), axis=0) + tl.sum(tl.sum(close, axis=1), axis=0)
        tl.store(as_query + tl.program_id(1) * tl.num_programs(0) + which, effect_of_all)
    for done in range(0, steps, ROWS):
        begin = (steps - 1) // ROWS * ROWS - done
        at, inside = first + begin * heads, begin + row < steps
        in_keys, in_values = has_key & inside[None, :], inside[:, None] & has_value[None, :]
        query = tl.load(q + at * keys + of_key, mask=in_keys, other=0.0).to(ACC) * SCALE
        key = tl.load(k + at * keys + of_key, mask=in_keys, other=0.0).to(ACC)
        value = tl.load(v + at * values + of_value_across, mask=has_value[:, None] & inside[None, :], other=0.0)
        given = tl.load(dout + at * values + of_value, mask=in_values, other=0.0)
        # (the row of the query, the row of the key); scores are the other way round
        dscore = dot(given, value, DOT, ACC)
        own = tl.sum(tl.where(row[:, None] == row[None, :], dscore, 0.0), axis=0)[None, :] * query
        score = dot(tl.trans(key), query, DOT, ACC)
        if DECAY == CHANNEL:
            gates = tl.load(log_decay + at * keys + of_key, mask=in_keys, other=0.0).to(ACC)
            near, far = gates, tl.zeros((BLOCK_K, ROWS), dtype=ACC)
            dkey = tl.zeros((BLOCK_K, ROWS), dtype=ACC)
            score = tl.where(row[:, None] == row[None, :], score, 0.0)
            for level in range(LEVELS):
                read = query * tl.exp(near)
                pairs = dot(tl.trans(key * tl.exp(far)), read, DOT, ACC)
                score += tl.where(meeting(row[None, :], row[:, None], level), pairs, 0.0)
                pairs = tl.where(meeting(row[:, None], row[None, :], level), dscore, 0.0)
                dkey += dot(read, pairs, DOT, ACC) * tl.exp(far)
                near, far = widened(near, far, row, level, ROWS, BLOCK_K)
            enter, leave = tl.exp(near), tl.exp(far)
            dkey += dot(dmemory, value, DOT, ACC) * leave
            whole = tl.exp(tl.sum(gates, axis=1))[:, None]
        else:
            gate = per_row(log_decay, at, row, which, heads, inside, DECAY, ACC)
            enter, leave, whole = ends(gate, row)
            score *= between(gate, row, 1)
            dscore = tl.where(row[:, None] > row[None, :], dscore * between(gate, row, 0), 0.0)
            dkey = dot(dmemory, value, DOT, ACC) * leave + dot(query, dscore, DOT, ACC)
        if WANTS_DECAY:
            if DECAY == CHANNEL:
                tl.store(as_key + (share + at) * keys + of_key, key * dkey, mask=in_keys)
            elif DECAY == STEP:
                tl.store(as_key + share + at + row * heads, tl.sum(key * dkey, axis=0), mask=inside)
        tl.store(dk + (share + at) * keys + of_key, dkey + own, mask=in_keys)
        dvalue = dot(tl.trans(key * leave), dmemory, DOT, ACC) + dot(score, given, DOT, ACC)
        tl.store(dv + at * values + of_value, dvalue, mask=in_values)
        dmemory = dmemory * whole + dot(query * enter, given, DOT, ACC)
    tl.store(dstate + place, dmemory, mask=held)


def blocks(keys: int, values: int) -> dict[str, Any]:
    """Keys held whole; tensor cores take no side below 16, and with twice the values or half the warps backward runs out of registers."""
    rows, held = tile(ROWS, ROWS), max(16, cover(keys))
    tiles = {"ROWS": rows, "LEVELS": rows.bit_length() - 1, "BLOCK_K": held, "BLOCK_V": tile(values, 16, least=16)}
    return {**tiles, "num_warps": 8, "num_stages": 1}


def _of(q: Tensor, v: Tensor, decay: int) -> dict[str, Any]:
    # the interpreter cannot multiply in bfloat16
    name = "float32" if str(q.dtype) == "torch.bfloat16" and not q.is_cuda else str(q.dtype).removeprefix("torch.")
    return {"DOT": getattr(tl, name), **blocks(q.shape[3], v.shape[3])}


CORE = core(forward_kernel, backward_kernel, _of)


def variants() -> list[Variant]:
    """Heads of 64 in bfloat16, with a decay per step and per channel."""
    sizes = dict.fromkeys(("steps", "heads", "keys", "values", "rows"), "i32")
    types = {**sizes, **dict.fromkeys(("state", "last", "dlast", "dstate", "as_query", "as_key", "dq", "dk"), "*fp32")}
    made = []
    for decay in (2, 3):
        tiles = blocks(64, 64)
        options = {name: tiles.pop(name) for name in ("num_warps", "num_stages")}
        constants = {"SCALE": 0.125, "DECAY": decay, "HAS_STATE": True, "ACC": tl.float32, "DOT": tl.bfloat16, **tiles}
        made.append(Variant(forward_kernel, constants, types, options))
        made.append(Variant(backward_kernel, {**constants, "WANTS_DECAY": True, "HAS_DLAST": True}, types, options))
    return made
