"""Norm with activation in the interpreter beyond its spec: widths of real layers, the single gain over many rows."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import norm_act
from archwright.kernels.launching import small_tiles
from archwright.kernels.norm_act import SPEC, Case
from archwright.testing.kernel_laws import draw
from archwright.testing.kernels import evaluate, on

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]


@pytest.mark.parametrize("case", [Case(75, 6, "scale", "silu", residual=True), Case(2, 5, "scale"), Case(3, 1), Case(3, 2, "rms")], ids=str)
def test_agrees_with_the_definition_in_float64(case):
    inputs = draw(SPEC, case, torch.float64)
    with small_tiles():
        found = evaluate(SPEC, on(SPEC, "triton"), inputs)
    for name, expected in evaluate(SPEC, SPEC.reference, inputs).items():
        torch.testing.assert_close(found[name], expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("width", [96, 768])
def test_agrees_with_the_fast_path_at_widths_of_layers(width):
    inputs = draw(SPEC, Case(40, width, "layer", "gelu", residual=True))
    slow, quick = (evaluate(SPEC, on(SPEC, backend), inputs) for backend in ("triton", "fast"))
    for name, expected in quick.items():
        torch.testing.assert_close(slow[name], expected, atol=1e-5, rtol=1e-5)


def test_a_row_of_zeros_is_only_scaled():
    x = torch.zeros(2, 3, requires_grad=True)
    y = norm_act(x, norm="scale", eps=1e-2, backend="triton")
    (dx,) = torch.autograd.grad(y, x, torch.ones(2, 3))
    assert torch.equal(y, torch.zeros(2, 3))
    torch.testing.assert_close(dx, torch.full((2, 3), 100.0))
