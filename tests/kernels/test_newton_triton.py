"""Newton's method over the Triton scan, in the interpreter: the states of the CPU's scan, at any length."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import newton_scan
from archwright.kernels.launching import small_tiles

from .newton_cells import drawn

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]


@pytest.mark.parametrize("steps", [1, 8, 13])
def test_the_triton_scan_solves_the_same(steps):
    cell, h0, x, parameters, jacobian = drawn("diagonal_gru", steps)
    leaves = [tensor.float().requires_grad_() for tensor in (h0, x, *parameters)]
    found = {}
    for backend in ("fast", "triton"):
        with small_tiles():
            states, report = newton_scan(cell, leaves[0], leaves[1], leaves[2:], jacobian=jacobian, backend=backend)
            found[backend] = states, *torch.autograd.grad(states.square().sum(), leaves)
        assert not report.fell_back
    for ours, theirs in zip(found["triton"], found["fast"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
