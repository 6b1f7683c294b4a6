"""When Triton serves linear attention, and the way to it; triton is imported only when it does."""

from __future__ import annotations

import torch
from torch import Tensor

from ..function import accumulate_dtype, fused
from ..known_bad import refusal
from ..spec import Variant
from .reference import Pair

WIDEST_KEY = 128
WALKED_STEPS = 64
CHUNKED_KEY = 64  # with wider keys the chunked backward kernel spills registers


def triton(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
) -> Pair:
    """One launch per direction, by chunks (:mod:`.triton_chunked`) or by steps (:mod:`.triton_`)."""
    if by_chunks(q, k, v, log_decay, state):
        from .triton_chunked import CORE
    else:
        from .triton_ import CORE

    out, last = fused(CORE, q, k, v, log_decay, state, outputs=2, scale=scale, chunk=chunk)
    return out, last


def by_chunks(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None) -> bool:
    """Long sequences in half precision go through tensor cores; the exact walk serves the others."""
    half = q.dtype == k.dtype == v.dtype and q.dtype in (torch.bfloat16, torch.float16)
    return half and q.shape[1] > WALKED_STEPS and q.shape[-1] <= CHUNKED_KEY and accumulate_dtype(q, log_decay, state) == torch.float32


def supports(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    if q.shape[-1] > WIDEST_KEY:
        return f"a key is {q.shape[-1]} wide and the kernel holds at most {WIDEST_KEY}."
    return refusal(q, kernel="linear_attention")


def variants() -> list[Variant]:
    from . import triton_, triton_chunked

    return [*triton_.variants(), *triton_chunked.variants()]
