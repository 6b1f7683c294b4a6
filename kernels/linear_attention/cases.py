"""The sizes and decays linear attention is tested and measured at, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..spec import Benchmark, Inputs

CHUNK = 64  # of the roofline
MILD = -0.2


@dataclass(frozen=True)
class Case:
    """One call; log decays are drawn from [strongest, 0], or, with ``spike``, are mild but at every ``spike``-th step.

    Args:
        decay: ``none``, ``head``, ``step`` or ``channel``.
    """

    batch: int
    steps: int
    heads: int
    keys: int
    values: int
    decay: str = "none"
    strongest: float = -0.2
    state: bool = False
    chunk: int | None = None
    spike: int | None = None

    def __str__(self) -> str:
        size = "x".join(map(str, (self.batch, self.steps, self.heads, self.keys, self.values)))
        decay = "" if self.decay == "none" else f"-{self.decay}{self.strongest:g}"
        marks = ("-state" if self.state else "") + (f"-spike{self.spike}" if self.spike else "")
        return f"{size}{decay}{marks}" + (f"-chunk{self.chunk}" if self.chunk else "")


def inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rows = (case.batch, case.steps, case.heads)
    q, k, v = drawn(*rows, case.keys), drawn(*rows, case.keys), drawn(*rows, case.values)
    state = drawn(case.batch, case.heads, case.keys, case.values) if case.state else None
    shapes = {"none": None, "head": rows[2:], "step": rows, "channel": (*rows, case.keys)}
    shape = shapes[case.decay]
    decay = None if shape is None else case.strongest * torch.rand(shape, generator=generator, dtype=torch.float64)
    if decay is not None and case.spike:
        decay *= MILD / case.strongest
        decay[:, case.spike - 1 :: case.spike] = case.strongest
    made = tuple(None if t is None else t.to(device=device, dtype=dtype) for t in (q, k, v, decay, state))
    return Inputs(made, {"chunk": case.chunk} if case.chunk else {})


def bytes_moved(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads q, k, v and the decays and writes the output and the state; backward reads those and writes their gradients."""
    rows = case.batch * case.steps * case.heads
    decays = {"none": 0, "head": 0, "step": 1, "channel": case.keys}[case.decay]
    ends = (2 if case.state else 1) * case.batch * case.heads * case.keys * case.values * 4
    given = rows * (2 * case.keys + case.values + decays)
    once = given + rows * case.values
    return once * dtype.itemsize + ends if direction == "forward" else (once + given) * dtype.itemsize + 2 * ends


def flops(case: Case, direction: str) -> int:
    rows = case.batch * case.steps * case.heads
    forward = rows * (2 * CHUNK * (case.keys + case.values) + 4 * case.keys * case.values)
    return forward if direction == "forward" else 5 * forward // 2


_DECAYS = ("none", "head", "step", "channel")
# A decay per head has one gradient for all steps, a sum whose terms cancel: four heads, so that one of them at least is well conditioned.
SMALL_CASES = (
    Case(2, 6, 1, 3, 9, "channel", -0.5, state=True, chunk=4),
    Case(1, 7, 4, 5, 9, "head", -0.5, state=True),
    Case(1, 7, 2, 5, 9, "step", -0.5, state=True),
    Case(2, 5, 1, 5, 9, state=True),
    Case(1, 8, 2, 8, 8, "channel", -20.0, spike=5),
    Case(1, 9, 1, 4, 4, "channel", -1e4, state=True, spike=3),
    Case(1, 9, 1, 4, 3, "step", -30.0, state=True),
    *(Case(1, 1, 1, 2, 3, decay, state=True) for decay in _DECAYS),
    *(Case(1, 5, 1, 2, 3, decay) for decay in ("none", "step", "channel")),
)
_SIZES = ((1, 1, 1, 1, 1), (2, 7, 2, 8, 5), (1, 32, 3, 4, 8), (2, 33, 2, 7, 6), (1, 63, 1, 8, 8), (1, 65, 2, 16, 9), (2, 100, 1, 4, 4))
CASES = (
    *(Case(*size, decay, state=index % 2 == 0) for index, size in enumerate(_SIZES) for decay in _DECAYS if decay != "head"),
    *(Case(2, steps, 4, 8, 8, "head", -0.3, state=steps % 2 == 0) for steps in (1, 31, 32, 64, 67)),
    *(Case(2, 67, 2, 8, 6, "channel", strongest, state=True) for strongest in (-1.0, -2.4, -2.6, -5.0, -10.0, -30.0)),
    *(Case(2, 67, 2, 8, 6, "step", strongest, state=True) for strongest in (-1.0, -10.0, -30.0)),
    *(Case(2, 67, 2, 8, 6, decay, strongest, state=True, spike=9) for decay in ("step", "channel") for strongest in (-20.0, -1e4)),
    *(Case(2, 40, 2, 8, 6, decay, 0.0, state=True) for decay in ("step", "channel")),
    *(Case(1, 37, 2, 8, 6, decay, -0.5, state=True, chunk=chunk) for decay in ("step", "channel") for chunk in (1, 5, 16, 64)),
    *(
        Case(2, steps, heads, keys, values, "channel", state=True)
        for steps, heads, keys, values in ((0, 2, 3, 4), (5, 0, 3, 4), (5, 2, 0, 4), (5, 2, 3, 0))
    ),
    Case(0, 5, 2, 3, 4, "step", state=True),
    Case(2, 0, 2, 3, 4),
)
BENCHMARKS = tuple(
    Benchmark(Case(*size, decay), target)
    for decay, targets in (("head", (6.5, 7.5)), ("step", (6.5, 7.5)), ("channel", (4.5, 5.0)))
    for size, target in zip(((32, 256, 2, 32, 32), (8, 1024, 4, 32, 32)), targets, strict=True)
)
