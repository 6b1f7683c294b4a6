"""Entmax beyond its spec: against sorting and softmax, hand-computed rows, ties, masks, extreme scores, learned alpha, refusals."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import entmax, sparsemax
from archwright.kernels.entmax import SPEC, WIDEST, Case, by_sorting
from archwright.testing.kernel_laws import draw
from archwright.testing.kernels import evaluate, on


def _scores(rows=40, width=33, scale=1.0, dtype=torch.float64):
    return scale * torch.randn(rows, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("alpha", [1.0001, 1.1, 1.5, 1.8, 2.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_rows_are_distributions(alpha, scale):
    for dtype, off in ((torch.float64, 1e-13), (torch.float32, 1e-6)):
        p = entmax(_scores(scale=scale, dtype=dtype), alpha)
        assert (p >= 0).all()
        assert (p.sum(-1) - 1).abs().max() < off


@pytest.mark.parametrize("order", [1.5, 2.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_agrees_with_sorting(order, scale):
    x = _scores(scale=scale)
    torch.testing.assert_close(entmax(x, order), by_sorting(x, None, order=order), atol=1e-12, rtol=0)
    single = entmax(x.float(), order).double()
    assert (single - by_sorting(x.float().double(), None, order=order)).abs().max() < 1e-6


def test_gradients_agree_with_those_of_sorting():
    for order in (1.5, 2.0):
        inputs = draw(SPEC, Case(20, 33, order), torch.float64)
        found = evaluate(SPEC, on(SPEC, "fast"), inputs)
        for name, expected in evaluate(SPEC, by_sorting, inputs).items():
            torch.testing.assert_close(found[name], expected, atol=1e-10, rtol=1e-8)


def test_near_one_it_is_softmax():
    x = _scores()
    assert (entmax(x, 1.001) - x.softmax(-1)).abs().max() < 1e-3
    assert (entmax(x.float(), 1.0) - x.float().softmax(-1)).abs().max() < 1e-3


def test_hand_computed_rows():
    assert sparsemax(torch.tensor([[0.5, 0.25, -3.0]])).tolist() == [[0.625, 0.375, 0.0]]
    assert sparsemax(torch.tensor([[7.0, 0.0]])).tolist() == [[1.0, 0.0]]
    torch.testing.assert_close(entmax(torch.tensor([[1.0, 1.0, 1.0, 1.0]])), torch.full((1, 4), 0.25))
    torch.testing.assert_close(entmax(torch.tensor([[2.0, 2.0, -9.0]])), torch.tensor([[0.5, 0.5, 0.0]]))


def test_entries_far_below_are_exactly_zero_and_adding_a_constant_changes_nothing():
    x = _scores()
    for alpha in (1.5, 2.0, 1.3):
        p = entmax(x, alpha)
        assert (p == 0).any()
        torch.testing.assert_close(entmax(x + 5, alpha), p)
    assert (sparsemax(x) > 0).sum() < (entmax(x, 1.5) > 0).sum() < (entmax(x, 1.1) > 0).sum()


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, "learned"])
def test_masked_entries_and_masked_rows(alpha):
    x = _scores(6, 9)
    x[:, 5:] = -torch.inf
    x[2] = -torch.inf
    order = torch.full((6, 1), 1.4, dtype=torch.float64, requires_grad=True) if alpha == "learned" else alpha
    x.requires_grad_()
    p = entmax(x, order)
    assert torch.equal(p[2], torch.zeros(9, dtype=torch.float64))
    assert (p[:, 5:] == 0).all()
    others = [0, 1, 3, 4, 5]
    kept = order[others] if alpha == "learned" else alpha
    torch.testing.assert_close(p[others, :5], entmax(x[others, :5], kept))
    leaves = (x, order) if alpha == "learned" else (x,)
    for gradient in torch.autograd.grad(p, leaves, torch.randn_like(p)):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (2, 3, 4, 1)])
def test_alpha_broadcasts_and_its_gradient_has_its_shape(shape):
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    alpha = torch.full(shape, 1.6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(entmax, (x, alpha))


def test_alpha_out_of_range_is_moved_and_gets_no_gradient():
    x, alpha = _scores(3, 4), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    p = entmax(x, alpha)
    torch.testing.assert_close(p, sparsemax(x))
    assert torch.autograd.grad(p.square().sum(), alpha)[0] == 0


def test_a_thousand_nearly_equal_scores():
    x = _scores(3, 3000, 1e-3, torch.float32)
    for alpha in (1.5, 2.0, 1.9):
        p = entmax(x, alpha)
        exact = entmax(x.double(), alpha)
        assert (p - exact).abs().max() < 1e-6


def test_triton_refuses_rows_too_wide_to_hold():
    assert str(WIDEST) in SPEC.supports(torch.zeros(1, WIDEST + 1), None, order=1.5)


def test_wrong_arguments_are_refused_in_one_sentence():
    x = torch.zeros(2, 4)
    for args, error, words in (
        ((x.long(),), TypeError, '"x"'),
        ((torch.zeros(()),), ValueError, "without axes"),
        ((x, torch.ones(2, 4)), ValueError, "broadcasts to"),
        ((x, torch.ones(3, 1)), ValueError, "broadcasts to"),
        ((x, torch.ones(2, 1).long()), TypeError, '"alpha"'),
        ((x, float("nan")), ValueError, "NaN"),
    ):
        with pytest.raises(error, match=words):
            entmax(*args)
