"""The sizes and settings that the layer is tested and measured at, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..spec import Benchmark, Inputs


@dataclass(frozen=True)
class Case:
    """x (2, rows, inputs) and weight (outputs, inputs, count); ``grid`` is none, shared, or one for each input.

    ``clamped`` repeats the first and last knot; ``scale`` is the spread of x, on a grid from -1.5 to 1.5.
    """

    basis: str
    rows: int
    inputs: int
    outputs: int
    count: int
    order: int = 3
    grid: str = "none"
    clamped: bool = False
    scale: float = 1.0

    def __str__(self) -> str:
        order = f"-order{self.order}" if self.basis in ("bspline", "relu") else ""
        grid = "" if self.grid == "none" else f"-{self.grid}" + ("-clamped" if self.clamped else "")
        scale = "" if self.scale == 1.0 else f"-scale{self.scale:g}"
        return f"{self.basis}-{2 * self.rows}x{self.inputs}x{self.outputs}x{self.count}{order}{grid}{scale}"


def inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    x = case.scale * torch.randn((2, case.rows, case.inputs), generator=generator, dtype=torch.float64)
    weight = torch.randn((case.outputs, case.inputs, case.count), generator=generator, dtype=torch.float64)
    made = (x, weight, _grid(case, generator))
    options = {"basis": case.basis, "order": case.order, "low": -1.5, "high": 1.5}
    return Inputs(tuple(None if t is None else t.to(device=device, dtype=dtype) for t in made), options)


def _grid(case: Case, generator: torch.Generator) -> Tensor | None:
    if case.grid == "none":
        return None
    leading = () if case.grid == "shared" else (case.inputs,)

    def drawn(size: int, least: float) -> Tensor:
        return least + (1 - least) * torch.rand((*leading, size), generator=generator, dtype=torch.float64)

    if case.basis == "bspline":
        gaps = drawn(case.count + case.order + 1, 0.3)
        if case.clamped:
            gaps[..., : case.order + 1] = 0
            gaps[..., -case.order :] = 0
        knots = gaps.cumsum(-1)
        return 4 * knots / knots[..., -1:] - 2
    spacing = 3.0 / case.count
    centres = torch.linspace(-1.5, 1.5, case.count, dtype=torch.float64) + spacing * (drawn(case.count, 0.0) - 0.5)
    widths = spacing * (0.5 + drawn(case.count, 0.0))
    return torch.stack([centres, widths] if case.basis == "rbf" else [centres - 2 * widths, centres + 2 * widths])


def bytes_moved(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads x, the weights, and writes y; backward reads x, the weights, dy and writes dx, dW."""
    rows, weights = 2 * case.rows * dtype.itemsize, case.inputs * case.outputs * case.count * dtype.itemsize
    if direction == "forward":
        return rows * (case.inputs + case.outputs) + weights
    return rows * (2 * case.inputs + case.outputs) + 2 * weights


def flops(case: Case, direction: str) -> int:
    """The matrix products: one forward, two backward; and the bases, about ten operations each, in both."""
    expanded = 2 * case.rows * case.inputs * case.count
    return expanded * (2 * case.outputs * (1 if direction == "forward" else 2) + 10)


SMALL_CASES = (
    Case("rbf", 5, 3, 9, 4, grid="each"),
    Case("chebyshev", 5, 9, 3, 4),
    Case("bspline", 3, 3, 2, 3, grid="each"),
    Case("rbf", 5, 9, 3, 3, grid="shared"),
    Case("rbf", 3, 2, 3, 5),
    Case("relu", 5, 9, 3, 4, order=2, grid="each"),
    Case("relu", 3, 4, 3, 4, order=1, grid="shared"),
    Case("relu", 3, 3, 2, 5),
    Case("chebyshev", 2, 1, 1, 1),
    Case("chebyshev", 2, 3, 2, 2),
    Case("bspline", 5, 9, 9, 4),
    Case("bspline", 3, 3, 2, 5, order=1),
    Case("bspline", 3, 3, 2, 5, order=2),
    Case("bspline", 3, 3, 2, 4, order=2, grid="shared", clamped=True),
)
_SIZES = ((1, 1, 1, 6), (7, 15, 17, 7), (16, 16, 16, 8), (33, 31, 5, 6), (65, 64, 64, 8))
CASES = (
    *SMALL_CASES,
    *(Case(basis, *size) for size in _SIZES for basis in ("bspline", "rbf", "chebyshev", "relu")),
    *(Case(basis, 40, 13, 7, 6, grid=grid) for grid in ("shared", "each") for basis in ("bspline", "rbf", "relu")),
    Case("bspline", 40, 13, 7, 6, order=1, grid="each"),
    Case("bspline", 40, 5, 7, 6, order=5),
    Case("bspline", 3, 3, 2, 6, order=4),
    Case("bspline", 10, 9, 2, 4, grid="each"),
    Case("bspline", 40, 5, 7, 6, grid="each", clamped=True),
    Case("chebyshev", 40, 5, 7, 20),
    Case("bspline", 500, 64, 3, 8),
    *(Case(basis, 9, 4, 3, 5, scale=scale) for scale in (0.0, 0.01, 1e4) for basis in ("bspline", "rbf", "chebyshev", "relu")),
    Case("rbf", 0, 3, 2, 4, grid="each"),
    Case("bspline", 3, 0, 2, 5),
    Case("relu", 3, 2, 0, 5),
)
_LARGE = tuple(Case("bspline", 4096, width, width, 8) for width in (64, 128))
BENCHMARKS = (
    *(Benchmark(case, 2.0, measure="memory") for case in _LARGE),
    *(Benchmark(case, 2.0) for case in _LARGE),
)
