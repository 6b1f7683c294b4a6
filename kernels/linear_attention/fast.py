"""Linear attention on PyTorch's batched matrix products: chunks of steps side by side, the states between them in a short loop.

Decays are multiplied, never divided by a product that may vanish. A decay per step and head makes a table of at most ones between the
rows of a chunk (:mod:`.table`); a decay per channel takes a factor per query and one per key (:mod:`.anchors`).

The gradient of the log decay at step t is the sum over all pairs of a key before t and a query at or after t. With r and c what each row
gives as a query and as a key, without the pair it makes with itself, that is the pairs that cross the beginning of the chunk plus the
sum of ``c - r`` over the rows of the chunk before t. Every term carries a decay, so that strong decays lose no digits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..function import Core, Optional, accumulate_dtype, fused
from .anchors import STRONG_CHUNK, Anchors, fitting, halving, meeting, middle
from .chunks import Chunks
from .reference import Pair, reference, scale_of
from .table import Table, times, times_

CHUNK = 32


def fast(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
) -> Pair:
    out, last = fused(CORE, q, k, v, log_decay, state, outputs=2, scale=scale, chunk=chunk)
    return out, last


class Look(NamedTuple):
    """A chunk looking at itself: flat chunks, M = count * batch * heads of them.

    ``weights`` (M, C, C) are those of the values; ``entering`` and ``leaving`` (M, C, K) are queries and keys times the factors that
    take them to the beginning and to the end of the chunk (None: as they are), the state being multiplied by ``pre`` before, by ``post``
    after and by ``total`` over the chunk, (M, K or 1, 1). ``by_query`` and ``by_key`` are factors per row, (groups, C, 1), or those of
    :mod:`.anchors`; ``inner`` is the table where there is one.
    """

    weights: Tensor
    entering: Tensor | None = None
    leaving: Tensor | None = None
    by_query: Tensor | None = None
    by_key: Tensor | None = None
    inner: Tensor | None = None
    total: Tensor | None = None
    pre: Tensor | None = None
    post: Tensor | None = None

    def ends(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return query if self.entering is None else self.entering, key if self.leaving is None else self.leaving


def _scaled(states: Tensor, factor: Tensor | None) -> Tensor:
    return states if factor is None else states * factor


def forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, *, scale: float | None, chunk: int | None
) -> tuple[tuple[Tensor, ...], Optional]:
    dtype = accumulate_dtype(q, k, v, log_decay, state)
    chunks, anchored = _chunks(q, log_decay, chunk)
    query, key, value = chunks.split(q, dtype, scale_of(q, scale)), chunks.split(k, dtype), chunks.split(v, dtype)
    if log_decay is not None and log_decay.dim() == 4:
        look = _through_anchors(query, key, (middle if anchored else halving)(chunks.split(log_decay, dtype)))
    else:
        look = _through_table(query, key, _table(chunks, log_decay, query), log_decay is not None)
    entering, leaving = look.ends(query, key)
    states = chunks.carried(state, leaving, value, look.total, look.post)
    out = torch.bmm(entering, _scaled(states[:-1].flatten(0, 1), look.pre)).baddbmm_(look.weights, value)
    last = states[-1].unflatten(0, (chunks.batch, chunks.heads)).clone()
    return (chunks.merge(out, v.dtype), last), (query, key, value, states, *look)


def _chunks(q: Tensor, log_decay: Tensor | None, chunk: int | None) -> tuple[Chunks, bool]:
    """The chunks, and whether one anchor in their middle serves a decay per channel."""
    most = chunk or CHUNK
    if log_decay is None or log_decay.dim() < 4:
        return Chunks.of(q, most), False
    fits = fitting(log_decay, most)
    return Chunks.of(q, fits or min(most, STRONG_CHUNK)), fits > 0


def _table(chunks: Chunks, log_decay: Tensor | None, like: Tensor) -> Table:
    if log_decay is None:
        return Table.of(like.new_ones(1, chunks.size))
    if log_decay.dim() == 1 and chunks.steps == chunks.count * chunks.size:
        return Table.of(log_decay.to(like.dtype).exp().unsqueeze(-1).expand(-1, chunks.size))
    each = log_decay.expand(chunks.batch, chunks.steps, -1).unsqueeze(-1)  # rows after the last step have no decay
    return Table.of(chunks.split(each, like.dtype).squeeze(-1).exp_())


def _through_table(query: Tensor, key: Tensor, table: Table, decays: bool) -> Look:
    weights = times_(torch.bmm(query, key.mT), table.inner)
    if not decays:
        return Look(weights, inner=table.inner)
    total = table.enter[:, -1:].repeat(len(query) // len(table.enter), 1, 1)
    return Look(weights, times(query, table.enter), times(key, table.leave), table.enter, table.leave, table.inner, total)


def _through_anchors(query: Tensor, key: Tensor, anchors: Anchors) -> Look:
    size = query.shape[1]
    entering, leaving = query * anchors.query[-1], key * anchors.key[-1]
    if anchors.pre is not None:
        weights = torch.bmm(entering, leaving.mT).tril_()
    else:
        weights = torch.diag_embed((query * key).sum(-1))
        for mask, by_query, by_key in zip(meeting(size, query), anchors.query[:-1], anchors.key[:-1], strict=True):
            weights.addcmul_(mask, torch.bmm(query * by_query, (key * by_key).mT))
    return Look(weights, entering, leaving, anchors.query, anchors.key, None, anchors.total, anchors.pre, anchors.post)


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
    query, key, value, states, weights, *rest = saved
    assert q is not None
    assert k is not None
    assert v is not None
    assert query is not None
    assert key is not None
    assert value is not None
    assert states is not None
    assert weights is not None
    look = Look(weights, *rest)
    chunks = Chunks(q.shape[0], q.shape[1], q.shape[2], query.shape[1])
    entering, leaving = look.ends(query, key)
    dout = torch.zeros_like(value) if cotangents[0] is None else chunks.split(cotangents[0], value.dtype)
    dstates = chunks.carried_back(cotangents[1], entering, dout, look.total, look.pre)
    after = _scaled(dstates[1:].flatten(0, 1), look.post)
    dentering = torch.bmm(dout, _scaled(states[:-1].flatten(0, 1), look.pre).mT)
    dleaving = torch.bmm(value, after.mT)
    dweights = torch.bmm(dout, value.mT)
    dvalue = torch.bmm(leaving, after).baddbmm_(look.weights.mT, dout)
    dstate = None if state is None else dstates[0].unflatten(0, (chunks.batch, chunks.heads)).to(state.dtype)
    rows = _rows_of_table if look.inner is not None else _rows_of_anchors
    if log_decay is None or not wanted[3] or look.total is None:
        dquery, dkey, _ = rows(look, query, key, dweights, dentering, dleaving, False)
        ddecay = None
    else:
        over = (states[:-1] * dstates[1:]).flatten(0, 1).sum(-1, keepdim=True).mul_(look.total).mT
        from_before, to_after = entering * dentering, leaving * dleaving
        dquery, dkey, inside = rows(look, query, key, dweights, dentering, dleaving, True)
        assert inside is not None
        ddecay = _of_decay(chunks, log_decay, over, from_before, to_after, inside)
    return (
        chunks.merge(dquery.mul_(scale_of(q, scale)), q.dtype, dweights),
        chunks.merge(dkey, k.dtype, dout),
        chunks.merge(dvalue, v.dtype, dquery),
        ddecay,
        dstate,
    )


Rows = tuple[Tensor, Tensor, Tensor | None]


def _rows_of_table(look: Look, query: Tensor, key: Tensor, dweights: Tensor, dentering: Tensor, dleaving: Tensor, wants: bool) -> Rows:
    """Gradients of queries and keys (in the memory of their parts), and how the pairs inside the chunk add to the log decays, (M, C, 1)."""
    assert look.inner is not None
    inside = None
    if wants:  # over the pairs (i, j) with j < t <= i
        inside = (look.weights * dweights).cumsum_(-1).tril_(-1).sum(1).unsqueeze(-1).roll(1, 1)
    times_(dweights, look.inner)
    if look.by_query is not None and look.by_key is not None:
        times_(dentering, look.by_query)
        times_(dleaving, look.by_key)
    return dentering.baddbmm_(dweights, key), dleaving.baddbmm_(dweights.mT, query), inside


def _rows_of_anchors(look: Look, query: Tensor, key: Tensor, dweights: Tensor, dentering: Tensor, dleaving: Tensor, wants: bool) -> Rows:
    """The same, but of the pairs inside the chunk what each row gives as key less what it gives as query, (M, C, K).

    A row's pair with itself knows no decay: it is left out there, lest it drown the others.
    """
    assert look.by_query is not None
    assert look.by_key is not None
    own = dweights.diagonal(dim1=1, dim2=2).clone().unsqueeze(-1)
    dweights.tril_(-1)
    inside = None
    if look.pre is not None:
        query, key = look.ends(query, key)
        as_query, as_key = torch.bmm(dweights, key), torch.bmm(dweights.mT, query)
        inside = (key * as_key).addcmul_(query, as_query, value=-1) if wants else None
        dquery = dentering.add_(as_query).addcmul_(own, key).mul_(look.by_query[0])
        return dquery, dleaving.add_(as_key).addcmul_(own, query).mul_(look.by_key[0]), inside
    as_query, as_key = own * key, own * query
    dquery, dkey = dentering.mul_(look.by_query[-1]).add_(as_query), dleaving.mul_(look.by_key[-1]).add_(as_key)
    inside = torch.zeros_like(query) if wants else None
    for mask, by_query, by_key in zip(meeting(query.shape[1], query), look.by_query[:-1], look.by_key[:-1], strict=True):
        masked = dweights * mask
        as_query, as_key = torch.bmm(masked, key * by_key).mul_(by_query), torch.bmm(masked.mT, query * by_query).mul_(by_key)
        dquery.add_(as_query)
        dkey.add_(as_key)
        if inside is not None:
            inside.addcmul_(key, as_key).addcmul_(query, as_query, value=-1)
    return dquery, dkey, inside


def _of_decay(chunks: Chunks, log_decay: Tensor, over: Tensor, from_before: Tensor, to_after: Tensor, inside: Tensor) -> Tensor:
    """The gradient of the log decay at step t: all pairs of a key before t and a query at t or after it, each with its own decay.

    ``over`` the chunk reach pairs from before it to after it; a query inside may look at keys ``from_before``, a key inside ``to_after``.
    """
    upper = torch.ones(chunks.size, chunks.size, dtype=over.dtype, device=over.device).triu_()
    if log_decay.dim() == 4:
        each = torch.matmul(upper, from_before).add_(torch.matmul(upper.mT.tril(-1), to_after.add_(inside))).add_(over)
    else:
        queries, keys = from_before.sum(-1, keepdim=True), to_after.sum(-1, keepdim=True)
        each = torch.matmul(upper, queries).add_(torch.matmul(upper.mT.tril(-1), keys)).add_(inside).add_(over.sum(-1, keepdim=True))
    merged = chunks.merge(each, log_decay.dtype if log_decay.dim() > 1 else each.dtype)
    if log_decay.dim() == 4:
        return merged
    return merged.squeeze(-1) if log_decay.dim() == 3 else merged.sum((0, 1, 3)).to(log_decay.dtype)


CORE = Core(forward, backward, reference)
