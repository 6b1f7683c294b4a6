"""Norms and activations keep what their papers promise."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from archwright.search_space.facts import BLOCKS
from archwright.search_space.specs import TensorSpec

TOKENS, IMAGE, VECTOR = TensorSpec("tokens", (5, 16)), TensorSpec("image", (16, 6, 4)), TensorSpec("vector", (16,))
SPECS = [TOKENS, IMAGE, VECTOR]


def _make(name, spec=TOKENS, **params):
    return BLOCKS[name].obj(spec, **params).double()


def _draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _channels_last(x, spec):
    return x.movedim(1, -1) if spec.layout == "image" else x


# --- layernorm, rmsnorm -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_layernorm_gives_mean_zero_variance_one_over_the_channels(spec):
    y = _channels_last(_make("layernorm", spec, affine="none")(3.0 + 5.0 * _draw(4, *spec.shape)), spec)
    torch.testing.assert_close(y.mean(-1), torch.zeros_like(y[..., 0]), atol=1e-12, rtol=0)
    torch.testing.assert_close(y.var(-1, unbiased=False), torch.ones_like(y[..., 0]), atol=1e-5, rtol=0)


def test_layernorm_equals_torch():
    x = _draw(4, 5, 16)
    torch.testing.assert_close(_make("layernorm")(x), torch.nn.LayerNorm(16).double()(x), atol=1e-12, rtol=0)


def test_layernorm_ignores_positive_scale_and_shift():
    norm, x = _make("layernorm"), _draw(4, 5, 16)
    torch.testing.assert_close(norm(7.0 * x + 3.0), norm(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("affine", "names"), [("none", set()), ("gain", {"gain"}), ("gain-bias", {"gain", "bias"})])
def test_layernorm_affine_chooses_the_parameters(affine, names):
    assert {name for name, _ in _make("layernorm", affine=affine).named_parameters()} == names


def test_norms_are_the_same_in_training_and_eval():
    x = _draw(4, 5, 16)
    for name in ("layernorm", "rmsnorm", "evonorm-s0"):
        norm = _make(name)
        assert torch.equal(norm.train()(x), norm.eval()(x))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_rmsnorm_gives_root_mean_square_one_and_keeps_the_direction(spec):
    x = _draw(4, *spec.shape)
    y = _channels_last(_make("rmsnorm", spec)(x), spec)
    torch.testing.assert_close(y.square().mean(-1), torch.ones_like(y[..., 0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.cosine_similarity(y, _channels_last(x, spec), dim=-1), torch.ones_like(y[..., 0]))


def test_rmsnorm_is_layernorm_on_centred_input():
    x = _draw(4, 5, 16)
    x = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(_make("rmsnorm")(x), _make("layernorm")(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["layernorm", "rmsnorm"])
def test_norm_gradients(name):
    norm = _make(name)
    assert gradcheck(norm, (_draw(2, 3, 16).requires_grad_(),))


# --- evonorm-s0 -------------------------------------------------------------------------------------------------------


def _evonorm(spec, groups=2, variant="s0", slope=None):
    norm = _make("evonorm-s0", spec, groups=groups, variant=variant)
    if slope is not None:
        torch.nn.init.constant_(norm.slope, slope)
    return norm


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_evonorm_equals_its_equation(spec):
    """The definition written with loops over samples, groups and, where they are apart, tokens."""
    x = _draw(3, *spec.shape)
    norm = _evonorm(spec)
    torch.nn.init.normal_(norm.gain)
    torch.nn.init.normal_(norm.bias)
    torch.nn.init.normal_(norm.slope)
    rows = x.reshape(-1, 16) if spec.layout != "image" else x.reshape(3, 16, -1)
    y = norm(x).reshape(rows.shape)
    for row in range(len(rows)):
        for channel in range(16):
            first = channel - channel % 8
            spread = (rows[row, first : first + 8].var(unbiased=False) + 1e-5).sqrt()
            value = rows[row, channel]
            expected = norm.gain[channel] * value * torch.sigmoid(norm.slope[channel] * value) / spread + norm.bias[channel]
            torch.testing.assert_close(y[row, channel], expected, atol=1e-12, rtol=1e-12)


def test_evonorm_with_zero_slope_is_half_of_a_group_norm_without_mean():
    x = _draw(3, *IMAGE.shape)
    std = x.unflatten(1, (2, 8)).var((2, 3, 4), keepdim=True, unbiased=False).sqrt()
    expected = (0.5 * x.unflatten(1, (2, 8)) / std).flatten(1, 2)
    torch.testing.assert_close(_evonorm(IMAGE, slope=0.0)(x), expected, atol=1e-5, rtol=1e-5)


def test_evonorm_with_zero_slope_ignores_positive_scale():
    norm, x = _evonorm(TOKENS, slope=0.0), _draw(3, 5, 16)
    torch.testing.assert_close(norm(30.0 * x), norm(x), atol=1e-3, rtol=1e-3)


def test_evonorm_variants_differ_as_written():
    x = _draw(3, 5, 16)
    x = x - x.unflatten(-1, (2, 8)).mean(-1, keepdim=True).expand(3, 5, 2, 8).flatten(2)
    s0, s1, s2 = (_evonorm(TOKENS, variant=variant)(x) for variant in ("s0", "s1", "s2"))
    assert torch.equal(s0, s1)
    torch.testing.assert_close(s1, s2, atol=1e-12, rtol=1e-12)
    assert not torch.allclose(_evonorm(TOKENS, variant="s1")(x + 1.0), _evonorm(TOKENS, variant="s2")(x + 1.0))


def test_evonorm_on_tokens_reads_one_token_at_a_time():
    norm, x = _evonorm(TOKENS), _draw(3, 5, 16)
    torch.testing.assert_close(norm(x)[:, 2], _evonorm(VECTOR)(x[:, 2]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("width", "wanted", "groups"), [(32, 8, 4), (16, 8, 2), (64, 2, 2), (30, 8, 3), (3, 8, 1)])
def test_evonorm_groups_divide_the_width_and_hold_eight_channels(width, wanted, groups):
    assert BLOCKS["evonorm-s0"].obj(TensorSpec("vector", (width,)), groups=wanted).groups == groups


@pytest.mark.parametrize("spec", [TensorSpec("vector", (16,)), TensorSpec("image", (16, 2, 1))], ids=str)
@pytest.mark.parametrize("variant", ["s0", "s1", "s2"])
def test_evonorm_gradients(spec, variant):
    assert gradcheck(_evonorm(spec, groups=2, variant=variant), (_draw(2, *spec.shape).requires_grad_(),))


# --- activations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", lambda x: x.clamp_min(0)),
        ("gelu", lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))),
        ("silu", lambda x: x / (1 + torch.exp(-x))),
        ("squared-relu", lambda x: x.clamp_min(0) ** 2),
    ],
)
def test_activations_equal_their_equations(name, function):
    x = _draw(3, 5, 16)
    torch.testing.assert_close(_make(name)(x), function(x), atol=1e-14, rtol=1e-14)


def test_squared_relu_gradient_is_continuous_at_zero():
    x = torch.tensor([-1.0, -1e-9, 0.0, 1e-9, 1.5], dtype=torch.float64, requires_grad=True)
    _make("squared-relu")(x).sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach().clamp_min(0))


def test_squared_relu_has_second_moment_three_halves():
    x = _draw(400_000)
    assert _make("squared-relu")(x).square().mean().item() == pytest.approx(1.5, rel=0.03)
    assert _make("squared-relu")(x).mean().item() == pytest.approx(0.5, rel=0.02)


def test_squared_relu_is_zero_exactly_where_the_input_is_not_positive():
    x = _draw(1000)
    assert torch.equal(_make("squared-relu")(x) == 0, x <= 0)
