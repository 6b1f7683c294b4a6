"""From tensors to a launch and back, the same for every Triton kernel of linear attention: one launch per direction, nothing saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..function import Core, Optional, accumulate_dtype
from ..launching import ACCUMULATE, cdiv, launch, or_unused
from .reference import reference, scale_of

Blocks = Callable[[Tensor, Tensor, int], dict[str, Any]]


def kind(log_decay: Tensor | None) -> int:
    """No decay, one per head, per step, per channel: 0 to 3."""
    return 0 if log_decay is None else {1: 1, 3: 2, 4: 3}[log_decay.dim()]


def core(forward_kernel: Any, backward_kernel: Any, blocks: Blocks) -> Core:
    """Two kernels as a core; ``blocks(q, v, kind)`` gives BLOCK_V and whatever else is theirs alone."""

    def forward(
        q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, *, scale: float | None, chunk: int | None
    ) -> tuple[tuple[Tensor, ...], Optional]:
        batch, steps, heads, keys = q.shape
        values, dtype = v.shape[3], accumulate_dtype(q, k, v, log_decay, state)
        out = torch.empty_like(v, memory_format=torch.contiguous_format)
        last = torch.empty((batch, heads, keys, values), dtype=dtype, device=q.device)
        tensors = (q.contiguous(), k.contiguous(), v.contiguous(), or_unused(log_decay, out), or_unused(state, out), out, last)
        options = {"SCALE": scale_of(q, scale), "DECAY": kind(log_decay), "HAS_STATE": state is not None, "ACC": ACCUMULATE[dtype]}
        tiles = blocks(q, v, kind(log_decay))
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
        values, dtype, tiles = v.shape[3], accumulate_dtype(q, k, v, log_decay, state), blocks(q, v, kind(log_decay))
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

    return Core(forward, backward, reference)


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
