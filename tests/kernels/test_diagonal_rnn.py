"""The diagonal RNN beyond its spec: what the cells are, what Newton's method reports, and what they can compute."""

from __future__ import annotations

import sys
from itertools import product

import pytest
import torch

from archwright.kernels import diagonal_rnn
from archwright.kernels.diagonal_rnn import SPEC, Case, fast, reference, solve_diagonal_rnn
from archwright.kernels.diagonal_rnn.cells import CELLS
from archwright.testing.kernel_laws import draw

EVERY = tuple(CELLS)


def drawn(cell, batch=2, steps=20, width=3, *, peephole=True, **more):
    return draw(SPEC, Case(cell, batch, steps, width, peephole=peephole, **more), torch.float64).args


def gradients(h, last, leaves):
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(out.shape, generator=generator, dtype=out.dtype) for out in (h, last)]
    return torch.autograd.grad((h, last), leaves, cotangents)


def test_one_step_by_hand():
    x = torch.tensor([[[[0.2], [-0.4], [1.0]]]], dtype=torch.float64)
    a, s = torch.tensor([[0.5], [-1.0], [2.0]], dtype=torch.float64), torch.sigmoid
    h0 = torch.tensor([[[0.3]]], dtype=torch.float64)
    z, r = s(x[0, 0, 0] + 0.5 * 0.3), s(x[0, 0, 1] - 0.3)
    c = torch.tanh(1.0 + 2.0 * 0.3 * r)
    torch.testing.assert_close(diagonal_rnn(x, a, h0)[0].flatten(), (1 - z) * 0.3 + z * c)
    state, peephole = torch.tensor([[[0.7], [0.3]]], dtype=torch.float64), torch.tensor([[0.6], [-0.9]], dtype=torch.float64)
    h, last = diagonal_rnn(x, a, state, peephole, cell="lstm")
    f = s(torch.tensor([0.2 + 0.5 * 0.3 + 0.6 * 0.7], dtype=torch.float64))
    memory = f * 0.7 + (1 - f) * torch.tanh(torch.tensor([-0.4 - 0.3], dtype=torch.float64))
    output = s(1.0 + 2.0 * 0.3 - 0.9 * memory) * torch.tanh(memory)
    torch.testing.assert_close(h.flatten(), output)
    torch.testing.assert_close(last.flatten(), torch.cat([memory, output]))
    torch.testing.assert_close(diagonal_rnn(x[:, :, :1], a[:1], h0, cell="elman")[0].flatten(), torch.tanh(torch.tensor([0.35]).double()))


@pytest.mark.parametrize("cell", EVERY)
def test_newton_equals_the_loop_in_states_and_gradients(cell):
    case = Case(cell, 2, 256, 4, scale=1.0)
    leaves = [arg.requires_grad_() for arg in draw(SPEC, case, torch.float64).args if arg is not None]
    h, last, report = solve_diagonal_rnn(*leaves, cell=cell)
    expected = reference(*leaves, cell=cell)
    assert not report.fell_back
    assert 2 <= report.steps <= 8
    torch.testing.assert_close((h, last), expected, rtol=0, atol=1e-9)
    for ours, theirs in zip(gradients(h, last, leaves), gradients(*expected, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert torch.equal(diagonal_rnn(*leaves, cell=cell, solver="newton")[0], h)


@pytest.mark.parametrize("cell", EVERY)
def test_the_closed_jacobian_is_that_of_autograd_and_channels_do_not_mix(cell):
    made, width = CELLS[cell], 4
    generator = torch.Generator().manual_seed(0)
    x, a, before, p = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((1, made.gates, 1, width), (made.gates, 1, width), (1, made.states, 1, width), (2, 1, width))
    )
    peephole = p if cell == "lstm" else None
    activations, states = made.step(x, before, a, peephole)
    _, jacobian, _ = made.slopes(activations, before, states, a, peephole)
    full = torch.autograd.functional.jacobian(lambda state: made.step(x, state, a, peephole)[1].flatten(), before)
    full = full.view(made.states, width, made.states, width)
    ours = jacobian.view(made.states, made.states, width)
    for i, j in product(range(made.states), repeat=2):
        assert (full[i, :, j] - torch.diag(ours[i, j])).abs().max() <= 1e-10


@pytest.mark.parametrize("cell", EVERY)
def test_steps_and_halves_with_the_state_passed_are_the_whole(cell):
    gates, recurrent, state, peephole = drawn(cell, steps=21)
    whole, last = diagonal_rnn(gates, recurrent, state, peephole, cell=cell)
    one_by_one = state
    for t in range(21):
        h, one_by_one = diagonal_rnn(gates[:, t : t + 1], recurrent, one_by_one, peephole, cell=cell)
        assert torch.equal(h, whole[:, t : t + 1])  # the steps after it do not matter
    first, between = diagonal_rnn(gates[:, :8], recurrent, state, peephole, cell=cell)
    second, final = diagonal_rnn(gates[:, 8:], recurrent, between, peephole, cell=cell)
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert torch.equal(final, last)


def test_an_lstm_that_is_linear_in_c_takes_one_newton_step_for_c_and_one_for_h():
    gates, recurrent, state, _ = drawn("lstm", steps=50, peephole=False)
    recurrent = torch.zeros_like(recurrent)
    h, _, report = solve_diagonal_rnn(gates, recurrent, state, cell="lstm", max_steps=2)
    assert report.steps <= 2
    assert not report.fell_back
    torch.testing.assert_close(h, reference(gates, recurrent, state, cell="lstm")[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 17, 256])
def test_a_gru_computes_parity_which_no_decaying_linear_recurrence_can(steps):
    """z opens where x is 1, and then the candidate is the sign that h does not have: tanh(-5 h)."""
    ones = torch.randint(0, 2, (8, steps), generator=torch.Generator().manual_seed(steps)).double()
    gates = torch.stack([60 * (ones - 0.5), torch.full_like(ones, 30.0), torch.zeros_like(ones)], -1)[..., None]
    h0 = torch.full((8, 1, 1), 0.99, dtype=torch.float64)
    h, _ = diagonal_rnn(gates, torch.tensor([[0.0], [0.0], [-5.0]], dtype=torch.float64), h0)
    odd = ones.cumsum(1) % 2 == 1
    assert torch.equal(h[..., 0] < 0, odd)
    assert (h.abs() > 0.9).all()


def test_newton_that_does_not_converge_hands_over_to_the_loop():
    gates, recurrent, state, _ = drawn("gru", steps=60, scale=60.0)
    leaves = [tensor.requires_grad_() for tensor in (gates, recurrent, state)]
    h, last, report = solve_diagonal_rnn(*leaves, cell="gru", max_steps=2)
    expected = reference(*leaves, cell="gru")
    assert report.fell_back
    assert report.steps == 2
    torch.testing.assert_close((h, last), expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(h, last, leaves), gradients(*expected, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("block", [1, 7, 10_000])
@pytest.mark.parametrize("cell", EVERY)
def test_the_blocks_of_the_backward_do_not_matter(cell, block, monkeypatch):
    monkeypatch.setattr(sys.modules["archwright.kernels.diagonal_rnn.fast"], "BLOCK", block)
    args = drawn(cell)
    leaves = [arg.requires_grad_() for arg in args if arg is not None]
    results = [gradients(*function(*args, cell=cell), leaves) for function in (fast, reference)]
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", EVERY)
def test_low_precision_carries_the_state_in_float32(cell):
    args = [None if arg is None else arg.to(torch.bfloat16) for arg in drawn(cell)]
    for solver in ("serial", "newton"):
        h, last = diagonal_rnn(*args, cell=cell, solver=solver)
        assert (h.dtype, last.dtype) == (torch.bfloat16, torch.float32)
        assert last.shape == (2, CELLS[cell].states, 3)


def test_wrong_arguments_are_refused_in_one_sentence():
    gates, a, h0 = torch.zeros(2, 4, 3, 5), torch.zeros(3, 5), torch.zeros(2, 1, 5)
    p = torch.zeros(2, 5)
    for args, options, error, words in (
        ((gates, a), {"cell": "mgu"}, ValueError, '"mgu"'),
        ((gates, a), {"solver": "euler"}, ValueError, '"euler"'),
        ((gates, a), {"cell": "elman"}, ValueError, r"\(batch, steps, 1, width\)"),
        ((gates[0], a), {}, ValueError, r"\(batch, steps, 3, width\)"),
        ((gates, a[:2]), {}, ValueError, '"recurrent" of shape'),
        ((gates, a, h0[:, 0]), {}, ValueError, '"state" of shape'),
        ((gates, a, h0), {"cell": "lstm"}, ValueError, '"state" of shape'),
        ((gates, a, h0, p), {}, ValueError, "peephole"),
        ((gates, a, None, p[:1]), {"cell": "lstm"}, ValueError, '"peephole" of shape'),
        ((gates.long(), a), {}, TypeError, '"gates"'),
        ((gates, a), {"max_steps": 0}, ValueError, "max_steps"),
        ((gates, a), {"tolerance": -1.0}, ValueError, "tolerance"),
    ):
        with pytest.raises(error, match=words):
            diagonal_rnn(*args, **options)
