"""Sizes and settings at which the delta rule is tested and measured, and what a call costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..spec import Inputs


@dataclass(frozen=True)
class Case:
    """One size of the delta rule.

    Args:
        decay: the smallest log decay (they are drawn from it to 0), or None for no decay.
        spike: the log decay at every fifth step, where given.
        rate: beta is drawn from 0 to this.
        equal: every key of a head is the same.
    """

    batch: int
    steps: int
    heads: int
    width: int
    values: int
    decay: float | None = None
    spike: float | None = None
    state: bool = False
    rate: float = 2.0
    equal: bool = False
    normalise: bool = False

    def __str__(self) -> str:
        decay = "" if self.decay is None else f"-decay{self.decay:g}" + ("" if self.spike is None else f"to{self.spike:g}")
        marks = "".join(f"-{name}" for name in ("state", "equal", "normalise") if getattr(self, name))
        rate = "" if self.rate == 2.0 else f"-rate{self.rate:g}"
        return f"{self.batch}x{self.steps}x{self.heads}x{self.width}x{self.values}{decay}{rate}{marks}"


def inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    """Normal queries and values; keys of length one, or of any length where they are normalised inside."""
    rows = (case.batch, case.steps, case.heads)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform() -> Tensor:
        return torch.rand(rows, generator=generator, dtype=torch.float64)

    q, k, v, beta = normal(*rows, case.width), normal(*rows, case.width), normal(*rows, case.values), case.rate * uniform()
    if case.equal:
        k = k[:, :1].expand_as(k).contiguous()
    if not case.normalise:
        k = normalize(k, dim=-1)
    decay = None if case.decay is None else case.decay * uniform()
    if decay is not None and case.spike is not None:
        decay[:, 2::5] = case.spike
    state = normal(case.batch, case.heads, case.width, case.values) if case.state else None
    made = tuple(None if t is None else t.to(device=device, dtype=dtype) for t in (q, k, v, beta, decay, state))
    return Inputs(made, {"normalise": case.normalise})


def bytes_moved(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads q, k, v, the rates and decays and writes o; backward reads them and do, and writes their gradients."""
    token = 2 * case.width + case.values + (1 if case.decay is None else 2)
    each = token + case.values if direction == "forward" else 2 * token + case.values
    memory = 4 * case.batch * case.heads * case.width * case.values
    return case.batch * case.steps * case.heads * each * dtype.itemsize + 2 * memory


def flops(case: Case, direction: str) -> int:
    """Of the recurrence: three products of a vector and the state forward, three times that backward."""
    return {"forward": 6, "backward": 18}[direction] * case.batch * case.steps * case.heads * case.width * case.values


# Rates up to 2 make the state a product of reflections that few dimensions mix over and over, and no order of summation but that of
# the recurrence itself then has its rounding: widths below 8 are tested with few steps.
_SIZES = ((2, 1, 3, 4, 5), (4, 2, 4, 3, 4), (1, 15, 2, 8, 7), (2, 16, 1, 8, 5), (3, 17, 3, 9, 1), (2, 33, 2, 16, 8), (2, 67, 2, 16, 16))
CASES = (
    *(Case(*size, decay=g, state=s) for size in _SIZES for g, s in ((None, False), (None, True), (-1.0, False), (-1.0, True))),
    Case(2, 0, 2, 3, 4, decay=-1.0, state=True),
    Case(0, 5, 2, 3, 4, decay=-1.0, state=True),
    Case(2, 5, 0, 3, 4, decay=-1.0, state=True),
    Case(2, 5, 2, 0, 4, decay=-1.0, state=True),
    Case(2, 5, 2, 3, 0, decay=-1.0, state=True),
    Case(2, 40, 2, 9, 4, decay=-1.0, state=True, normalise=True),
    Case(2, 40, 2, 9, 4, normalise=True),
    Case(2, 40, 4, 9, 8, state=True, equal=True, rate=1.0),
    Case(2, 40, 4, 9, 8, decay=-0.1, state=True, equal=True, rate=1.0),
    Case(2, 40, 2, 9, 4, decay=0.0, state=True),
    Case(2, 40, 2, 9, 4, state=True, rate=0.0),
    Case(2, 40, 2, 9, 4, decay=-0.1, state=True, rate=1e-3),
    Case(2, 70, 2, 9, 4, decay=-0.1, spike=-20.0, state=True),
    Case(2, 70, 2, 9, 4, decay=-0.1, spike=-1e3, state=True),
    Case(2, 40, 2, 9, 4, decay=-1e3, state=True),
    Case(2, 40, 2, 9, 4, decay=-20.0, spike=-20.0, state=True),
)
SMALL_CASES = (
    Case(2, 9, 1, 3, 2, decay=-1.0, state=True, normalise=True),
    Case(1, 1, 1, 2, 3),
    Case(1, 8, 2, 3, 5, state=True),
    Case(1, 10, 1, 9, 9, decay=-1.0, normalise=True),
    Case(2, 9, 1, 4, 4, decay=-1.0, spike=-1e3, state=True),
    Case(2, 12, 2, 7, 3, equal=True, rate=1.0, state=True),
)
BENCHMARKS = ((Case(32, 256, 2, 32, 32), 3.6), (Case(8, 1024, 4, 32, 32), 4.5))
