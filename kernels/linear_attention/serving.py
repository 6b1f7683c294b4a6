"""When Triton serves linear attention, and the way to it; triton is imported only when it does."""

from __future__ import annotations

from torch import Tensor

from ..function import fused
from ..known_bad import refusal
from ..spec import Variant
from .reference import Pair

WIDEST_KEY = 128


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
    """One launch per direction; see :mod:`.triton_`."""
    from .triton_ import CORE

    out, last = fused(CORE, q, k, v, log_decay, state, outputs=2, scale=scale, chunk=chunk)
    return out, last


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
    from .triton_ import variants as made

    return made()
