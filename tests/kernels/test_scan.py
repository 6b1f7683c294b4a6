"""The diagonal scan beyond its spec: long sequences, hand-computed values, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from archwright.kernels import linear_scan
from archwright.kernels.scan import SPEC, Case, fast, reference
from archwright.testing.kernel_laws import draw
from archwright.testing.kernels import check_case, evaluate

from .scan_laws import LAWS


@pytest.mark.parametrize(
    "case", [Case(2, 1000, 3, True), Case(1, 513, 2, True, True), Case(1, 1025, 1), Case(2, 1000, 3, complex_=True)], ids=str
)
def test_fast_on_long_sequences(case):
    for dtype in (torch.float64, torch.float32):
        check_case(SPEC, case, dtype, backend="fast")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_laws(law, backend):
    law(backend, steps=41, width=3)


def test_matches_a_hand_computed_sequence():
    a, x = torch.tensor([[[0.5], [2.0], [0.0]]]), torch.tensor([[[1.0], [1.0], [3.0]]])
    h, last = linear_scan(a, x, torch.tensor([[4.0]]))
    assert h.flatten().tolist() == [3.0, 7.0, 3.0]
    assert last.tolist() == [[3.0]]
    backwards, first = linear_scan(a, x, torch.tensor([[4.0]]), reverse=True)
    assert backwards.flatten().tolist() == [4.5, 7.0, 3.0]
    assert first.tolist() == [[4.5]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_its_dtype_and_carries_the_state_in_float32(dtype):
    inputs = draw(SPEC, Case(2, 40, 3, state=True), dtype)
    h, last = linear_scan(*inputs.args)
    assert (h.dtype, last.dtype) == (dtype, torch.float32)


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_real_tensors_beside_a_complex_one_become_complex(backend):
    generator = torch.Generator().manual_seed(0)
    a = torch.polar(torch.rand(2, 40, 3, generator=generator), torch.randn(2, 40, 3, generator=generator)).requires_grad_()
    x, h0 = torch.randn(2, 40, 3, generator=generator, requires_grad=True), torch.randn(2, 3, generator=generator, requires_grad=True)
    h, last = linear_scan(a, x, h0, backend=backend)
    assert h.dtype == last.dtype == torch.complex64
    expected, _ = linear_scan(a, x + 0j, h0 + 0j, backend=backend)
    torch.testing.assert_close(h, expected)
    gradients = torch.autograd.grad(h.abs().sum(), (a, x, h0))
    assert [g.dtype for g in gradients] == [torch.complex64, torch.float32, torch.float32]
    assert linear_scan(a.detach(), x.detach().to(torch.bfloat16))[0].dtype == torch.complex64


def test_a_rotation_by_a_quarter_turn():
    a, x = torch.full((1, 4, 1), 1j), torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1)
    h, last = linear_scan(a, x)
    assert h.flatten().tolist() == [1, 1j, -1, -1j]
    assert last.tolist() == [[-1j]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from inside torch.compile
@pytest.mark.parametrize("complex_", [False, True])
def test_is_traced_whole_by_torch_compile(complex_):
    inputs = draw(SPEC, Case(2, 40, 3, state=True, complex_=complex_))
    args = [arg.requires_grad_() for arg in inputs.args]

    def loss(*args):
        h, last = linear_scan(*args)
        return (h * h.conj()).real.sum() + (last * last.conj()).real.sum()

    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(*args)
    torch.testing.assert_close(value, loss(*args))
    for left, right in zip(torch.autograd.grad(value, args), torch.autograd.grad(loss(*args), args), strict=True):
        torch.testing.assert_close(left, right)


def test_runs_under_a_functional_gradient():
    inputs = draw(SPEC, Case(2, 40, 3), torch.float64)
    a, x = inputs.args[:2]
    functional = torch.func.grad(lambda gates: linear_scan(gates, x)[0].square().sum())(a)
    leaf = a.clone().requires_grad_()
    reference(leaf, x)[0].square().sum().backward()
    torch.testing.assert_close(functional, leaf.grad)


def test_wrong_arguments_are_refused_in_one_sentence():
    x = torch.zeros(2, 4, 3)
    for args, error, words in (
        ((x[:, :3], x), ValueError, "one shape"),
        ((x[0], x[0]), ValueError, "batch, steps, width"),
        ((x, x, torch.zeros(2, 4)), ValueError, "h0 of shape"),
        ((x.long(), x), TypeError, '"a" of linear_scan must be floating point or complex'),
    ):
        with pytest.raises(error, match=words):
            linear_scan(*args)


def test_the_tolerance_rule_catches_a_small_mistake():
    inputs = draw(SPEC, Case(2, 40, 3, state=True), torch.float32)

    def wrong(a, x, h0, *, reverse, backend):
        return fast(a * (1 + 1e-5), x, h0, reverse=reverse)

    with pytest.raises(AssertionError, match="limit"):
        check_case(replace(SPEC, public=wrong), Case(2, 40, 3, state=True), torch.float32, backend="fast")
    assert set(evaluate(SPEC, fast, inputs)) == {"out0", "out1", "da", "dx", "dh0"}
