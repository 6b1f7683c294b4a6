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


@pytest.mark.parametrize("case", [Case(2, 1000, 3, True), Case(1, 513, 2, True, True), Case(1, 1025, 1)], ids=str)
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
        ((x.long(), x), TypeError, '"a"'),
        ((x, x + 0j), TypeError, "real floating point"),
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
