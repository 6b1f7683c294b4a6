r"""Kolmogorov-Arnold linear layer: every edge has a function of its own, a sum of G basis functions.

.. math:: y_o = \sum_i \sum_g \phi_g(x_i) W_{oig}

The bases are from "KAN: Kolmogorov-Arnold Networks" (2024, 2404.19756; B-splines), "Kolmogorov-Arnold Networks are Radial Basis
Function Networks" (2024, 2405.06721), "Chebyshev Polynomial-Based Kolmogorov-Arnold Networks" (2024, 2405.07200) and "ReLU-KAN: New
Kolmogorov-Arnold Networks that Only Need Matrix Addition, Dot Multiplication, and ReLU" (2024, 2406.02075).
"""

from __future__ import annotations

from torch import Tensor

from ..dispatch import call
from ..known_bad import refusal
from ..spec import KERNELS, KernelSpec, Variant
from .cases import BENCHMARKS, CASES, SMALL_CASES, bytes_moved, flops, inputs
from .fast import fast
from .reference import reference

BASES = ("bspline", "rbf", "chebyshev", "relu")


def kan_linear(
    x: Tensor,
    weight: Tensor,
    grid: Tensor | None = None,
    *,
    basis: str = "bspline",
    order: int = 3,
    low: float = -1.0,
    high: float = 1.0,
    backend: str | None = None,
) -> Tensor:
    r"""``y_o = sum_i sum_g phi_g(x_i) W_oig``; the base branch (a linear map of silu(x)) is left to the caller.

    ============== ============================================================== ================================================
    basis          phi_g(x)                                                       grid
    ============== ============================================================== ================================================
    ``bspline``    the B-spline of order k on the knots t_g to t_{g+k+1}          knots, not decreasing, (G + k + 1) or
                                                                                  (Din, G + k + 1)
    ``rbf``        exp(-((x - c_g) / w_g)^2)                                      centres and widths, (2, G) or (2, Din, G)
    ``relu``       (4 relu(x - lo_g) relu(hi_g - x) / (hi_g - lo_g)^2)^2          lows and highs, (2, G) or (2, Din, G)
    ``chebyshev``  T_g(tanh x), g = 0 to G - 1                                    none
    ============== ============================================================== ================================================

    Args:
        x: (..., Din).
        weight: (Dout, Din, G).
        grid: as in the table, one for all inputs or one per input; None is uniform over [low, high]: G - k intervals for ``bspline``
            (whose knots go on for k intervals on either side) and for ``relu`` (whose supports are those of the B-splines), G centres
            from ``low`` to ``high`` with their spacing as width for ``rbf``.
        basis: ``bspline``, ``rbf``, ``chebyshev`` or ``relu``.
        order: k, the degree of B-splines, or one less than the intervals under a ReLU-KAN bump.
        low, high: the range of the uniform grid; of no account if a grid is given.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        y: (..., Dout) in the dtype of ``x``.

    B-splines are half-open: at a knot only those that begin there or before count, and at the last knot none. Gradients flow to
    ``x``, ``weight`` and the grids of ``rbf`` and ``relu``, any number of times; knots are constants.

    Raises:
        ValueError: shapes, basis, order or range do not fit. TypeError: a tensor is not real floating point. BackendError: see
            dispatch.
    """
    _check(x, weight, grid, basis, order, low, high)
    result: Tensor = call(SPEC, x, weight, grid, backend=backend, basis=basis, order=order, low=low, high=high)
    return result


def _check(x: Tensor, weight: Tensor, grid: Tensor | None, basis: str, order: int, low: float, high: float) -> None:
    for name, tensor in (("x", x), ("weight", weight), ("grid", grid)):
        if tensor is not None and not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of kan_linear must be real floating point. Got {tensor.dtype} instead.')
    if basis not in BASES:
        raise ValueError(f'kan_linear knows the bases {", ".join(BASES)}. Got "{basis}" instead.')
    if weight.dim() != 3 or x.dim() == 0 or x.shape[-1] != weight.shape[1] or weight.shape[2] == 0:
        raise ValueError(f"kan_linear needs x (..., Din) and weight (Dout, Din, G >= 1). Got {tuple(x.shape)} and {tuple(weight.shape)}.")
    if order < 1:
        raise ValueError(f"kan_linear needs an order of at least 1. Got {order} instead.")
    devices = {tensor.device for tensor in (x, weight, grid) if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"kan_linear needs x, weight and grid on one device. Got {sorted(map(str, devices))}.")
    _check_grid(weight, grid, basis, order, low, high)


def _check_grid(weight: Tensor, grid: Tensor | None, basis: str, order: int, low: float, high: float) -> None:
    _, inputs, count = weight.shape
    if grid is None:
        fewest = {"bspline": order + 1, "relu": order + 1, "rbf": 2, "chebyshev": 1}[basis]
        if count < fewest:
            raise ValueError(f'A uniform grid for the basis "{basis}" of order {order} needs at least {fewest} functions. Got {count}.')
        if not low < high:
            raise ValueError(f"kan_linear needs low < high for a uniform grid. Got {low} and {high}.")
        return
    if basis == "chebyshev":
        raise ValueError('The basis "chebyshev" has no grid; leave grid out.')
    leading, last = ((), count + order + 1) if basis == "bspline" else ((2,), count)
    shapes = ((*leading, last), (*leading, inputs, last))
    if tuple(grid.shape) not in shapes:
        raise ValueError(f'The grid of the basis "{basis}" must have shape {shapes[0]} or {shapes[1]}. Got {tuple(grid.shape)} instead.')


def triton(x: Tensor, weight: Tensor, grid: Tensor | None = None, **options: object) -> Tensor:
    """A matrix product whose left operand is made on the chip; see :mod:`archwright.kernels.kan.triton_`."""
    from .triton_ import triton_ as run

    return run(x, weight, grid, **options)


def supports(x: Tensor, weight: Tensor, grid: Tensor | None = None, **options: object) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(x, kernel="kan")


def variants() -> list[Variant]:
    from .triton_ import variants as made

    return made()


# elements of x from which blocks of rows pay for their overhead in time (in memory they always do)
_PLAIN_BELOW = {"bspline": 1 << 9, "rbf": 1 << 15, "relu": 1 << 16, "chebyshev": 1 << 19}

SPEC = KERNELS.add(
    KernelSpec(
        name="kan",
        plain_below=lambda basis, **_: _PLAIN_BELOW[basis],
        public=kan_linear,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=inputs,
        cases=CASES,
        small_cases=SMALL_CASES,
        differentiable=("x", "weight", "grid"),
        bytes=bytes_moved,
        flops=flops,
        supports=supports,
        benchmarks=BENCHMARKS,
        variants=variants,
    )
)
