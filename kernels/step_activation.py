r"""GELU and SiLU whose backward pass keeps two bits per element: the derivative is a step function with four levels.

.. math:: y = \phi(x), \qquad dx = dy \sum_i a_i [x > c_i]

The steps are the derivative of :math:`\tilde h(x) = \sum_i a_i \max(x - c_i, 0)`, which is fitted to the activation by least squares:
gradients are those of a function that is near, while the forward pass is exact. "Reducing Fine-Tuning Memory Overhead by Approximate
and Memory-Sharing Backpropagation" (2024, 2406.16282).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .dispatch import call
from .known_bad import refusal
from .spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "silu": F.silu}


@dataclass(frozen=True, slots=True)
class Steps:
    """The derivative rises by ``heights[i]`` where x passes ``edges[i]``; the heights add up to one."""

    heights: tuple[float, ...]
    edges: tuple[float, ...]

    @property
    def levels(self) -> tuple[float, ...]:
        """The derivative between the edges, from the left."""
        return (0.0, *accumulate(self.heights))

    @property
    def bits(self) -> int:
        return 1 if len(self.edges) == 1 else 2

    def __call__(self, x: Tensor) -> Tensor:
        """The sum of shifted rectifiers whose derivative the steps are."""
        return sum((height * F.relu(x - edge) for height, edge in zip(self.heights, self.edges, strict=True)), torch.zeros_like(x))


_ONE = Steps((1.0,), (0.0,))
FITTED = {
    ("gelu", 1): _ONE,
    ("silu", 1): _ONE,
    ("gelu", 3): Steps((-0.04922261, 1.09796321, -0.04874060), (-3.18588100, -0.00117882, 3.19083261)),
    ("silu", 3): Steps((-0.04060357, 1.08092543, -0.04032186), (-6.30504610, -0.00086849, 6.32581524)),
}


def step_activation(x: Tensor, *, act: str = "gelu", steps: int = 3, backend: str | None = None) -> Tensor:
    """``gelu(x)`` or ``silu(x)``, exact, with a step function for its derivative; ``x`` is not kept.

    Args:
        x: any shape, real.
        act: ``gelu`` or ``silu``.
        steps: 3 keeps two bits per element for the backward pass, 1 keeps one (the derivative of the rectifier).
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        As ``x``. It can be differentiated once.

    Raises:
        ValueError: no such activation or number of steps. TypeError: ``x`` is not real floating point. BackendError: see dispatch.
    """
    if (act, steps) not in FITTED:
        raise ValueError(f'step_activation knows the activations gelu and silu with 1 or 3 steps. Got act="{act}", steps={steps}.')
    if not x.is_floating_point():
        raise TypeError(f'The argument "x" of step_activation must be real floating point. Got {x.dtype} instead.')
    result: Tensor = call(SPEC, x, backend=backend, act=act, steps=steps)
    return result


def fit_steps(activation: Callable[[Tensor], Tensor], *, reach: float = 16.0) -> Steps:
    """The three steps whose sum of rectifiers is nearest to ``activation`` in the mean square over [-reach, reach].

    The heights add up to one and the heights times the edges to zero, so that the fit runs along the activation on both sides.

    Raises:
        ValueError: the activation does not go to zero on the left and to x on the right.
    """
    x = torch.linspace(-reach, reach, 2001, dtype=torch.float64)
    wanted = activation(x)
    if abs(float(wanted[0])) > 1e-3 or abs(float(wanted[-1]) - reach) > 1e-3:
        raise ValueError(f"fit_steps needs an activation that is near 0 at {-reach:g} and near {reach:g} at {reach:g}. Got another.")

    def steps(free: Tensor) -> tuple[Tensor, Tensor]:
        left, right, low, high = free
        middle = 1 - left - right
        return torch.stack((left, middle, right)), torch.stack((low, -(left * low + right * high) / middle, high))

    def error(free: Tensor) -> Tensor:
        heights, edges = steps(free)
        fitted = (heights[:, None] * F.relu(x - edges[:, None])).sum(0)
        return torch.trapezoid((fitted - wanted).square(), x)

    found = []
    for start in (2.0, 5.0):
        free = torch.tensor([-0.05, -0.05, -start, start], dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS([free], max_iter=100, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe")

        def closure(free: Tensor = free, solver: torch.optim.Optimizer = solver) -> Tensor:
            solver.zero_grad()
            loss = error(free)
            loss.backward()
            return loss

        with torch.enable_grad():
            solver.step(closure)  # type: ignore[arg-type]
        found.append(free.detach())
    heights, edges = steps(min(found, key=lambda free: float(error(free))))
    return Steps(tuple(heights.tolist()), tuple(edges.tolist()))


# --- reference: the definition ---------------------------------------------------------------------------------------


def reference(x: Tensor, *, act: str, steps: int) -> Tensor:
    """The value of the activation with the gradient of the fitted sum of rectifiers."""
    near = FITTED[act, steps](x)
    return _ACTIVATIONS[act](x).detach() + (near - near.detach())


# --- one autograd function for the fast path and for Triton, since x must not be kept -----------------------------------

Forward = Callable[[Tensor, str, Steps], tuple[Tensor, Tensor]]
Backward = Callable[[Tensor, Tensor, Steps], Tensor]


class _StepActivation(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, act: str, steps: Steps, forward: Forward, backward: Backward) -> tuple[Tensor, Tensor]:
        return forward(x, act, steps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, _, ctx.steps, _, ctx.backward_of = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "step_activation keeps too little to be differentiated twice; "
                "call it without create_graph=True, or use the plain activation, to go on."
            )
        return ctx.backward_of(dy, ctx.saved_tensors[0], ctx.steps), None, None, None, None


# PyTorch asks for the signature at every call, which takes longer than the call
_StepActivation.forward.__signature__ = signature(_StepActivation.forward)  # type: ignore[attr-defined]


# --- fast: PyTorch ------------------------------------------------------------------------------------------------------


def fast(x: Tensor, *, act: str, steps: int) -> Tensor:
    """Comparisons into bytes, packed by parts of the tensor that lie one after the other."""
    if x.numel() == 0:
        return reference(x, act=act, steps=steps)
    y: Tensor = _StepActivation.apply(x, act, FITTED[act, steps], _forward, _backward)[0]
    return y


def packed_size(elements: int, bits: int) -> int:
    """Bytes that hold ``bits`` for each element; byte i holds elements i, i + size, i + 2 size, ..."""
    return -(-elements * bits // 8)


def _forward(x: Tensor, act: str, steps: Steps) -> tuple[Tensor, Tensor]:
    flat = x.reshape(-1)
    size = packed_size(flat.numel(), steps.bits)
    packed = torch.empty(size, dtype=torch.uint8, device=x.device)
    for part, chunk in enumerate(flat.split(size)):
        code = (chunk > steps.edges[0]).view(torch.uint8)
        for edge in steps.edges[1:]:
            code.add_((chunk > edge).view(torch.uint8))
        if part == 0:
            packed.copy_(code)
        else:
            packed[: len(chunk)].bitwise_or_(code.bitwise_left_shift_(part * steps.bits))
    return _ACTIVATIONS[act](x), packed


def _backward(dy: Tensor, packed: Tensor, steps: Steps) -> Tensor:
    flat = dy.reshape(-1)
    levels = torch.tensor(steps.levels, dtype=dy.dtype, device=dy.device)
    dx = torch.empty_like(flat)
    for part, (chunk, out) in enumerate(zip(flat.split(len(packed)), dx.split(len(packed)), strict=True)):
        code = packed[: len(chunk)].bitwise_right_shift(part * steps.bits).bitwise_and_(2**steps.bits - 1)
        torch.mul(levels.index_select(0, code.int()), chunk, out=out)
    return dx.view(dy.shape)


# --- Triton ------------------------------------------------------------------------------------------------------------


def triton(x: Tensor, *, act: str, steps: int) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.step_activation_triton`."""
    from .step_activation_triton import backward, forward

    if x.numel() == 0:
        return reference(x, act=act, steps=steps)
    y: Tensor = _StepActivation.apply(x, act, FITTED[act, steps], forward, backward)[0]
    return y


def supports(x: Tensor, **options: Any) -> str | None:
    return refusal(x, kernel="step_activation")


def variants() -> list[Variant]:
    from . import step_activation_triton

    return step_activation_triton.variants()


# --- spec --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...]
    act: str = "gelu"
    steps: int = 3
    scale: float = 3.0

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + f"-{self.act}{self.steps}" + ("" if self.scale == 3 else f"-scale{self.scale:g}")


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    x = case.scale * torch.randn(case.shape, generator=generator, dtype=torch.float64)
    return Inputs((x.to(device=device, dtype=dtype),), {"act": case.act, "steps": case.steps})


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    elements = torch.Size(case.shape).numel()
    return 2 * elements * dtype.itemsize + packed_size(elements, FITTED[case.act, case.steps].bits)


def _flops(case: Case, direction: str) -> int:
    return {"forward": 12, "backward": 4}[direction] * torch.Size(case.shape).numel()


_CASES = (
    *(Case((5, 13), act, steps) for act in ("gelu", "silu") for steps in (1, 3)),
    *(Case((size,), steps=steps) for size in (1, 2, 3, 4, 5, 7, 8, 9, 31, 33) for steps in (1, 3)),
    *(Case(shape) for shape in ((0, 3), (2, 0))),
    Case((3, 40), "silu", 3, 30.0),
)

SPEC = KERNELS.add(
    KernelSpec(
        name="step_activation",
        public=step_activation,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=(Case((5, 19)), *_CASES),
        differentiable=("x",),
        per_sample=("x",),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        min_work=1 << 20,
        benchmarks=(Benchmark(Case((8192, 256))), Benchmark(Case((8192, 256)), measure="memory")),
        variants=variants,
        twice=False,
        exact_gradient=False,
    )
)
