"""Hyper-connections and Sinkhorn's iteration beyond their specs."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import hyper_read, hyper_write, sinkhorn


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_identity_mix_is_the_plain_residual():
    streams, y = normal(2, 5, 4, 3), normal(2, 5, 3, seed=1)
    ones, identity = torch.ones(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(hyper_write(streams, y, ones, identity), streams + y.unsqueeze(-2), rtol=0, atol=0)
    picked = hyper_read(streams, torch.eye(4, dtype=torch.float64)[2])
    torch.testing.assert_close(picked, streams[..., 2, :], rtol=0, atol=0)


def test_hand_computed_read_and_write():
    streams = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert hyper_read(streams, torch.tensor([2.0, -1.0])).tolist() == [-1.0, -1.0]
    mix = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    out = hyper_write(streams, torch.tensor([10.0, 20.0]), torch.tensor([1.0, 0.5]), mix)
    assert out.tolist() == [[11.0, 22.0], [10.0, 19.0]]


def test_two_copies_can_run_two_branches_side_by_side():
    """Two writes with suitable matrices are x + f(x) + g(x): the second branch reads a copy that the first did not touch."""
    x = normal(2, 5, 3)
    streams = torch.stack([x, x], -2)
    first = hyper_read(streams, torch.tensor([1.0, 0.0], dtype=torch.float64)).sin()
    streams = hyper_write(streams, first, torch.tensor([1.0, 0.0], dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    second = hyper_read(streams, torch.tensor([0.0, 1.0], dtype=torch.float64)).cos()
    to_the_first = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    streams = hyper_write(streams, second, torch.tensor([1.0, 0.0], dtype=torch.float64), to_the_first)
    torch.testing.assert_close(streams.sum(-2), x + x.sin() + x.cos())


def test_a_position_depends_on_itself_alone():
    streams, y, beta, mix = normal(1, 6, 4, 3), normal(1, 6, 3, seed=1), normal(1, 6, 4, seed=2), normal(1, 6, 4, 4, seed=3)
    before = hyper_write(streams, y, beta, mix), hyper_read(streams, beta)
    for tensor in (streams, y, beta, mix):
        tensor[:, 3] += 1
    for old, new in zip(before, (hyper_write(streams, y, beta, mix), hyper_read(streams, beta)), strict=True):
        others = [0, 1, 2, 4, 5]
        assert torch.equal(old[:, others], new[:, others])
        assert not torch.equal(old[:, 3], new[:, 3])


def test_one_coefficient_may_be_fixed_and_the_other_not():
    streams, y, beta, mix = normal(2, 5, 4, 3), normal(2, 5, 3, seed=1), normal(4, seed=2), normal(2, 5, 4, 4, seed=3)
    args = [tensor.requires_grad_() for tensor in (streams, y, beta, mix)]
    assert torch.autograd.gradcheck(hyper_write, args, fast_mode=True)
    everywhere = hyper_write(streams, y, beta.expand(2, 5, 4), mix)
    torch.testing.assert_close(hyper_write(streams, y, beta, mix), everywhere)


def test_wrong_shapes_are_refused_in_one_sentence():
    streams, y = torch.zeros(2, 4, 3), torch.zeros(2, 3)
    for call, words in (
        (lambda: hyper_read(streams, torch.zeros(3)), r'"alpha" of hyper_read must have the shape \(4,\) or \(2, 4\)'),
        (lambda: hyper_read(torch.zeros(3), torch.zeros(3)), r"streams of shape \(..., n, width\)"),
        (lambda: hyper_write(streams, y, torch.zeros(4), torch.zeros(4, 3)), r'"mix" of hyper_write must have the shape \(4, 4\)'),
        (lambda: hyper_write(streams, streams, torch.zeros(4), torch.eye(4)), r"y of shape \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_sinkhorn_gives_doubly_stochastic_matrices(n):
    mixing = sinkhorn(normal(3, n, n), iterations=50)
    ones = torch.ones(3, n, dtype=torch.float64)
    torch.testing.assert_close(mixing.sum(-2), ones)
    torch.testing.assert_close(mixing.sum(-1), ones, rtol=0, atol=1e-6)
    assert (mixing > 0).all()


def test_sinkhorn_of_equal_logits_mixes_evenly_and_of_a_permutation_permutes():
    torch.testing.assert_close(sinkhorn(torch.full((4, 4), 3.0)), torch.full((4, 4), 0.25))
    permutation = torch.eye(4)[[2, 0, 3, 1]]
    torch.testing.assert_close(sinkhorn(100 * permutation), permutation)


def test_sinkhorn_does_not_overflow_and_its_gradient_is_right():
    logits = (1e4 * normal(2, 3, 3)).float().requires_grad_()
    mixing = sinkhorn(logits)
    (gradient,) = torch.autograd.grad((mixing * normal(3, 3).float()).sum(), logits)
    assert torch.isfinite(mixing).all()
    assert torch.isfinite(gradient).all()
    assert torch.autograd.gradcheck(lambda given: sinkhorn(given, 5), [normal(2, 3, 3).requires_grad_()])
    assert sinkhorn(normal(3, 3).bfloat16()).dtype == torch.bfloat16


def test_a_doubly_stochastic_mix_keeps_the_sum_of_the_copies():
    streams, mixing = normal(2, 5, 4, 3), sinkhorn(normal(2, 5, 4, 4, seed=1), 100)
    nothing = torch.zeros(2, 5, 3, dtype=torch.float64)
    mixed = hyper_write(streams, nothing, torch.ones(4, dtype=torch.float64), mixing)
    torch.testing.assert_close(mixed.sum(-2), streams.sum(-2), rtol=1e-6, atol=1e-6)


def test_sinkhorn_refuses_what_is_not_square():
    with pytest.raises(ValueError, match=r"logits of shape \(..., n, n\)"):
        sinkhorn(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="at least one iteration"):
        sinkhorn(torch.zeros(3, 3), 0)
