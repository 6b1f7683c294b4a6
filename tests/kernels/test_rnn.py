"""The recurrences beyond their spec: PyTorch's own layers, properties, hand-computed values, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from archwright.kernels import rnn
from archwright.kernels.dispatch import BackendError, use
from archwright.kernels.rnn import SPEC, Case
from archwright.kernels.rnn.fast import fast
from archwright.kernels.rnn.reference import CELLS
from archwright.testing.kernel_laws import draw

LAYERS = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
BACKENDS = ["fast", "reference"]


def _double(case: Case, **changes):
    inputs = draw(SPEC, case, torch.float64)
    return list(inputs.args), {**inputs.options, **changes}


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_head_is_the_layer_of_pytorch(cell, backend):
    torch.manual_seed(0)
    layer, x = LAYERS[cell](6, 8, batch_first=True).double(), torch.randn(3, 11, 6, dtype=torch.float64)
    count = CELLS[cell][1]
    gates = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0).view(3, 11, count, 1, 8)
    recurrent, bias = layer.weight_hh_l0.view(count, 1, 8, 8), layer.bias_hh_l0.view(count, 1, 8)
    expected, final = layer(x)
    h, last = rnn(gates, recurrent, bias, cell=cell, backend=backend)
    torch.testing.assert_close(h.squeeze(2), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last.squeeze(2), torch.cat(final if cell == "lstm" else [final]), rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(h.square().sum(), list(layer.parameters()))
    theirs = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [1, 7, 64])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_fast_equals_the_definition_in_float32_and_bfloat16(cell, steps, width):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        inputs = draw(SPEC, Case(cell, 2, steps, 2, width, gain=0.5), dtype)
        exact = [None if arg is None else arg.double() for arg in inputs.args]
        expected, _ = rnn(*exact, cell=cell, backend="reference")
        found, _ = rnn(*inputs.args, cell=cell, backend="fast")
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_without_recurrent_weights_it_is_the_pointwise_cell(cell, backend):
    (gates, recurrent, _, _), options = _double(Case(cell, 2, 5, 2, 3))
    h, _ = rnn(gates, torch.zeros_like(recurrent), cell=cell, backend=backend)
    sigmoid, tanh = torch.sigmoid, torch.tanh
    u = gates.unbind(2)
    state, c, n = torch.zeros_like(u[0][:, 0]), 0.0, 0.0
    for t in range(5):
        at = [gate[:, t] for gate in u]
        if cell == "elman":
            state = tanh(at[0])
        elif cell == "gru":
            z = sigmoid(at[1])
            state = (1 - z) * tanh(at[2]) + z * state
        elif cell == "lstm":
            c = sigmoid(at[1]) * c + sigmoid(at[0]) * tanh(at[2])
            state = sigmoid(at[3]) * tanh(c)
        else:  # as it is without the stabiliser
            c = sigmoid(at[1]) * c + at[0].exp() * tanh(at[2])
            n = sigmoid(at[1]) * n + at[0].exp()
            state = sigmoid(at[3]) * c / n
        torch.testing.assert_close(h[:, t], state, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_two_parts_with_the_state_passed_on_are_the_whole(cell, backend, reverse):
    (gates, recurrent, bias, state), _ = _double(Case(cell, 2, 70, 2, 3, state=True))
    whole, last = rnn(gates, recurrent, bias, state, cell=cell, reverse=reverse, backend=backend)
    first, second = (gates[:, 66:], gates[:, :66]) if reverse else (gates[:, :3], gates[:, 3:])
    h1, middle = rnn(first, recurrent, bias, state, cell=cell, reverse=reverse, backend=backend)
    h2, final = rnn(second, recurrent, bias, middle, cell=cell, reverse=reverse, backend=backend)
    torch.testing.assert_close(torch.cat([h2, h1] if reverse else [h1, h2], 1), whole)
    torch.testing.assert_close(final, last)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_reverse_is_the_flipped_sequence(cell, backend):
    (gates, recurrent, bias, state), _ = _double(Case(cell, 2, 67, 2, 3, state=True))
    h, last = rnn(gates, recurrent, bias, state, cell=cell, reverse=True, backend=backend)
    flipped, end = rnn(gates.flip(1), recurrent, bias, state, cell=cell, backend=backend)
    torch.testing.assert_close(h, flipped.flip(1))
    torch.testing.assert_close(last, end)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_heads_and_samples_do_not_meet(cell, backend):
    (gates, recurrent, bias, state), _ = _double(Case(cell, 3, 6, 3, 4, state=True))
    before, _ = rnn(gates, recurrent, bias, state, cell=cell, backend=backend)
    moved = state.clone()
    moved[0, 1, 2] += 1.0
    after, _ = rnn(gates, recurrent, bias, moved, cell=cell, backend=backend)
    changed = (after != before).flatten(3).any(3).any(1)
    assert changed.nonzero().tolist() == [[1, 2]]
    poisoned = gates.clone()
    poisoned[1] = float("nan")
    others, end = rnn(poisoned, recurrent, bias, state, cell=cell, backend=backend)
    assert torch.equal(others[[0, 2]], before[[0, 2]])
    assert others[1].isnan().all()
    assert end[0, 1].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_slstm_stays_finite_at_gates_of_a_hundred(backend):
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (2, 40, 4, 2, 3), generator=generator) * 2.0 - 1.0
    gates = (100 * signs).requires_grad_()
    recurrent = torch.randn(4, 2, 3, 3, generator=generator).requires_grad_()
    h, last = rnn(gates, recurrent, cell="slstm", backend=backend)
    assert h.abs().max() <= 1
    assert torch.isfinite(last).all()
    assert (last[2] >= 1).all()
    for gradient in torch.autograd.grad(h.sum() + last[:3].sum(), [gates, recurrent]):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_slstm_depends_on_its_state_through_c_and_n_times_exp_m_alone(backend):
    (gates, recurrent, bias, state), _ = _double(Case("slstm", 2, 9, 1, 3, state=True))
    state[2] += 1.0
    shifted = torch.stack([state[0], state[1] * math.exp(-0.5), state[2] * math.exp(-0.5), state[3] + 0.5])
    assert (shifted[2] >= 1).all()
    left, _ = rnn(gates, recurrent, bias, state, cell="slstm", backend=backend)
    right, _ = rnn(gates, recurrent, bias, shifted, cell="slstm", backend=backend)
    torch.testing.assert_close(left, right)


def test_matches_hand_computed_steps():
    half = math.log(3.0)  # sigmoid 0.75
    gates = torch.tensor([half, -half, 0.5]).view(1, 1, 3, 1, 1)
    recurrent, bias = torch.tensor([0.0, 0.0, 2.0]).view(3, 1, 1, 1), torch.tensor([0.0, 0.0, 0.25]).view(3, 1, 1)
    h, _ = rnn(gates, recurrent, bias, torch.full((1, 1, 1, 1), 0.5), cell="gru")
    assert h.item() == pytest.approx(0.75 * math.tanh(0.5 + 0.75 * (2 * 0.5 + 0.25)) + 0.25 * 0.5)
    gates = torch.tensor([half, -half, 0.5, half]).view(1, 1, 4, 1, 1)
    h, last = rnn(gates, torch.zeros(4, 1, 1, 1), None, torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), cell="lstm")
    c = 0.25 * 2 + 0.75 * math.tanh(0.5)
    assert last.flatten().tolist() == pytest.approx([0.75 * math.tanh(c), c])
    _, last = rnn(gates, torch.zeros(4, 1, 1, 1), cell="slstm")
    assert last.flatten().tolist() == pytest.approx([0.75 * math.tanh(0.5), math.tanh(0.5), 1.0, half])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_its_dtype_and_carries_states_in_float32(cell, dtype):
    inputs = draw(SPEC, Case(cell, 2, 5, 1, 3, state=True), dtype)
    h, last = rnn(*inputs.args, cell=cell)
    assert (h.dtype, last.dtype) == (dtype, torch.float32)


def test_wide_heads_are_left_to_the_fast_path_and_said_so(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    inputs = draw(SPEC, Case("gru", 1, 2, 1, 65))
    with pytest.raises(BackendError, match="heads are 65 wide"):
        rnn(*inputs.args, cell="gru", backend="triton")
    assert rnn(*inputs.args, cell="gru")[0].shape == (1, 2, 1, 65)


def test_the_setting_of_the_environment_reaches_it():
    inputs = draw(SPEC, Case("elman", 1, 2, 1, 3))
    with use("auto,rnn=reference"):
        assert torch.equal(rnn(*inputs.args, cell="elman")[0], SPEC.reference(*inputs.args, cell="elman")[0])


def test_wrong_arguments_are_refused_in_one_sentence():
    gates, recurrent = torch.zeros(2, 5, 3, 2, 4), torch.zeros(3, 2, 4, 4)
    for args, cell, error, words in (
        ((gates, recurrent), "rwkv", ValueError, "cells are elman"),
        ((gates, recurrent), "lstm", ValueError, "batch, steps, 4, heads, width"),
        ((gates[0], recurrent), "gru", ValueError, "needs gates of shape"),
        ((gates, recurrent[:2]), "gru", ValueError, "needs recurrent of shape"),
        ((gates, recurrent, torch.zeros(3, 4)), "gru", ValueError, "needs bias of shape"),
        ((gates, recurrent, None, torch.zeros(2, 2, 4)), "gru", ValueError, "needs state of shape"),
        ((gates.long(), recurrent), "gru", TypeError, '"gates"'),
    ):
        with pytest.raises(error, match=words):
            rnn(*args, cell=cell)


def test_runs_under_a_functional_gradient():
    (gates, recurrent, bias, state), _ = _double(Case("gru", 2, 6, 1, 3, state=True))
    functional = torch.func.grad(lambda g: fast(g, recurrent, bias, state, cell="gru")[0].square().sum())(gates)
    leaf = gates.clone().requires_grad_()
    SPEC.reference(leaf, recurrent, bias, state, cell="gru")[0].square().sum().backward()
    torch.testing.assert_close(functional, leaf.grad)


def test_an_lstm_learns_parity_and_goes_on_with_longer_sequences():
    """The parity of bits needs a state that switches on what it reads; trained on up to 16 bits, read at 40."""
    torch.manual_seed(0)
    count, width = 4, 16
    enter = nn.Linear(1, count * width)
    recurrent = nn.Parameter(torch.stack([nn.init.orthogonal_(torch.empty(width, width)) for _ in range(count)]).unsqueeze(1))
    leave = nn.Linear(width, 1)
    parameters = [*enter.parameters(), recurrent, *leave.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.01)

    def logits(bits):
        gates = enter(2 * bits.unsqueeze(-1) - 1).view(*bits.shape, count, 1, width)
        return leave(rnn(gates, recurrent, cell="lstm")[0].squeeze(2)).squeeze(-1)

    for step in range(400):
        bits = torch.randint(0, 2, (64, 2 + 14 * min(step, 200) // 200)).float()
        loss = F.binary_cross_entropy_with_logits(logits(bits), bits.cumsum(1) % 2)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
    bits = torch.randint(0, 2, (256, 40)).float()
    right = (logits(bits)[:, -1] > 0) == (bits.sum(1) % 2 > 0)
    assert right.float().mean() > 0.95
