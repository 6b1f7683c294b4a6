"""Norm with activation beyond its spec: PyTorch's own layers, ill-conditioned rows, the single gain, memory, refusals."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from archwright.kernels import explain, norm_act
from archwright.kernels.norm_act import ACTIVATIONS, NORMS, SPEC, WIDEST, Case, composed
from archwright.testing.kernel_laws import draw


def _both(case: Case, dtype=torch.float64):
    """Outputs and gradients of the fast path and of PyTorch's own functions."""
    inputs = draw(SPEC, case, dtype)
    found = []
    for function in (norm_act, composed):
        args = [None if arg is None else arg.clone().requires_grad_() for arg in inputs.args]
        out = function(*args, **inputs.options)
        outputs = out if isinstance(out, tuple) else (out,)
        cotangents = [torch.randn(o.shape, generator=torch.Generator().manual_seed(3)).to(o.dtype) for o in outputs]
        found.append((*outputs, *torch.autograd.grad(outputs, [arg for arg in args if arg is not None], cotangents)))
    return found


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("width", [5, 96, 768, 4097])
def test_matches_torch_at_every_width(norm, width):
    for residual in (False, True):
        for act in ACTIVATIONS:
            for left, right in zip(*_both(Case(3, width, norm, act, residual=residual), torch.float32), strict=True):
                torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("width", [1, 2])
def test_the_narrowest_rows(norm, width):
    for left, right in zip(*_both(Case(5, width, norm, "gelu")), strict=True):
        torch.testing.assert_close(left, right, atol=1e-9, rtol=1e-9)


def test_the_gradient_of_one_gain_over_many_elements():
    for left, right in zip(*_both(Case(300, 65, "scale", "silu", residual=True)), strict=True):
        torch.testing.assert_close(left, right, atol=1e-11, rtol=1e-11)


def test_residual_and_input_have_the_same_gradient():
    inputs = draw(SPEC, Case(4, 9, "layer", "gelu", residual=True), torch.float64)
    args = [arg.requires_grad_() for arg in inputs.args]
    y, h = norm_act(*args, **inputs.options)
    dx, dresidual = torch.autograd.grad((y.sin() + h.square()).sum(), (args[0], args[3]))
    assert torch.equal(dx, dresidual)
    assert torch.equal(h, args[0] + args[3])


def test_hand_computed_rows():
    x = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(norm_act(x, torch.tensor(10.0), norm="scale"), torch.tensor([[6.0, 8.0]]))
    torch.testing.assert_close(norm_act(x, norm="rms", eps=1e-12), x / 12.5**0.5)
    torch.testing.assert_close(norm_act(x, norm="layer", act="relu2", eps=1e-12), torch.tensor([[0.0, 1.0]]))


def test_a_row_below_the_least_length_is_only_scaled():
    x = torch.tensor([[3e-7, -4e-7], [0.0, 0.0]], requires_grad=True)
    y = norm_act(x, norm="scale", eps=1e-5)
    torch.testing.assert_close(y, x / 1e-5)
    (dx,) = torch.autograd.grad(y, x, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    torch.testing.assert_close(dx, torch.tensor([[1e5, 2e5], [3e5, 4e5]]))


def test_constant_rows_and_a_row_of_ten_thousand_in_half_precision():
    constant = torch.full((2, 64), 7.0)
    assert torch.equal(norm_act(constant), torch.zeros(2, 64))
    large = torch.full((1, 64), 1e4, dtype=torch.float16)
    torch.testing.assert_close(norm_act(large, norm="rms"), torch.ones(1, 64, dtype=torch.float16))


def test_low_precision_inputs_with_float32_gains():
    x, weight = torch.randn(4, 33).bfloat16(), torch.rand(33)
    for norm in ("layer", "rms"):
        y = norm_act(x, weight, norm=norm, act="silu")
        assert y.dtype == torch.bfloat16
        expected = norm_act(x.float(), weight, norm=norm, act="silu")
        torch.testing.assert_close(y.float(), expected, atol=2e-2, rtol=2e-2)


def test_rms_keeps_its_input_and_one_number_per_row():
    kept = []
    x, weight = torch.randn(64, 32, requires_grad=True), torch.ones(32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        norm_act(x, weight, norm="rms")
    assert sum(kept) == 64 * 32 + 32 + 64


def test_the_processor_is_served_by_pytorch_with_the_same_signature():
    x = torch.randn(3, 8)
    assert explain("norm_act", x, norm="layer", act="relu", eps=1e-5).backend == "fast"
    assert torch.equal(norm_act(x, act="relu"), F.relu(F.layer_norm(x, (8,))))


def test_triton_refuses_rows_too_wide_to_hold():
    reason = SPEC.supports(torch.zeros(1, WIDEST + 1), None, None, None, norm="rms", act="silu", eps=1e-5)
    assert str(WIDEST) in reason


def test_wrong_arguments_are_refused_in_one_sentence():
    x, weight = torch.zeros(2, 4), torch.ones(4)
    for args, options, error, words in (
        ((x,), {"norm": "batch"}, ValueError, "layer, rms, scale"),
        ((x,), {"act": "selu"}, ValueError, "identity, relu"),
        ((x,), {"eps": 0.0}, ValueError, "above 0"),
        ((torch.zeros(()),), {}, ValueError, "without axes"),
        ((x, weight[:3]), {}, ValueError, "weight of shape"),
        ((x, weight), {"norm": "scale"}, ValueError, "weight of shape"),
        ((x, None, None, x[:1]), {}, ValueError, "residual of shape"),
        ((x.long(),), {}, TypeError, "real floating point"),
    ):
        with pytest.raises(error, match=words):
            norm_act(*args, **options)
