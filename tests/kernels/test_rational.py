"""The safe rational function: what its definition promises."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import KERNELS, rational
from archwright.testing.kernels import check_case

BOTH = ("abs-sum", "sum-abs")


def _draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_by_hand():
    """At x = -2: P = 1 - 4 + 12 = 9, the sum is -2 + 4 = 2 and that of magnitudes 2 + 4 = 6."""
    x = torch.tensor([-2.0])
    p, q = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [1.0]])
    assert rational(x, p, q).item() == 3.0
    assert rational(x, p, q, denominator="sum-abs").item() == pytest.approx(9 / 7)


@pytest.mark.parametrize("denominator", BOTH)
def test_the_identity_is_exact_however_large(denominator):
    p, q = torch.tensor([[0.0], [1.0], [0.0], [0.0], [0.0], [0.0]]), torch.zeros(4, 1)
    x = torch.tensor([-1e30, -3.3, 0.0, 0.7, 1e4, 1e9, 1e30])
    assert torch.equal(rational(x, p, q, denominator=denominator), x)


@pytest.mark.parametrize("denominator", BOTH)
@pytest.mark.parametrize("magnitude", [1e3, 1e5, 1e9])
@pytest.mark.parametrize("degrees", [(5, 4), (7, 6), (3, 2), (2, 3)])
def test_no_power_overflows(degrees, magnitude, denominator):
    """Values and all gradients in float32 against the definition in float64, where no power overflows."""
    m, n = degrees
    x = magnitude * (1 + _draw(3, 4).abs()) * _draw(3, 4, seed=5).sign()
    x[0] /= magnitude
    args = [x, _draw(m + 1, 2, seed=1), _draw(n, 2, seed=2)]
    args = [arg.float() for arg in args]
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [arg.to(dtype).requires_grad_() for arg in args]
        y = rational(*leaves, denominator=denominator, backend="fast" if dtype == torch.float32 else "reference")
        results.append((y, *torch.autograd.grad(y, leaves, _draw(3, 4, seed=3).to(dtype))))
    for low, exact in zip(*results, strict=True):
        torch.testing.assert_close(low.double(), exact, rtol=2e-5, atol=2e-6)


def test_entries_of_moderate_size_do_not_see_the_large_ones():
    x, p, q = _draw(6, 4, dtype=torch.float32), _draw(6, 2, seed=1).float(), _draw(4, 2, seed=2).float()
    before = rational(x, p, q)
    x[2] *= 1e10
    after = rational(x, p, q)
    assert torch.equal(before[[0, 1, 3, 4, 5]], after[[0, 1, 3, 4, 5]])
    assert after.isfinite().all()


@pytest.mark.parametrize("denominator", BOTH)
def test_the_denominator_is_at_least_one(denominator):
    x, p, q = 100 * _draw(50, 6), _draw(4, 3, seed=1), _draw(2, 3, seed=2)
    numerator = rational(x, p, torch.zeros_like(q))
    assert (rational(x, p, q, denominator=denominator).abs() <= numerator.abs()).all()


@pytest.mark.parametrize("denominator", BOTH)
def test_a_shared_function_is_the_sum_of_its_groups_gradients(denominator):
    x, p, q = _draw(7, 12), _draw(6, 1, seed=1).requires_grad_(), _draw(4, 4, seed=2).requires_grad_()
    spread = p.detach().expand(6, 4).clone().requires_grad_()
    rational(x, p, q, denominator=denominator).square().sum().backward()
    rational(x, spread, q, denominator=denominator).square().sum().backward()
    torch.testing.assert_close(p.grad, spread.grad.sum(1, keepdim=True))


def test_coefficient_gradients_are_the_same_bits_every_time():
    x, p, q = _draw(300, 64).float(), _draw(6, 8, seed=1).float().requires_grad_(), _draw(4, 8, seed=2).float().requires_grad_()
    first, second = (torch.autograd.grad(rational(x, p, q).sin().sum(), (p, q)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_it_saves_its_arguments_alone():
    x, p, q = _draw(64, 8).requires_grad_(), _draw(6, 2, seed=1).requires_grad_(), _draw(4, 2, seed=2).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        rational(x, p, q)
    assert sorted(t.numel() for t in kept) == [8, 12, 512]


def test_wrong_arguments_are_refused_in_one_sentence():
    x, p, q = torch.zeros(3, 8), torch.zeros(6, 2), torch.zeros(4, 2)
    for args, options, error, words in (
        ((x.long(), p, q), {}, TypeError, '"x"'),
        ((x, p, q), {"denominator": "plain"}, ValueError, "abs-sum, sum-abs"),
        ((torch.zeros(()), p, q), {}, ValueError, "width"),
        ((x, p[:, 0], q), {}, ValueError, "terms, groups"),
        ((x, p, q[:0]), {}, ValueError, "terms, groups"),
        ((x, torch.zeros(6, 3), torch.zeros(4, 3)), {}, ValueError, "divide the width 8"),
        ((x, torch.zeros(6, 4), q), {}, ValueError, "4 in p and 2 in q"),
    ):
        with pytest.raises(error, match=words):
            rational(*args, **options)


@pytest.mark.slow
def test_compiled_is_as_close_to_the_truth_as_the_definition():
    spec = KERNELS["rational"]
    check_case(spec, spec.small_cases[0], torch.float32, backend="compile")
