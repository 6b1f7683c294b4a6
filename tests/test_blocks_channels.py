"""Channel mixers keep what their papers promise."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F

from archwright.kernels import rational
from archwright.search_space.blocks.channels.gr_kan import GRKANLayer
from archwright.search_space.blocks.channels.rational import GroupRational, coefficients
from archwright.search_space.blocks.channels.rbf_kan import RBFKANLayer
from archwright.search_space.facts import BLOCKS
from archwright.search_space.specs import TensorSpec

TOKENS = TensorSpec("tokens", (5, 16))


def _draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_mlp_and_swiglu_equal_their_equations():
    x = _draw(3, 5, 16)
    mlp = BLOCKS["mlp"].obj(TOKENS, activation="squared-relu").double()
    up, down = mlp.up, mlp.down
    torch.testing.assert_close(mlp(x), F.linear(F.relu(F.linear(x, up.weight, up.bias)) ** 2, down.weight, down.bias))
    swiglu = BLOCKS["swiglu"].obj(TOKENS).double()
    gate, lift = swiglu.gate_and_up.weight.chunk(2)
    torch.testing.assert_close(swiglu(x), (F.silu(x @ gate.T) * (x @ lift.T)) @ swiglu.down.weight.T)


@pytest.mark.parametrize("name", ["mlp", "swiglu", "gr-kan", "rbf-kan"])
def test_channel_mixers_read_one_token_at_a_time(name):
    module, x = BLOCKS[name].obj(TOKENS).double(), _draw(3, 5, 16)
    torch.testing.assert_close(module(x)[:, 2], module(x[:, 2]))


@pytest.mark.parametrize(("name", "per_square"), [("mlp", 4), ("swiglu", 6)])
def test_ratio_sets_the_parameters(name, per_square):
    module = BLOCKS[name].obj(TOKENS, ratio=2.0)
    assert sum(p.numel() for p in module.parameters() if p.dim() == 2) == per_square * 16**2


# --- gr-kan -----------------------------------------------------------------------------------------------------------


def test_identity_coefficients_give_a_linear_layer_exactly():
    layer, x = GRKANLayer(16, 7, function="identity"), _draw(10, 16, dtype=torch.float32)
    assert torch.equal(layer(x), F.linear(x, layer[1].weight, layer[1].bias))


@pytest.mark.parametrize(
    ("function", "degree", "bound"),
    [("silu", 2, 8e-3), ("silu", 4, 1e-5), ("silu", 6, 1e-9), ("gelu", 2, 3e-2), ("gelu", 4, 4e-3), ("gelu", 6, 1e-5)],
)
def test_initial_coefficients_fit_the_activation_on_three_to_three(function, degree, bound):
    a, b = (torch.tensor(part, dtype=torch.float64)[:, None] for part in coefficients(function, degree))
    x = torch.linspace(-3, 3, 999, dtype=torch.float64)
    fitted = rational(x[:, None], a, b).flatten()
    assert (fitted - getattr(F, function)(x)).abs().max() < bound


def test_gr_kan_layer_starts_as_linear_of_silu():
    layer = GRKANLayer(16, 7, function="silu").double()
    x = _draw(50, 16).clamp(-3, 3)
    torch.testing.assert_close(layer(x), layer[1](F.silu(x)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("function", ["identity", "silu", "gelu"])
def test_variance_is_kept_through_twelve_layers(function):
    """At 512 units; at 256 the chance of the draw alone moves the variance by a factor of 3 in 2 seeds of 8."""
    x = _draw(128, 512, dtype=torch.float32)
    before = x.var()
    with torch.no_grad():
        for _ in range(12):
            x = GRKANLayer(512, 512, function=function)(x)
    assert 0.5 < x.var() / before < 2.0


@pytest.mark.parametrize("degree", [2, 4, 6])
def test_rational_is_safe(degree):
    """The denominator is at least 1, so |F| is at most |P|; and x = 1e3 overflows nothing."""
    module, x = GroupRational(8, groups=4, degree=degree), 1e3 * _draw(64, 8, dtype=torch.float32)
    nn.init.normal_(module.denominator)
    nn.init.normal_(module.numerator)
    y = module(x)
    assert y.isfinite().all()
    powers = torch.stack([(x.double() / 4) ** power for power in range(degree + 2)])
    above = (powers * module.numerator.double().repeat_interleave(2, 1)[:, None]).sum(0)
    assert (y.double().abs() <= above.abs() * 1.001 + 1e-2).all()


def test_group_rational_equals_its_equation():
    """The coefficients are those of powers of x / 4."""
    module, x = GroupRational(6, groups=2, function="gelu").double(), _draw(5, 6)
    nn.init.normal_(module.numerator)
    nn.init.normal_(module.denominator)
    a, b = (part.repeat_interleave(3, 1) for part in (module.numerator, module.denominator))
    above = sum(a[i] * (x / 4) ** i for i in range(6))
    below = sum(b[j] * (x / 4) ** (j + 1) for j in range(4))
    torch.testing.assert_close(module(x), above / (1 + below.abs()))
    assert gradcheck(module, (x.requires_grad_(),))


def test_gr_kan_parameter_count():
    assert _count(GRKANLayer(16, 7, groups=8, degree=4)) == 16 * 7 + 7 + 8 * (5 + 4 + 1)
    assert GroupRational(20, groups=8).groups == 5


def test_groups_have_functions_of_their_own():
    module, x = GroupRational(8, groups=2).double(), _draw(10, 8)
    before = module(x)
    with torch.no_grad():
        module.numerator[:, 1] += 1.0
    after = module(x)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


# --- rbf-kan ----------------------------------------------------------------------------------------------------------


def test_rbf_layer_equals_its_equation():
    layer, x = RBFKANLayer(6, 3, centres=5).double(), _draw(10, 6)
    u = F.layer_norm(x, (6,))
    centres = [-1.5 + 0.75 * j for j in range(5)]
    weight = layer.radial.weight.reshape(3, 5, 6)
    expected = F.silu(u) @ layer.base.weight.T
    for j, centre in enumerate(centres):
        expected = expected + torch.exp(-(((u - centre) / 0.75) ** 2)) @ weight[:, j].T
    torch.testing.assert_close(layer(x), expected)


def test_rbf_parameter_count_and_gradients():
    layer = RBFKANLayer(4, 3, centres=8).double()
    assert _count(layer) == 3 * 4 * (8 + 1) + 2 * 4
    assert gradcheck(layer, (_draw(3, 4).requires_grad_(),))


def _accuracy(model, data, epochs=15):
    x, y, held_x, held_y = data
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=order).split(128):
            optimiser.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
    return (model(held_x).argmax(1) == held_y).double().mean().item()


def test_rbf_kan_reaches_the_mlp_baseline_on_digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    data = (x[:1300], y[:1300], x[1300:], y[1300:])
    mlp = _accuracy(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), data)
    kan = _accuracy(nn.Sequential(RBFKANLayer(64, 64), RBFKANLayer(64, 10)), data)
    assert mlp > 0.85
    assert kan >= mlp - 0.02
