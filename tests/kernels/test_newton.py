"""Newton's method over time: it finds what the loop finds, says how, and hands over when it cannot."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from archwright.kernels import newton_scan
from archwright.kernels.newton import Solve, reference
from archwright.kernels.newton.jacobians import BLOCK2, DENSE, DIAGONAL, STRUCTURES
from archwright.kernels.newton.solver import solve

from .newton_cells import drawn

LINEAR = ("linear_diagonal", "linear_block", "linear_dense")
NONLINEAR = ("tanh", "gru", "ltc", "diagonal_gru", "diagonal_lstm")


@pytest.mark.parametrize("steps", [1, 2, 37, 200])
@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_cell_takes_one_step(name, steps):
    cell, h0, x, parameters, jacobian = drawn(name, steps)
    states, report = newton_scan(cell, h0, x, parameters, jacobian=jacobian, max_steps=1)
    expected = reference(h0, x, *parameters, cell=cell)
    assert report.steps == 1 or steps == 1
    assert not report.fell_back
    assert ((states - expected).abs() <= 1e-10 * (1 + expected.abs())).all()


@pytest.mark.parametrize("name", NONLINEAR)
def test_states_and_gradients_are_those_of_the_loop(name):
    cell, h0, x, parameters, jacobian = drawn(name)
    leaves = [tensor.requires_grad_() for tensor in (h0, x, *parameters)]
    states, report = newton_scan(cell, h0, x, parameters, jacobian=jacobian)
    expected = reference(*leaves, cell=cell)
    assert not report.fell_back
    assert 2 <= report.steps <= 8
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-10)
    cotangent = torch.randn(states.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(*(torch.autograd.grad(out, leaves, cotangent) for out in (states, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["tanh", "gru", "ltc"])
def test_the_diagonal_of_a_dense_jacobian_finds_the_same_states_in_more_steps(name):
    cell, h0, x, parameters, _ = drawn(name, scale=0.3)
    leaves = [tensor.requires_grad_() for tensor in (h0, x, *parameters)]
    found = {}
    for jacobian in ("dense", "quasi"):
        states, report = newton_scan(cell, h0, x, parameters, jacobian=jacobian, max_steps=60)
        assert not report.fell_back
        found[jacobian] = report.steps, states, torch.autograd.grad(states.square().sum(), leaves)
    assert found["quasi"][0] > found["dense"][0]
    torch.testing.assert_close(found["quasi"][1], found["dense"][1], rtol=0, atol=1e-10)
    for ours, theirs in zip(found["quasi"][2], found["dense"][2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def after(name, taken, *, guess_seed=None, scale=1.5):
    """States after so many steps, whatever the residual, and the loop's; time first."""
    cell, h0, x, parameters, jacobian = drawn(name, 40, scale=scale)
    rows = x.transpose(0, 1).flatten(0, 1)
    expected = reference(h0, x, *parameters, cell=cell).transpose(0, 1)
    guess = torch.zeros_like(expected)
    if guess_seed is not None:
        guess.normal_(generator=torch.Generator().manual_seed(guess_seed))
    structure = STRUCTURES[jacobian]

    def differentiate(previous):
        following, found = structure.differentiate(lambda h: cell(h, rows, *parameters), previous.flatten(0, 1))
        return following.view(expected.shape), found.unflatten(0, expected.shape[:2])

    return solve(differentiate, structure, h0, guess, max_steps=taken, tolerance=1e-15)[0], expected


@pytest.mark.parametrize("guess_seed", [0, 1])
@pytest.mark.parametrize("taken", [1, 2, 5])
@pytest.mark.parametrize("name", ["tanh", "gru", "diagonal_gru", "diagonal_lstm"])
def test_after_k_steps_the_first_k_states_are_exact(name, taken, guess_seed):
    states, expected = after(name, taken, guess_seed=guess_seed)
    error = (states - expected).abs().flatten(1).amax(1)
    assert (error[:taken] <= 1e-12).all()
    if name == "tanh" and taken < 5:  # and no more than the first k
        assert error[taken] > 1e-10


def test_a_part_of_the_state_that_is_linear_is_exact_after_one_step():
    """Without recurrent weights and peepholes c of the LSTM is linear, and h needs c alone."""
    states, expected = after("diagonal_lstm", 1, guess_seed=0, scale=0.0)
    torch.testing.assert_close(states[:, :, 0], expected[:, :, 0], rtol=0, atol=1e-12)
    assert (states[:, :, 1] - expected[:, :, 1]).abs().max() > 1e-3


def test_convergence_is_quadratic():
    pairs = [after("tanh", taken, scale=0.3) for taken in range(1, 6)]
    errors = [(states - expected).abs().max().item() for states, expected in pairs]
    assert errors[0] > 1e-3
    assert errors[4] < 1e-12
    for before, now in pairwise(errors[1:]):
        assert now < max(10 * before**2, 1e-14), errors


@pytest.mark.parametrize(("name", "scale"), [("tanh", 30.0), ("gru", 100.0)])
def test_where_newton_diverges_the_loop_takes_over(name, scale):
    cell, h0, x, parameters, jacobian = drawn(name, scale=scale)
    leaves = [tensor.requires_grad_() for tensor in (h0, x, *parameters)]
    states, report = newton_scan(cell, h0, x, parameters, jacobian=jacobian, max_steps=3)
    expected = reference(*leaves, cell=cell)
    assert report.fell_back
    assert report.steps == 3
    assert report.residual > 1e-7
    assert torch.equal(states, expected)
    cotangent = torch.randn_like(states)
    for ours, theirs in zip(*(torch.autograd.grad(out, leaves, cotangent) for out in (states, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_a_cell_that_gives_nan_on_the_way_still_ends_in_the_loop():
    def cell(h, x):
        return torch.log(h) + x  # from the first guess, log(0) + x, no number comes

    h0, x = torch.full((1, 2), 2.0), torch.full((1, 30, 2), 1.7)
    states, report = newton_scan(cell, h0, x, max_steps=4)
    torch.testing.assert_close(states, reference(h0, x, cell=cell))
    assert torch.isfinite(states).all()
    assert report.fell_back or report.residual < 1e-4


def test_a_good_guess_saves_steps():
    cell, h0, x, parameters, jacobian = drawn("diagonal_gru")
    states, cold = newton_scan(cell, h0, x, parameters, jacobian=jacobian)
    again, warm = newton_scan(cell, h0, x, parameters, jacobian=jacobian, guess=states + 1e-6)
    assert warm.steps < cold.steps
    torch.testing.assert_close(again, states, rtol=0, atol=1e-12)


def test_a_derivative_in_closed_form_is_used():
    calls = []

    def derivative(h, x, w):
        calls.append(len(h))
        y = torch.tanh(w * h + x)
        return y, (1 - y * y) * w

    def cell(h, x, w):
        return torch.tanh(w * h + x)

    generator = torch.Generator().manual_seed(0)
    h0, x, w = torch.zeros(3, 5), torch.randn(3, 20, 5, generator=generator), torch.full((5,), 0.5, requires_grad=True)
    states, report = newton_scan(cell, h0, x, [w], derivative=derivative)
    (gradient,) = torch.autograd.grad(states.sum(), w)
    (expected,) = torch.autograd.grad(reference(h0, x, w, cell=cell).sum(), w)
    torch.testing.assert_close(gradient, expected)
    assert calls == [60] * len(calls)
    assert len(calls) >= report.steps + 1  # and once for the adjoint


@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 64])
@pytest.mark.parametrize(
    ("structure", "shape", "matrix"), [(BLOCK2, (2, 3), (2, 2, 3)), (DENSE, (5, 3), (5, 3, 3))], ids=["block2", "dense"]
)
def test_the_length_of_a_chunk_does_not_matter(structure, shape, matrix, chunk, monkeypatch):
    from archwright.kernels.newton import jacobians
    from archwright.kernels.newton.matrix_scan import matrix_scan

    monkeypatch.setattr(jacobians, "matrix_scan", lambda *args: matrix_scan(*args, chunk=chunk))
    generator = torch.Generator().manual_seed(0)
    for steps in (1, 2, 13, 64, 65):
        matrices = 0.5 * torch.randn((steps, *matrix), generator=generator, dtype=torch.float64)
        vectors = torch.randn((steps, *shape), generator=generator, dtype=torch.float64)
        torch.testing.assert_close(
            structure.scan(matrices, vectors, None, False), structure.serial(matrices, vectors), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("name", NONLINEAR)
def test_gradients_and_theirs_in_float64(name):
    cell, h0, x, parameters, jacobian = drawn(name, steps=4, width=2)
    leaves = [tensor.requires_grad_() for tensor in (h0, x, *parameters)]

    def states(h0, x, *parameters):
        return newton_scan(cell, h0, x, parameters, jacobian=jacobian)[0]

    assert torch.autograd.gradcheck(states, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(states, leaves, fast_mode=True)


def test_any_subset_of_gradients():
    cell, h0, x, parameters, jacobian = drawn("tanh")
    every = [tensor.clone().requires_grad_() for tensor in (h0, x, *parameters)]
    full = torch.autograd.grad(newton_scan(cell, every[0], every[1], every[2:], jacobian=jacobian)[0].square().sum(), every)
    for index, expected in enumerate(full):
        leaves = [h0.clone(), x.clone(), *(p.clone() for p in parameters)]
        leaves[index].requires_grad_()
        states, _ = newton_scan(cell, leaves[0], leaves[1], leaves[2:], jacobian=jacobian)
        (gradient,) = torch.autograd.grad(states.square().sum(), leaves[index])
        torch.testing.assert_close(gradient, expected)


def test_empty_sequences_and_low_precision():
    cell, h0, x, parameters, jacobian = drawn("diagonal_gru")
    states, report = newton_scan(cell, h0, x[:, :0], parameters, jacobian=jacobian)
    assert states.shape == (2, 0, 4)
    assert report == Solve(0, 0.0, fell_back=False)
    low = [tensor.to(torch.bfloat16) for tensor in (h0, x, *parameters)]
    states, report = newton_scan(cell, low[0], low[1], low[2:], jacobian=jacobian)
    assert states.dtype == torch.bfloat16
    assert not report.fell_back
    torch.testing.assert_close(states, reference(*(t.float() for t in low), cell=cell).to(torch.bfloat16))


def test_a_module_is_a_cell_with_its_parameters_named():
    torch.manual_seed(0)
    module = torch.nn.GRUCell(3, 4)
    names = dict(module.named_parameters())

    def cell(h, x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, h))

    x, h = torch.randn(2, 9, 3), torch.zeros(2, 4)
    states, _ = newton_scan(cell, h, x, list(names.values()), jacobian="dense")
    gradients = torch.autograd.grad(states.sum(), list(names.values()))
    loop = []
    for step in x.unbind(1):
        h = module(step, h)
        loop.append(h)
    torch.testing.assert_close(states, torch.stack(loop, 1))
    for ours, theirs in zip(gradients, torch.autograd.grad(torch.stack(loop, 1).sum(), list(names.values())), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_wrong_arguments_are_refused_in_one_sentence():
    cell, h0, x, parameters, _ = drawn("diagonal_gru")

    def run(h0=h0, x=x, cell=cell, **options):
        newton_scan(cell, h0, x, parameters, **options)

    for options, words in (
        ({"jacobian": "banded"}, '"banded"'),
        ({"h0": h0[:1]}, "batch"),
        ({"jacobian": "block2"}, "batch, 2, width"),
        ({"jacobian": "dense", "h0": h0[:, None]}, "batch, width"),
        ({"guess": h0}, "guess of shape"),
        ({"max_steps": 0}, "max_steps"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"cell": lambda h, x, a: h[:, :1]}, "must return rows of shape"),
    ):
        with pytest.raises(ValueError, match=words):
            run(**options)
    assert DIAGONAL is STRUCTURES["diagonal"]
