"""EvoNorm: what its definitions promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from archwright.kernels import evonorm_b0, evonorm_s0


def _draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _parameters(channels):
    return tuple(_draw(channels, seed=seed) for seed in (1, 2, 3))


ONE, ZERO = torch.ones(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)


def test_s0_by_hand():
    """Of (1, 3): variance 1; of their squares: mean 5."""
    x = torch.tensor([[1.0, 3.0]])
    one, zero = torch.ones(2), torch.zeros(2)
    swish = torch.tensor([[0.7310586, 2.8577224]])
    torch.testing.assert_close(evonorm_s0(x, None, one, zero, groups=1, eps=1e-12), swish)
    torch.testing.assert_close(evonorm_s0(x, None, one, zero, groups=1, eps=1e-12, centred=False), swish / 5**0.5)
    slopes = torch.tensor([2.0, 0.0])
    y = evonorm_s0(x, slopes, torch.tensor([1.0, 10.0]), torch.tensor([0.0, 1.0]), groups=1, eps=1e-12)
    torch.testing.assert_close(y, torch.tensor([[0.8807971, 16.0]]))


def test_without_slope_it_is_half_of_the_input_over_its_spread():
    x = _draw(4, 6, 5)
    y = evonorm_s0(x, ZERO, ONE, ZERO, groups=2, eps=1e-9)
    spread = x.reshape(4, 2, -1).std(-1, correction=0).repeat_interleave(3, 1)[..., None]
    torch.testing.assert_close(y, 0.5 * x / spread, atol=1e-6, rtol=0)
    torch.testing.assert_close(evonorm_s0(50 * x, ZERO, ONE, ZERO, groups=2, eps=1e-9), y, atol=1e-6, rtol=0)


def test_variants_are_a_norm_of_the_group_times_a_swish():
    x, (v, weight, bias) = _draw(3, 6, 4, 2), _parameters(6)
    at = (6, 1, 1)
    centre = x - x.reshape(3, 2, -1).mean(-1).repeat_interleave(3, 1)[..., None, None]
    for measured, centred in ((centre, True), (x, False)):
        moment = measured.square().reshape(3, 2, -1).mean(-1).repeat_interleave(3, 1)[..., None, None]
        for slope in (v, None):
            gate = torch.sigmoid(x * (1 if slope is None else slope.view(at)))
            expected = weight.view(at) * x * gate / (moment + 1e-5).sqrt() + bias.view(at)
            torch.testing.assert_close(evonorm_s0(x, slope, weight, bias, groups=2, centred=centred), expected)


def test_a_sample_does_not_see_the_others():
    x, parameters = _draw(5, 6, 7), _parameters(6)
    y = evonorm_s0(x, *parameters, groups=3)
    assert torch.equal(evonorm_s0(x[2:3], *parameters, groups=3), y[2:3])


def test_channels_last_is_served():
    x, parameters = _draw(3, 6, 4, 5).requires_grad_(), _parameters(6)
    there = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    for evonorm in (
        lambda image: evonorm_s0(image, *parameters, groups=2),
        lambda image: evonorm_b0(image, *parameters, torch.ones_like(parameters[0]), training=True)[0],
    ):
        y, expected = evonorm(there), evonorm(x)
        torch.testing.assert_close(y, expected)
        cotangent = _draw(3, 6, 4, 5, seed=9).to(memory_format=torch.channels_last)
        torch.testing.assert_close(*(torch.autograd.grad(out, at, cotangent)[0] for out, at in ((y, there), (expected, x))))


def test_one_group_on_tokens_is_layer_norm_s_spread():
    x = _draw(8, 6)
    y = evonorm_s0(x, None, ONE, ZERO, groups=1, eps=1e-5)
    scale = F.layer_norm(x, (6,)) / (x - x.mean(-1, keepdim=True))
    torch.testing.assert_close(y, F.silu(x) * scale)


def test_a_large_common_offset_keeps_the_variance():
    x = _draw(3, 6, 50, dtype=torch.float32) + 1000
    y = evonorm_s0(x, ZERO.float(), ONE.float(), ZERO.float(), groups=2)
    exact = evonorm_s0(x.double(), ZERO, ONE, ZERO, groups=2, backend="reference")
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=0)


def test_wrong_arguments_to_s0_are_refused_in_one_sentence():
    x, one = torch.zeros(2, 6), torch.ones(6)
    for args, options, error, words in (
        ((x.long(), None, one, one), {"groups": 1}, TypeError, '"x"'),
        ((x[0], None, one, one), {"groups": 1}, ValueError, "batch, channels"),
        ((x, torch.ones(2), one, one), {"groups": 1}, ValueError, '"v" of shape'),
        ((x, None, one[:3], one), {"groups": 1}, ValueError, '"weight" of shape'),
        ((x, None, one, one), {"groups": 4}, ValueError, "groups that divide the 6 channels"),
        ((x, None, one, one), {"groups": 1, "eps": 0.0}, ValueError, "eps above zero"),
    ):
        with pytest.raises(error, match=words):
            evonorm_s0(*args, **options)


# --- B0 -----------------------------------------------------------------------------------------------------------------


def _direct(x, v, weight, bias, batch_variance, eps):
    """The equation over numpy arrays, (batch, channels, positions), one entry at a time."""
    y = np.empty_like(x)
    for b, c, s in np.ndindex(*x.shape):
        own = np.sqrt(x[b, c].var() + eps)
        y[b, c, s] = weight[c] * x[b, c, s] / max(np.sqrt(batch_variance[c] + eps), v[c] * x[b, c, s] + own) + bias[c]
    return y


def test_b0_equals_its_equation_in_training_and_after():
    x, parameters, running = _draw(3, 4, 5), _parameters(4), _draw(4, seed=5).abs()
    arrays = [parameter.numpy() for parameter in parameters]
    y, moved = evonorm_b0(x, *parameters, running, training=True, momentum=0.25)
    batch = x.numpy().var((0, 2))
    np.testing.assert_allclose(y.numpy(), _direct(x.numpy(), *arrays, batch, 1e-5), atol=1e-6)
    np.testing.assert_allclose(moved.numpy(), 0.75 * running.numpy() + 0.25 * batch * 15 / 14, atol=1e-12)
    y, kept = evonorm_b0(x, *parameters, running, training=False)
    np.testing.assert_allclose(y.numpy(), _direct(x.numpy(), *arrays, running.numpy(), 1e-5), atol=1e-6)
    assert torch.equal(kept, running)


def test_b0_with_a_steep_negative_slope_divides_by_the_batch():
    x = _draw(4, 6, 5).abs() + 0.1
    y, _ = evonorm_b0(x, -1e3 * ONE, ONE, ZERO, ONE, training=True, eps=1e-12)
    torch.testing.assert_close(y, x / x.std((0, 2), correction=0)[:, None])


def test_after_training_a_sample_does_not_see_the_others():
    x, parameters = _draw(4, 6, 5), _parameters(6)
    y, _ = evonorm_b0(x, *parameters, ONE, training=False)
    assert torch.equal(evonorm_b0(x[1:2], *parameters, ONE, training=False)[0], y[1:2])


def test_the_running_variance_is_not_written_to():
    running = ONE.clone()
    _, moved = evonorm_b0(_draw(4, 6, 5), *_parameters(6), running, training=True)
    assert torch.equal(running, ONE)
    assert not torch.equal(moved, ONE)


class _B0(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.v, self.weight, self.bias = (nn.Parameter(torch.full((channels,), value)) for value in (1.0, 1.0, 0.0))
        self.register_buffer("running", torch.ones(channels))

    def forward(self, x):
        y, moved = evonorm_b0(x, self.v, self.weight, self.bias, self.running, training=self.training)
        self.running = moved.detach()
        return y


def test_b0_in_the_place_of_batch_norm_and_relu_learns_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    target = torch.tensor(digits.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [m for i, o in ((1, 16), (16, 16), (16, 16)) for m in (nn.Conv2d(i, o, 3, padding=1, bias=False), _B0(o))]
        network = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * 16, 10))
        optimiser = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(60):
            at = torch.randint(1400, (64,))
            loss = F.cross_entropy(network(x[at]), target[at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    network.eval()
    with torch.no_grad():
        right = (network(x[1400:]).argmax(1) == target[1400:]).float().mean()
    assert right >= 0.9


def test_wrong_arguments_to_b0_are_refused_in_one_sentence():
    x, one = torch.zeros(2, 6, 3), torch.ones(6)
    for args, options, error, words in (
        ((x, one, one, one, one[:2]), {"training": True}, ValueError, '"running_var" of shape'),
        ((x[:1, :, 0], one, one, one, one), {"training": True}, ValueError, "more than one value per channel"),
        ((x, one.long(), one, one, one), {"training": True}, TypeError, '"v"'),
    ):
        with pytest.raises(error, match=words):
            evonorm_b0(*args, **options)
