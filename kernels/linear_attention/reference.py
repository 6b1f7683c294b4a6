"""Linear attention with decay as it is defined: one step at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..function import accumulate_dtype

Pair = tuple[Tensor, Tensor]


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
) -> Pair:
    """The recurrence over states (batch, heads, K, V), in the dtype of its inputs; ``chunk`` is of no concern here."""
    batch, steps, heads, keys = q.shape
    q = q * scale_of(q, scale)
    memory = q.new_zeros(batch, heads, keys, v.shape[-1]) if state is None else state.to(q.dtype)
    if steps == 0:
        return q.sum(-1, keepdim=True) * v, _final(memory + torch.einsum("bthk,bthv->bhkv", k, v), q, k, v, log_decay, state)
    decays = None if log_decay is None else per_step(log_decay.exp(), steps).unsqueeze(-1).unbind(1)
    outs = []
    for t, (query, key, value) in enumerate(
        zip(q.unsqueeze(-2).unbind(1), k.unsqueeze(-1).unbind(1), v.unsqueeze(-2).unbind(1), strict=True)
    ):
        memory = (memory if decays is None else decays[t] * memory) + key * value
        outs.append(query @ memory)
    return torch.stack(outs, dim=1).squeeze(-2).to(q.dtype), _final(memory, q, k, v, log_decay, state)


def per_step(decay: Tensor, steps: int) -> Tensor:
    """(heads) as (1, steps, heads, 1), (batch, steps, heads) as (batch, steps, heads, 1), a decay per channel as it is."""
    if decay.dim() == 1:
        return decay.reshape(1, 1, -1, 1).expand(1, steps, -1, 1)
    return decay if decay.dim() == 4 else decay.unsqueeze(-1)


def scale_of(q: Tensor, scale: float | None) -> float:
    return max(1, q.shape[-1]) ** -0.5 if scale is None else scale


def _final(memory: Tensor, *tensors: Tensor | None) -> Tensor:
    return memory.to(accumulate_dtype(*tensors))
