"""Laws that every backend of every kernel obeys; each takes a spec, a backend and one of its cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..kernels.function import as_tuple
from ..kernels.spec import Inputs, KernelSpec
from .kernels import cotangent, evaluate, on, precision


def draw(spec: KernelSpec, case: Any, dtype: torch.dtype = torch.float32, seed: int = 0) -> Inputs:
    """The inputs of a case on the CPU."""
    return spec.inputs(case, dtype, "cpu", torch.Generator().manual_seed(seed))


def _strided(tensor: Tensor) -> Tensor:
    """The same values in every second element of a larger tensor."""
    return torch.stack([tensor, tensor], -1)[..., 0]


def strides_do_not_matter(spec: KernelSpec, backend: str, case: Any) -> None:
    inputs = draw(spec, case)
    spread = Inputs(tuple(None if arg is None else _strided(arg) for arg in inputs.args), inputs.options)
    plain, strided = (as_tuple(on(spec, backend)(*given.args, **given.options)) for given in (inputs, spread))
    for left, right in zip(plain, strided, strict=True):
        torch.testing.assert_close(left, right)


def an_expanded_cotangent_is_served(spec: KernelSpec, backend: str, case: Any) -> None:
    inputs = draw(spec, case)
    found = []
    for expanded in (True, False):
        args = [None if arg is None else arg.clone().requires_grad_() for arg in inputs.args]
        first = as_tuple(on(spec, backend)(*args, **inputs.options))[0]
        one = torch.ones((), dtype=first.dtype).expand_as(first)
        leaves = [arg for arg in args if arg is not None]
        found.append(torch.autograd.grad(first, leaves, one if expanded else one.clone(), allow_unused=True))
    for left, right in zip(*found, strict=True):
        if left is not None:
            torch.testing.assert_close(left, right)


def inputs_and_cotangents_stay_as_they_were(spec: KernelSpec, backend: str, case: Any) -> None:
    inputs = draw(spec, case)
    args = [None if arg is None else arg.requires_grad_() for arg in inputs.args]
    leaves = [arg for arg in args if arg is not None]
    before = [leaf.detach().clone() for leaf in leaves]
    outputs = as_tuple(on(spec, backend)(*args, **inputs.options))
    results = [out.detach().clone() for out in outputs]
    generator = torch.Generator().manual_seed(1)
    cotangents = [cotangent(out, precision(inputs), generator) for out in outputs]
    kept = [tensor.clone() for tensor in cotangents]
    first = torch.autograd.grad(outputs, leaves, cotangents, retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)
    for left, right in zip((*leaves, *cotangents, *outputs), (*before, *kept, *results), strict=True):
        assert torch.equal(left, right), f"{spec.name}: an input, a cotangent or an output was changed."
    for left, right in zip(first, second, strict=True):
        assert left is right is None or torch.equal(left, right), f"{spec.name}: the second backward differs from the first."  # type: ignore[arg-type]


def any_subset_of_gradients_may_be_wanted(spec: KernelSpec, backend: str, case: Any) -> None:
    inputs = draw(spec, case, torch.float64)
    every = evaluate(spec, on(spec, backend), inputs)
    for index, name in enumerate(spec.differentiable):
        if inputs.args[index] is None:
            continue
        args = [None if arg is None else arg.clone() for arg in inputs.args]
        leaf = args[index].requires_grad_()  # type: ignore[union-attr]
        outputs = as_tuple(on(spec, backend)(*args, **inputs.options))
        generator = torch.Generator().manual_seed(1)
        reached = [(out, cotangent(out, torch.float64, generator)) for out in outputs]
        used = [(out, cot) for out, cot in reached if out.requires_grad]
        (gradient,) = torch.autograd.grad([out for out, _ in used], [leaf], [cot for _, cot in used], allow_unused=True)
        torch.testing.assert_close(torch.zeros_like(leaf) if gradient is None else gradient, every[f"d{name}"], msg=f"d{name}")


def each_output_alone_has_a_gradient(spec: KernelSpec, backend: str, case: Any) -> None:
    """The cotangents of the other outputs never arrive: their share is zero."""
    inputs = draw(spec, case, torch.float64)
    found: list[list[Tensor]] = []
    for function in (on(spec, backend), spec.reference):
        gradients: list[Tensor] = []
        for index in range(len(as_tuple(spec.reference(*inputs.args, **inputs.options)))):
            args = [None if arg is None else arg.clone().requires_grad_() for arg in inputs.args]
            out = as_tuple(function(*args, **inputs.options))[index]
            leaves = [arg for arg in args if arg is not None]
            made = cotangent(out, torch.float64, torch.Generator().manual_seed(2))
            given = torch.autograd.grad(out, leaves, made, allow_unused=True)
            gradients += [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, given, strict=True)]
        found.append(gradients)
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right)


def one_bad_sample_leaves_the_others_alone(spec: KernelSpec, backend: str, case: Any) -> None:
    inputs = draw(spec, case)
    if not spec.per_sample or inputs.args[spec.differentiable.index(spec.per_sample[0])].shape[0] < 2:  # type: ignore[union-attr]
        return
    expected = as_tuple(on(spec, backend)(*inputs.args, **inputs.options))
    for poison in (float("nan"), float("inf")):
        args = [None if arg is None else arg.clone() for arg in inputs.args]
        for index, name in enumerate(spec.differentiable):
            if name in spec.per_sample and args[index] is not None:
                args[index][1] = poison  # type: ignore[index]
        for good, out in zip(expected, as_tuple(on(spec, backend)(*args, **inputs.options)), strict=True):
            others = [sample for sample in range(len(good)) if sample != 1]
            assert torch.equal(good[others], out[others]), f"{spec.name}: a {poison} in one sample reached another."
            assert not torch.isfinite(out[1]).all(), f"{spec.name}: a {poison} in a sample did not show."


LAWS = (
    strides_do_not_matter,
    an_expanded_cotangent_is_served,
    inputs_and_cotangents_stay_as_they_were,
    any_subset_of_gradients_may_be_wanted,
    each_output_alone_has_a_gradient,
    one_bad_sample_leaves_the_others_alone,
)
