"""The orthogonal residual beyond its spec: what the update is orthogonal to, and what that means."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import orthogonal_residual


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(*shape):
    x = normal(*shape)
    return x, normal(*shape, seed=1) + 0.5 * x


@pytest.mark.parametrize(("scope", "axes"), [("token", (-1,)), ("sample", (1, 2))])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_update_is_orthogonal_to_the_stream_and_norms_never_shrink(scope, axes, dtype):
    x, f = (tensor.to(dtype) for tensor in pair(4, 6, 32))
    update = orthogonal_residual(x, f, scope=scope) - x
    size = (x.square().sum(axes) * f.square().sum(axes)).sqrt()
    assert ((x * update).sum(axes).abs() / size).max() < 1e-6
    y = x + update
    torch.testing.assert_close(y.square().sum(axes), x.square().sum(axes) + update.square().sum(axes), rtol=1e-5, atol=0)
    assert (y.square().sum(axes) >= x.square().sum(axes) * (1 - 1e-5)).all()


def test_a_parallel_branch_changes_nothing_and_an_orthogonal_one_is_added_whole():
    x, f = pair(3, 16)
    torch.testing.assert_close(orthogonal_residual(x, 2.5 * x), x, rtol=1e-6, atol=1e-6)
    right_angled = orthogonal_residual(x, f) - x
    torch.testing.assert_close(orthogonal_residual(x, right_angled), x + right_angled, rtol=1e-6, atol=1e-6)


def test_strength_zero_is_the_plain_residual_and_one_half_goes_half_way():
    x, f = pair(3, 16)
    torch.testing.assert_close(orthogonal_residual(x, f, strength=0.0), x + f)
    whole, none = orthogonal_residual(x, f), x + f
    torch.testing.assert_close(orthogonal_residual(x, f, strength=0.5), (whole + none) / 2)


def test_a_stream_of_zeros_takes_the_branch_as_it_is():
    f = normal(3, 16)
    x = torch.zeros_like(f, requires_grad=True)
    y = orthogonal_residual(x, f)
    assert torch.equal(y, f)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.isfinite(gradient).all()


def test_rotating_both_rotates_the_result():
    x, f = pair(5, 16)
    turn = torch.linalg.qr(normal(16, 16, seed=3)).Q
    torch.testing.assert_close(orthogonal_residual(x @ turn, f @ turn), orthogonal_residual(x, f) @ turn)


def test_both_scopes_agree_on_one_token():
    x, f = pair(3, 1, 16)
    torch.testing.assert_close(orthogonal_residual(x, f, scope="sample"), orthogonal_residual(x, f))
    x, f = pair(3, 4, 16)
    assert not torch.allclose(orthogonal_residual(x, f, scope="sample"), orthogonal_residual(x, f))


def test_matches_a_hand_computed_row():
    y = orthogonal_residual(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 7.0]]), eps=0.0)
    torch.testing.assert_close(y, torch.tensor([[3.0 + 1.0 - 3.72, 4.0 + 7.0 - 4.96]]))


def test_wrong_arguments_are_refused_in_one_sentence():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="one shape"):
        orthogonal_residual(x, x[:1])
    with pytest.raises(ValueError, match="scopes token, sample"):
        orthogonal_residual(x, x, scope="batch")
