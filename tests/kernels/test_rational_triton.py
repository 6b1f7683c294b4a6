"""The rational function in the interpreter: entries whose powers would overflow."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import rational
from archwright.kernels.launching import small_tiles

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]


@pytest.mark.parametrize("denominator", ["abs-sum", "sum-abs"])
@pytest.mark.parametrize("degrees", [(5, 4), (2, 3)])
def test_no_power_overflows(degrees, denominator):
    generator = torch.Generator().manual_seed(0)
    x, p, q, cotangent = (torch.randn(shape, generator=generator) for shape in ((3, 4), (degrees[0] + 1, 2), (degrees[1], 2), (3, 4)))
    x[1:] *= 1e9
    results = []
    for backend in ("triton", "fast"):
        leaves = [arg.clone().requires_grad_() for arg in (x, p, q)]
        with small_tiles():
            y = rational(*leaves, denominator=denominator, backend=backend)
            results.append((y, *torch.autograd.grad(y, leaves, cotangent)))
    for left, right in zip(*results, strict=True):
        assert left.isfinite().all()
        torch.testing.assert_close(left, right, rtol=2e-5, atol=2e-6)
