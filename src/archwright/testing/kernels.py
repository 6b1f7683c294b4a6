"""Contract tests of kernels, generated from their :class:`~archwright.kernels.spec.KernelSpec`.

No tolerance is written by hand. With *ref64* the reference in float64 and *low* the reference in the tested dtype, a backend passes
when ``max |it - ref64| <= 2 (max |low - ref64| + eps max |ref64|)``, and the same for the root mean square, on every output and every
gradient: it may be at most twice as far from the truth as the plain formula in that dtype. The error of *low* in one draw of the
inputs is a matter of chance; where it does not suffice, four more draws say how large it can be. For float64 itself, where nothing more
precise stands by, the error of *low* is that of float32 scaled by the ratio of their eps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..kernels.function import as_tuple
from ..kernels.spec import KERNELS, Inputs, KernelSpec

Results = dict[str, Tensor]

_OTHER_DRAWS = (101, 102, 103, 104)


def check_kernel(
    kernel: KernelSpec | str,
    *,
    backend: str = "fast",
    device: str = "cpu",
    dtypes: Iterable[torch.dtype] | None = None,
    cases: Iterable[Any] | None = None,
) -> None:
    """Hold one backend of a kernel to its reference: outputs and gradients, over its cases and dtypes.

    Raises:
        AssertionError: names kernel, backend, case, dtype and the output or gradient that is too far off.
    """
    spec = KERNELS[kernel] if isinstance(kernel, str) else kernel
    for case in spec.cases if cases is None else cases:
        for dtype in spec.dtypes if dtypes is None else dtypes:
            check_case(spec, case, dtype, backend=backend, device=device)


def check_case(spec: KernelSpec, case: Any, dtype: torch.dtype, *, backend: str, device: str = "cpu", seed: int = 0) -> None:
    """One case in one dtype by the tolerance rule."""
    inputs = _drawn(spec, case, dtype, device, seed)
    exact = evaluate(spec, spec.reference, inputs, dtype=torch.float64, seed=seed)
    roundings = [_rounding(spec, inputs, exact, dtype, seed)]
    tested = evaluate(spec, on(spec, backend), inputs, seed=seed)
    where = f'Kernel "{spec.name}", backend "{backend}", case {case}, {dtype}'
    assert tested.keys() == exact.keys(), f"{where}: it gives {sorted(tested)}, the reference {sorted(exact)}."
    for name, value in tested.items():
        eps = torch.finfo(dtype).eps
        if too_far(value, [rounding[name] for rounding in roundings], exact[name], eps) and len(roundings) == 1:
            roundings += [_rounding(spec, _drawn(spec, case, dtype, device, other), None, dtype, other) for other in _OTHER_DRAWS]
        complaint = too_far(value, [rounding[name] for rounding in roundings], exact[name], eps)
        assert complaint is None, f"{where}, {name}: {complaint}"


def _drawn(spec: KernelSpec, case: Any, dtype: torch.dtype, device: str, seed: int) -> Inputs:
    return spec.inputs(case, dtype, device, torch.Generator().manual_seed(seed))


def on(spec: KernelSpec, backend: str) -> Callable[..., Any]:
    """The public function pinned to one backend."""

    def public(*args: Any, **options: Any) -> Any:
        return spec.public(*args, **options, backend=backend)

    return public


def _rounding(spec: KernelSpec, inputs: Inputs, exact: Results | None, dtype: torch.dtype, seed: int) -> Results:
    """How far the reference itself is from the truth in ``dtype``, element by element."""
    exact = evaluate(spec, spec.reference, inputs, dtype=torch.float64, seed=seed) if exact is None else exact
    lower = torch.float32 if dtype == torch.float64 else dtype
    scale = torch.finfo(dtype).eps / torch.finfo(lower).eps
    low = evaluate(spec, spec.reference, inputs, dtype=lower, seed=seed)
    return {name: scale * (widened(value) - exact[name]).abs() for name, value in low.items()}


def evaluate(spec: KernelSpec, function: Callable[..., Any], inputs: Inputs, *, dtype: torch.dtype | None = None, seed: int = 0) -> Results:
    """Outputs (``out0``, ...) and gradients (``d`` and the argument's name) of ``function`` under random cotangents.

    Cotangents are drawn in the dtype of the inputs and then, like the inputs, turned into ``dtype`` where one is given, so that
    every precision is asked the same question. Complex tensors take the complex dtype of the same width.
    """
    given = precision(inputs)
    args = [None if arg is None else cast(arg.detach().clone(), dtype or given).requires_grad_() for arg in inputs.args]
    outputs = as_tuple(function(*args, **inputs.options))
    generator = torch.Generator().manual_seed(seed + 1)
    cotangents = [cotangent(out, given, generator) for out in outputs]
    named = [(name, arg) for name, arg in zip(spec.differentiable, args, strict=True) if arg is not None]
    gradients = torch.autograd.grad(outputs, [arg for _, arg in named], cotangents, allow_unused=True)
    results = {f"out{index}": out.detach() for index, out in enumerate(outputs)}
    for (name, arg), gradient in zip(named, gradients, strict=True):
        results[f"d{name}"] = torch.zeros_like(arg) if gradient is None else gradient
    return results


def cotangent(out: Tensor, given: torch.dtype, generator: torch.Generator) -> Tensor:
    """Random, rounded to ``given``, in the dtype and on the device of ``out``."""
    drawn = torch.randn(out.shape, generator=generator, dtype=torch.complex64 if out.is_complex() else torch.float32)
    return cast(drawn, given).to(out.device, out.dtype)


_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` in a real precision; a complex one in the complex dtype of that precision, complex64 at least."""
    return tensor.to(_COMPLEX.get(dtype, torch.complex64) if tensor.is_complex() else dtype)


def precision(inputs: Inputs) -> torch.dtype:
    """The real dtype of the first argument."""
    first = next(arg for arg in inputs.args if arg is not None)
    return first.real.dtype if first.is_complex() else first.dtype


def widened(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def too_far(value: Tensor, roundings: Sequence[Tensor], exact: Tensor, eps: float) -> str | None:
    """Why ``value`` breaks the tolerance rule, or None when it keeps it; ``roundings`` are the reference's own errors in some draws."""
    if value.shape != exact.shape:
        return f"the shape is {tuple(value.shape)}, the reference's {tuple(exact.shape)}."
    if not torch.isfinite(value).all():
        return "it holds NaN or infinity."
    if value.numel() == 0:
        return None
    off, size = (widened(value) - exact).abs(), exact.abs()
    for name, norm in (("largest", torch.max), ("root mean square", lambda t: t.square().mean().sqrt())):
        limit = 2 * (max(norm(rounding) for rounding in roundings) + eps * norm(size))
        if norm(off) > limit:
            return f"the {name} error is {norm(off):.3g}, the limit {limit:.3g}."
    return None
