r"""The delta rule on a CPU: chunks of steps as matrix products, and its gradient in closed form.

With :math:`b` the running sum of the log decays inside a chunk, :math:`\kappa_j = \beta_j k_j` and :math:`S` the state entering it,
what each step writes, :math:`y`, solves a unit triangular system, and everything else is products:

.. math::
    G_{ij} = e^{b_i - b_j} k_i \kappa_j \; (i > j), \quad P_{ij} = e^{b_i - b_j} q_i \kappa_j \; (i \ge j), \quad
    (I + G)\, Y = V - e^{b} K S, \quad O = e^{b} Q S + P Y, \quad S' = e^{b_C} S + (e^{b_C - b} \kappa)^T Y

With :math:`(I + G)^{-1}` found for all chunks at once by triangular solution, only three products per chunk have to wait for the chunk
before. In chunks of 16, multiplying by the inverse was measured to round like solving.

Backward mirrors it: :math:`\bar Z = P^T \bar O + e^{b_C - b} \kappa \bar S'`, :math:`\bar V = (I + G)^{-T} \bar Z`,
:math:`\bar S = e^{b_C} \bar S' + (e^b Q)^T \bar O - (e^b K)^T \bar V`, then :math:`\bar P = \bar O Y^T` and :math:`\bar G = -\bar V Y^T`
give the pairs' share to queries, keys and writes, and :math:`\bar\beta_j = \bar\kappa_j k_j`. The gradient of a log decay is the sum over
all that passes it: pairs on either side of it, reads of the entering state after it, writes to the leaving state before it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from .layout import Decay, chunked, joined
from .reference import EPS, Run, reference, scale_of


def fast(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None = None, state: Tensor | None = None, **options: Any
) -> Run:
    """The triangular systems of all chunks at once, then the states from chunk to chunk."""
    out, last = fused(CORE, q, k, v, beta, log_decay, state, outputs=2, **options)
    return out, last


def rows_of(steps: int, chunk: int | None) -> int:
    """Steps in a chunk: 16 is as fast as 32 and rounds closer to the recurrence."""
    return min(steps, 16 if chunk is None else chunk)


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
    dtype = accumulate_dtype(q, k, v, beta, log_decay, state)
    batch, steps, heads, width = q.shape
    values, rows, many = v.shape[-1], rows_of(steps, chunk), batch * heads
    queries, keys = chunked(q, rows, dtype), chunked(k, rows, dtype)
    shrunk = (_shrink(queries), _shrink(keys)) if normalise else (None, None)
    rates = chunked(beta[..., None], rows, dtype)
    writes = keys * rates
    decay = None if log_decay is None else Decay.of(log_decay, rows, dtype)
    reach, clash = torch.bmm(queries, writes.mT), torch.bmm(keys, writes.mT)
    if decay is None:
        reach.tril_()
        kept = None
    else:
        reach *= decay.pairs
        clash *= decay.pairs
        kept = clash
    inverse = torch.zeros_like(clash)
    inverse.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    torch.linalg.solve_triangular(clash, inverse, upper=False, unitriangular=True, out=inverse)
    del clash
    wanted, written = chunked(v, rows, dtype), torch.empty((len(keys), rows, values), dtype=dtype, device=q.device)
    chunks = len(keys) // many
    states = written.new_empty(chunks + 1, many, width, values)
    if state is None:
        states[0] = 0.0
    else:
        states[0] = state.flatten(0, 1)
    knowing = keys if decay is None else keys * decay.enter
    leaving = writes if decay is None else writes * decay.leave
    per = _per_chunk(many, wanted, written, knowing, leaving.mT, inverse, None if decay is None else decay.whole)
    for (before, after), (want, fresh, know, leave, solve, whole) in zip(pairwise(states.unbind(0)), per, strict=True):
        torch.bmm(solve, want.baddbmm_(know, before, alpha=-1), out=fresh)
        torch.baddbmm(before if whole is None else before * whole, leave, fresh, out=after)
    out = torch.bmm(queries if decay is None else queries * decay.enter, states[:-1].flatten(0, 1), out=wanted)
    out.baddbmm_(reach, written).mul_(scale_of(q, scale))
    last = states[-1].unflatten(0, (batch, heads)).clone()
    saved = (queries, keys, writes, rates, *shrunk, reach, kept, inverse, written, states, *_factors(decay))
    return (joined(out, v), last), saved


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
    queries, keys, writes, rates, qshrunk, kshrunk, reach, clash, inverse, written, states, *factors = saved
    dout, dlast = cotangents
    decay = None if log_decay is None else Decay(*factors)
    batch, steps, heads, values = v.shape
    many, rows = batch * heads, keys.shape[1]

    seen = torch.zeros_like(written) if dout is None else chunked(dout, rows, written.dtype).mul_(scale_of(q, scale))
    dwritten = torch.bmm(reach.mT, seen)
    dstates = torch.empty_like(states)
    if dlast is None:
        dstates[-1] = 0.0
    else:
        dstates[-1] = dlast.flatten(0, 1)
    torch.bmm((queries if decay is None else queries * decay.enter).mT, seen, out=dstates[:-1].flatten(0, 1))
    knowing = keys if decay is None else keys * decay.enter
    leaving = writes if decay is None else writes * decay.leave
    dv = torch.empty_like(dwritten)
    per = _per_chunk(many, dwritten, dv, knowing.mT, leaving, inverse.mT, None if decay is None else decay.whole)
    for (after, before), (dfresh, dwant, know, leave, solve, whole) in zip(
        pairwise(reversed(dstates.unbind(0))), reversed(per), strict=True
    ):
        torch.bmm(solve, dfresh.baddbmm_(leave, after), out=dwant)
        before.baddbmm_(know, dwant, alpha=-1)
        before += after if whole is None else after * whole
    del dwritten

    dreach = torch.bmm(seen, written.mT)
    dclash = torch.baddbmm(reach, dv, written.mT, beta=0, alpha=-1)
    crossing = None
    if decay is None:
        dreach.tril_()
        dclash.tril_(-1)
    else:
        if wanted[4]:
            crossing = _crossing((dreach * reach).addcmul_(dclash, clash))
        dreach *= decay.pairs
        dclash *= decay.pairs
        dclash.diagonal(dim1=-2, dim2=-1).zero_()
    flat, dflat = states[:-1].flatten(0, 1), dstates[1:].flatten(0, 1)
    dq = torch.bmm(seen, flat.mT)
    del seen
    dk = torch.baddbmm(keys, dv, flat.mT, beta=0, alpha=-1)
    dwrites = torch.bmm(written, dflat.mT)
    if decay is not None:
        dq *= decay.enter
        dk *= decay.enter
        dwrites *= decay.leave
        entered = (dq * queries).addcmul_(dk, keys).sum(-1)
        left = (dwrites * writes).sum(-1)
    dq.baddbmm_(dreach, writes)
    dk.baddbmm_(dclash, writes)
    dwrites.baddbmm_(dreach.mT, queries)
    dwrites.baddbmm_(dclash.mT, keys)
    dk.addcmul_(dwrites, rates)
    dbeta = joined(dwrites.mul_(keys).sum(-1, keepdim=True), beta[..., None])[..., 0]
    dlog = None
    if crossing is not None and decay is not None:
        crossing += entered.flip(-1).cumsum(-1).flip(-1)
        crossing[..., 1:] += left.cumsum(-1)[..., :-1]
        crossing += ((flat * dflat).sum((-2, -1), keepdim=True) * decay.whole)[..., 0]
        dlog = joined(crossing[..., None], log_decay[..., None])[..., 0]
    dstate = None if state is None else dstates[0].unflatten(0, (batch, heads)).to(state.dtype)
    if normalise:
        dq -= queries * (queries * dq).sum(-1, keepdim=True)
        dq *= qshrunk
        dk -= keys * (keys * dk).sum(-1, keepdim=True)
        dk *= kshrunk
    return joined(dq, q), joined(dk, k), joined(dv, v), dbeta, dlog, dstate


def _per_chunk(many: int, *tensors: Any) -> list[tuple[Any, ...]]:
    """The tensors of each chunk, (batch * heads, ...); None for what is not there."""
    count = len(tensors[0]) // many
    parts: list[Any] = [(None,) * count if x is None else x.unflatten(0, (count, many)).unbind(0) for x in tensors]
    return list(zip(*parts, strict=True))


def _shrink(x: Tensor) -> Tensor:
    """Divide ``x`` by its L2 norms in place; the factors that did it."""
    factor = x.square().sum(-1, keepdim=True).add_(EPS).rsqrt_()
    x *= factor
    return factor


def _crossing(pairs: Tensor) -> Tensor:
    """For each step the sum over all pairs (i, j) that it lies between, ``i >= t > j``.

    A difference of row and column sums would be cheaper, and lose the small gradients of strong decays to cancellation.
    """
    rows = pairs.shape[-1]
    later = torch.ones((rows, rows), dtype=pairs.dtype, device=pairs.device).triu_()
    return torch.matmul(later, pairs).tril_(-1).sum(-1)


def _factors(decay: Decay | None) -> Optional:
    return (None,) * 4 if decay is None else (decay.pairs, decay.enter, decay.leave, decay.whole)


CORE = Core(forward, backward, reference)
