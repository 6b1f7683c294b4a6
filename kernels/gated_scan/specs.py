"""What the gated scans say about themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..known_bad import refusal
from ..spec import FLOATS, KERNELS, Benchmark, Inputs, KernelSpec, Variant
from . import cores
from .fronts import GATE_LOOP, HGRN, LRU, MIN_GRU, RG_LRU, Front


@dataclass(frozen=True)
class Case:
    """One size. ``optional``: with all tensors the front end can do without, and its option on; ``extreme``: saturated gates."""

    batch: int
    steps: int
    width: int
    state: bool = False
    reverse: bool = False
    optional: bool = True
    extreme: bool = False
    complex_: bool = False

    def __str__(self) -> str:
        marks = {"state": self.state, "reverse": self.reverse, "bare": not self.optional, "extreme": self.extreme, "complex": self.complex_}
        return "-".join((f"{self.batch}x{self.steps}x{self.width}", *(mark for mark, on in marks.items() if on)))


Draw = Callable[[Case, Callable[..., Tensor]], tuple[list[Tensor | None], dict[str, Any]]]
# logits at which a sigmoid rounds to 0 and 1
SATURATED = 2000.0


def _logits(case: Case, normal: Callable[..., Tensor]) -> Tensor:
    drawn = normal(case.batch, case.steps, case.width)
    return SATURATED * drawn.sign() if case.extreme else drawn


def _rg_lru(case: Case, normal: Callable[..., Tensor]) -> tuple[list[Tensor | None], dict[str, Any]]:
    shape = (case.batch, case.steps, case.width)
    log_odds = 40.0 * normal(case.width).sign() if case.extreme else 3.0 + normal(case.width)
    return [_logits(case, normal), _logits(case, normal), normal(*shape), log_odds], {"c": 8.0 if case.optional else 2.0}


def _min_gru(case: Case, normal: Callable[..., Tensor]) -> tuple[list[Tensor | None], dict[str, Any]]:
    return [_logits(case, normal), normal(case.batch, case.steps, case.width)], {"positive": case.optional}


def _hgrn(case: Case, normal: Callable[..., Tensor]) -> tuple[list[Tensor | None], dict[str, Any]]:
    forget, value = _logits(case, normal), normal(case.batch, case.steps, case.width)
    if case.complex_:
        value = torch.complex(value, normal(case.batch, case.steps, case.width))
    floor = torch.sigmoid(normal(case.width))
    floor = floor.round() if case.extreme else floor
    return [forget, value, floor if case.optional else None, normal(case.width) if case.complex_ and case.optional else None], {}


def _gate_loop(case: Case, normal: Callable[..., Tensor]) -> tuple[list[Tensor | None], dict[str, Any]]:
    shape = (case.batch, case.steps, case.width)
    return [_logits(case, normal), 2.0 * normal(*shape), normal(*shape), normal(*shape)], {"input_gate": case.optional}


def _lru(case: Case, normal: Callable[..., Tensor]) -> tuple[list[Tensor | None], dict[str, Any]]:
    u = normal(case.batch, case.steps, case.width)
    if case.complex_:
        u = torch.complex(u, normal(case.batch, case.steps, case.width))
    nu = SATURATED * normal(case.width).sign() if case.extreme else normal(case.width) - 2.0
    return [u, nu, 3.0 * normal(case.width), 0.3 * normal(case.width)], {}


def _inputs(front: Front, draw: Draw) -> Callable[[Case, torch.dtype, str, torch.Generator], Inputs]:
    def make(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        parts, options = draw(case, normal)
        turning = front in (GATE_LOOP, LRU) or case.complex_
        state = normal(case.batch, case.width) if case.state else None
        if state is not None and turning:
            state = torch.complex(state, normal(case.batch, case.width))
        low = torch.complex128 if dtype == torch.float64 else torch.complex64
        made = (None if t is None else t.to(device=device, dtype=low if t.is_complex() else dtype) for t in (*parts, state))
        return Inputs(tuple(made), {**options, "reverse": case.reverse})

    return make


def _bytes(front: Front) -> Callable[[Case, torch.dtype, str], int]:
    """Forward reads the sequences and writes h; backward reads them, h and its cotangent and writes their gradients."""

    def count(case: Case, dtype: torch.dtype, direction: str) -> int:
        turning = front in (GATE_LOOP, LRU) or case.complex_
        state = 2 * max(4, dtype.itemsize) if turning else dtype.itemsize
        arguments = len(front.sequences) * dtype.itemsize
        element = arguments + state if direction == "forward" else 2 * arguments + 2 * state
        return element * case.batch * case.steps * case.width

    return count


def _flops(front: Front) -> Callable[[Case, str], int]:
    def count(case: Case, direction: str) -> int:
        each = front.operations + (8 if front in (GATE_LOOP, LRU) or case.complex_ else 2)
        return (each if direction == "forward" else 3 * each) * case.batch * case.steps * case.width

    return count


def _supports(*args: Tensor | None, **options: Any) -> str | None:
    return refusal(args[0], kernel="scan")


def _variants(front: Front) -> Callable[[], list[Variant]]:
    def make() -> list[Variant]:
        from . import triton_

        return triton_.variants(front)

    return make


_CASES = (
    Case(2, 41, 3, state=True),
    Case(2, 41, 3, state=True, reverse=True, optional=False),
    Case(1, 1, 1),
    Case(2, 33, 5, optional=False),
    Case(3, 16, 2, reverse=True),
    Case(2, 40, 3, state=True, extreme=True),
    Case(2, 40, 3, reverse=True, extreme=True, optional=False),
    Case(2, 0, 3, state=True),
    Case(0, 5, 3, state=True),
    Case(2, 5, 0, state=True),
)
# three channels and more, since the largest of one or two errors is a poor measure of rounding
_SMALL = (
    Case(2, 9, 3, state=True),
    Case(2, 10, 5, state=True, reverse=True, optional=False),
    Case(1, 17, 3, reverse=True),
    Case(2, 3, 4, state=True, extreme=True),
)


def _also_complex(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    return (replace(cases[0], complex_=True), *cases, *(replace(case, complex_=True) for case in cases[1:]))


def _spec(front: Front, draw: Draw, dtypes: tuple[torch.dtype, ...] = FLOATS, both: bool = False) -> KernelSpec:
    def public(*args: Any, **options: Any) -> Any:
        import archwright.kernels.gated_scan as home

        return getattr(home, front.name)(*args, **options)

    public.__name__, public.__doc__ = front.name, f"See :func:`archwright.kernels.{front.name}`."
    names = (*front.sequences, *front.vectors, "h0")
    return KERNELS.add(
        KernelSpec(
            name=front.name,
            public=public,
            reference=cores.reference(front),
            fast=cores.fast(front),
            triton=cores.triton(front),
            inputs=_inputs(front, draw),
            cases=_also_complex(_CASES) if both else _CASES,
            small_cases=(replace(_SMALL[0], complex_=True), *_SMALL[1:], replace(_SMALL[2], complex_=True)) if both else _SMALL,
            differentiable=names,
            per_sample=(*front.sequences, "h0"),
            bytes=_bytes(front),
            flops=_flops(front),
            supports=_supports,
            dtypes=dtypes,
            benchmarks=(Benchmark(Case(32, 256, 64), 6), Benchmark(Case(8, 1024, 128), 30)),
            variants=_variants(front),
        )
    )


SPECS = {
    "rg_lru_scan": _spec(RG_LRU, _rg_lru),
    "min_gru_scan": _spec(MIN_GRU, _min_gru),
    "hgrn_scan": _spec(HGRN, _hgrn, both=True),
    "gate_loop_scan": _spec(GATE_LOOP, _gate_loop),
    "lru_scan": _spec(LRU, _lru, dtypes=(torch.float64, torch.float32), both=True),
}
