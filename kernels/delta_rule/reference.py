"""The delta rule as it is defined: one step at a time, one small matrix per batch element and head."""

from __future__ import annotations

import torch
from torch import Tensor

from ..function import accumulate_dtype

Run = tuple[Tensor, Tensor]
EPS = 1e-6  # under the root of the L2 norm


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
    normalise: bool = False,
) -> Run:
    """The recurrence in the dtype of its inputs; ``chunk`` means nothing here."""
    batch, steps, heads, width = q.shape
    many, values = batch * heads, v.shape[-1]
    if normalise:
        q, k = unit(q), unit(k)
    reads, keys, wanted = _steps(q * scale_of(q, scale)), _steps(k), _steps(v)
    writes = [write.mT for write in _steps(k * beta[..., None])]
    decays = None if log_decay is None else _steps(log_decay.exp()[..., None])
    memory = q.new_zeros(many, width, values) if state is None else state.to(q.dtype).reshape(many, width, values)
    read = []
    for t in range(steps):
        if decays is not None:
            memory = memory * decays[t]
        wrong = torch.baddbmm(wanted[t], keys[t], memory, alpha=-1)
        memory = torch.baddbmm(memory, writes[t], wrong)
        read.append(torch.bmm(reads[t], memory))
    out = torch.stack(read).view(steps, batch, heads, values).transpose(0, 1) if steps else v.clone()
    return out.to(v.dtype), memory.view(batch, heads, width, values).to(accumulate_dtype(q, k, v, beta, log_decay, state))


def _steps(x: Tensor) -> tuple[Tensor, ...]:
    """(batch, steps, heads, width) as one (batch * heads, 1, width) for each step."""
    batch, steps, heads, width = x.shape
    return x.transpose(0, 1).reshape(steps, batch * heads, 1, width).unbind(0)


def unit(x: Tensor) -> Tensor:
    """``x`` over its L2 norm on the last axis; a zero vector stays zero and has a finite gradient."""
    return x * (x.square().sum(-1, keepdim=True) + EPS).rsqrt()


def scale_of(q: Tensor, scale: float | None) -> float:
    return max(1, q.shape[-1]) ** -0.5 if scale is None else scale
