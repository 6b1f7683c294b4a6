"""Activations with a step derivative: the exact value, the steps bit for bit, what is kept, the fit, and training with them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from archwright.kernels import step_activation
from archwright.kernels.step_activation import FITTED, fit_steps

PLAIN = {"gelu": F.gelu, "silu": F.silu}


def _kept(function) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: tensors.append(t) or t, lambda t: t):
        function()
    return tensors


@pytest.mark.parametrize("act", PLAIN)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 9, 255, 1000])
def test_the_value_is_exact_and_the_gradient_is_the_steps(act, size):
    for count in (1, 3):
        x = 4 * torch.randn(size, generator=torch.Generator().manual_seed(size))
        x.requires_grad_()
        dy = torch.randn(size, generator=torch.Generator().manual_seed(size + 1))
        y = step_activation(x, act=act, steps=count)
        assert torch.equal(y, PLAIN[act](x))
        steps = FITTED[act, count]
        above = sum((x > edge).long() for edge in steps.edges)
        expected = torch.tensor(steps.levels)[above] * dy
        assert torch.equal(torch.autograd.grad(y, x, dy)[0], expected)


@pytest.mark.parametrize("size", [1, 4, 5, 1003])
def test_two_bits_or_one_are_kept(size):
    x = torch.randn(size, requires_grad=True)
    for count, per_byte in ((3, 4), (1, 8)):
        (packed,) = _kept(lambda count=count: step_activation(x, steps=count))
        assert (packed.dtype, packed.numel()) == (torch.uint8, -(-size // per_byte))


def test_heights_add_up_to_one():
    for steps in FITTED.values():
        assert abs(sum(steps.heights) - 1) < 1e-6
        assert steps.levels[0] == 0.0


def _errors(steps, activation):
    x = torch.linspace(-16, 16, 16001, dtype=torch.float64)
    off = steps(x) - activation(x)
    return float(torch.trapezoid(off.square(), x)), float(off.abs().max()), float(x[off.abs().argmax()])


@pytest.mark.parametrize(("act", "integral", "largest"), [("gelu", 0.0095, 0.156), ("silu", 0.0399, 0.256)])
def test_the_fit_is_as_near_as_published_and_the_routine_finds_one_no_worse(act, integral, largest):
    published = _errors(FITTED[act, 3], PLAIN[act])
    assert published[0] == pytest.approx(integral, abs=2e-4)
    assert published[1] == pytest.approx(largest, abs=2e-3)
    assert abs(published[2]) < 0.01
    fitted = fit_steps(PLAIN[act])
    assert _errors(fitted, PLAIN[act])[0] <= published[0] * (1 + 1e-4)
    assert sum(fitted.heights) == pytest.approx(1, abs=1e-9)


def test_the_routine_fits_any_activation_that_ends_like_a_rectifier():
    steps = fit_steps(F.mish)
    assert _errors(steps, F.mish)[0] < 0.1 < _errors(FITTED["gelu", 1], F.mish)[0]
    for activation in (torch.tanh, torch.square, torch.sigmoid):
        with pytest.raises(ValueError, match="near 0"):
            fit_steps(activation)


class _Transformer(torch.nn.Module):
    """One layer of attention and one wide layer that classify whether the largest of eight numbers stands in the first half."""

    def __init__(self, act) -> None:
        super().__init__()
        self.act = act
        self.embed, self.place = torch.nn.Linear(1, 32), torch.nn.Parameter(0.1 * torch.randn(8, 32))
        self.attend = torch.nn.MultiheadAttention(32, 2, batch_first=True)
        self.norm = torch.nn.LayerNorm(32)
        self.wide, self.narrow, self.head = torch.nn.Linear(32, 128), torch.nn.Linear(128, 32), torch.nn.Linear(32, 2)

    def forward(self, x):
        h = self.embed(x[..., None]) + self.place
        h = h + self.attend(h, h, h, need_weights=False)[0]
        h = h + self.narrow(self.act(self.wide(self.norm(h))))
        return self.head(h.mean(1))


def _batch(size, generator, shift=0.0):
    x = torch.randn(size, 8, generator=generator) * (1 + shift) + shift
    return x, (x.argmax(-1) < 4).long()


def _train(model, steps, rate, shift):
    generator = torch.Generator().manual_seed(int(10 * shift))
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        x, label = _batch(64, generator, shift)
        optimiser.zero_grad()
        F.cross_entropy(model(x), label).backward()
        optimiser.step()


def test_a_transformer_fine_tuned_with_steps_is_within_one_percent():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trained = _Transformer(F.gelu)
    _train(trained, 150, 3e-3, 0.0)
    x, label = _batch(4000, torch.Generator().manual_seed(99), 0.5)
    accuracy = []
    for act in (F.gelu, step_activation):
        model = copy.deepcopy(trained)
        model.act = act
        _train(model, 60, 1e-3, 0.5)
        with torch.no_grad():
            accuracy.append(float((model(x).argmax(-1) == label).float().mean()))
    assert accuracy[0] > 0.9
    assert abs(accuracy[1] - accuracy[0]) < 0.01


def test_a_stack_of_layers_keeps_less():
    x = torch.randn(64, 100, requires_grad=True)

    def bytes_kept(act):
        storages = {}
        for tensor in _kept(lambda: act(act(act(x) * 2) * 2)):
            storages[tensor.untyped_storage().data_ptr()] = tensor.numel() * tensor.element_size()
        return sum(storages.values())

    assert bytes_kept(step_activation) < bytes_kept(F.gelu) / 10


def test_wrong_arguments_are_refused_in_one_sentence():
    x = torch.zeros(2, 4)
    for args, options, error, words in (
        ((x,), {"act": "tanh"}, ValueError, "gelu and silu"),
        ((x,), {"steps": 2}, ValueError, "1 or 3 steps"),
        ((x.long(),), {}, TypeError, "real floating point"),
    ):
        with pytest.raises(error, match=words):
            step_activation(*args, **options)
