"""The gated scans beyond their specs: gates at their ends, special cases that are other recurrences, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from archwright.kernels import KERNELS, gate_loop_scan, hgrn_scan, linear_scan, lru_scan, min_gru_scan, rg_lru_scan
from archwright.kernels.gated_scan.specs import Case
from archwright.testing.kernel_laws import draw

NAMES = ["rg_lru_scan", "min_gru_scan", "hgrn_scan", "gate_loop_scan", "lru_scan"]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts(args, first, last):
    """The steps from ``first`` to ``last`` of what has steps."""
    return [arg[:, first:last] if arg is not None and arg.dim() == 3 else arg for arg in args]


@pytest.mark.parametrize("name", NAMES)
def test_two_halves_with_the_state_passed_are_the_whole(name):
    spec = KERNELS[name]
    inputs = draw(spec, Case(2, 41, 3, state=True), torch.float64)
    whole, last = spec.public(*inputs.args, **inputs.options)
    early, state = spec.public(*parts(inputs.args, 0, 13), **inputs.options)
    late, final = spec.public(*parts(inputs.args, 13, 41)[:-1], state, **inputs.options)
    torch.testing.assert_close(torch.cat([early, late], 1), whole)
    torch.testing.assert_close(final, last)


@pytest.mark.parametrize("name", NAMES)
def test_a_later_input_changes_no_earlier_state(name):
    spec = KERNELS[name]
    inputs = draw(spec, Case(2, 41, 3, state=True))
    before, _ = spec.public(*inputs.args, **inputs.options)
    changed = [arg.clone() if arg is not None else None for arg in inputs.args]
    for arg in changed:
        if arg is not None and arg.dim() == 3:
            arg[:, 20] += 1
    after, _ = spec.public(*changed, **inputs.options)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20], after[:, 20])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_gates_at_exactly_zero_and_one_are_finite_with_their_gradients(name, dtype):
    spec = KERNELS[name]
    inputs = draw(spec, Case(2, 300, 4, state=True, extreme=True), dtype)
    args = [arg.requires_grad_() if arg is not None else None for arg in inputs.args]
    h, last = spec.public(*args, **inputs.options)
    gradients = torch.autograd.grad([h, last], [arg for arg in args if arg is not None], [torch.ones_like(h), torch.ones_like(last)])
    assert all(torch.isfinite(tensor).all() for tensor in (h, last, *gradients))


def test_rg_lru_with_a_closed_recurrence_gate_copies_the_state_and_ignores_the_input():
    h0, u = normal(2, 3), normal(2, 20, 3, seed=1)
    h, last = rg_lru_scan(torch.full_like(u, -2000.0), u, u, torch.full((3,), 3.0, dtype=u.dtype), h0)
    torch.testing.assert_close(h, h0[:, None].expand_as(h), rtol=0, atol=1e-9)
    torch.testing.assert_close(last, h0, rtol=0, atol=1e-9)


def test_rg_lru_under_constant_gates_stays_within_its_bound_and_keeps_unit_variance():
    steps, width = 400, 512
    u = normal(1, steps, width)
    zeros, log_odds = torch.zeros_like(u), torch.full((width,), 3.0, dtype=u.dtype)
    a = math.exp(-8 * math.log1p(math.exp(-3)) / 2)
    h, _ = rg_lru_scan(zeros, torch.full_like(u, 2000.0), u, log_odds)
    assert abs(h[:, 200:].var().item() - 1) < 0.05
    bounded, _ = rg_lru_scan(zeros, torch.full_like(u, 2000.0), u.sign(), log_odds)
    assert bounded.abs().max() <= math.sqrt((1 + a) / (1 - a)) * (1 + 1e-12)
    constant, _ = rg_lru_scan(zeros, torch.full_like(u, 2000.0), torch.ones_like(u), log_odds)
    assert constant.max() > 0.999 * math.sqrt((1 + a) / (1 - a))


def test_rg_lru_gradient_is_exact_where_the_gate_is_almost_closed():
    """Near a = 1 the state takes sqrt(2 c softplus r') u; its slope in the logit r is half of itself."""
    for logit in (-30.0, -60.0):
        r = torch.full((1, 1, 1), logit, dtype=torch.float32, requires_grad=True)
        h, _ = rg_lru_scan(r, torch.full((1, 1, 1), 2000.0), torch.ones(1, 1, 1), torch.tensor([3.0]))
        (slope,) = torch.autograd.grad(h.sum(), r)
        if logit == -30.0:
            torch.testing.assert_close(slope, h.detach() / 2, rtol=1e-4, atol=0)
        assert torch.isfinite(slope).all()


def test_min_gru_is_the_scan_of_its_front_end():
    update, candidate, h0 = normal(2, 20, 3), normal(2, 20, 3, seed=1), normal(2, 3, seed=2)
    z = torch.sigmoid(update)
    value = torch.where(candidate >= 0, candidate + 0.5, torch.sigmoid(candidate))
    torch.testing.assert_close(min_gru_scan(update, candidate, h0)[0], linear_scan(1 - z, z * value, h0)[0])
    torch.testing.assert_close(min_gru_scan(update, candidate, h0, positive=False)[0], linear_scan(1 - z, z * candidate, h0)[0])
    assert (min_gru_scan(update, candidate)[0] > 0).all()


def test_hgrn_without_phase_and_with_a_real_value_is_the_real_recurrence():
    forget, value, floor, h0 = normal(2, 20, 3), normal(2, 20, 3, seed=1), torch.sigmoid(normal(3)), normal(2, 3, seed=2)
    gate = floor + (1 - floor) * torch.sigmoid(forget)
    expected, _ = linear_scan(gate, (1 - gate) * value, h0)
    torch.testing.assert_close(hgrn_scan(forget, value, floor, None, h0)[0], expected)
    turned, _ = hgrn_scan(forget, value, floor, torch.zeros(3, dtype=torch.float64), h0)
    torch.testing.assert_close(turned, expected + 0j)
    with_complex_state, _ = hgrn_scan(forget, value, floor, None, h0 + 0j)
    torch.testing.assert_close(with_complex_state, expected + 0j)


@pytest.mark.parametrize("floor", [0.0, 0.9, 1.0])
def test_hgrn_stays_within_its_largest_value(floor):
    value = torch.complex(normal(2, 200, 3), normal(2, 200, 3, seed=1))
    h, _ = hgrn_scan(3 * normal(2, 200, 3, seed=2), value, torch.full((3,), floor, dtype=torch.float64), 3 * normal(3, seed=3))
    assert (h.abs() <= value.abs().cummax(1).values.amax(1, keepdim=True) * (1 + 1e-12)).all()


def test_gate_loop_at_fixed_gates_is_the_lru():
    u, nu, theta = normal(2, 30, 3), normal(3, seed=1) - 2, normal(3, seed=2)
    logit = torch.logit(torch.exp(-torch.exp(nu))).expand_as(u)
    looped, _ = gate_loop_scan(logit, theta.expand_as(u), torch.ones_like(u), u)
    unit, _ = lru_scan(u, nu, theta, torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(looped, unit)


def test_gate_loop_without_phase_is_the_real_recurrence():
    magnitude, key, value = normal(2, 30, 3), normal(2, 30, 3, seed=1), normal(2, 30, 3, seed=2)
    h, _ = gate_loop_scan(magnitude, torch.zeros_like(key), key, value, input_gate=True)
    expected, _ = linear_scan(torch.sigmoid(magnitude), torch.sigmoid(-magnitude) * key * value)
    torch.testing.assert_close(h, expected + 0j)


def test_lru_is_a_convolution_with_the_powers_of_its_gate():
    u, nu, theta, log_gamma = normal(2, 64, 3), normal(3, seed=1) - 2, normal(3, seed=2), normal(3, seed=3)
    gate = torch.polar(torch.exp(-torch.exp(nu)), theta)
    kernel = gate ** torch.arange(64)[:, None] * torch.exp(log_gamma)
    product = torch.fft.fft(kernel, n=128, dim=0) * torch.fft.fft(u + 0j, n=128, dim=1)
    expected = torch.fft.ifft(product, dim=1)[:, :64]
    torch.testing.assert_close(lru_scan(u, nu, theta, log_gamma)[0], expected, rtol=1e-6, atol=1e-6)


def test_lru_is_linear_and_does_not_depend_on_the_time():
    u, v, nu, theta = normal(1, 40, 3), normal(1, 40, 3, seed=4), normal(3, seed=1) - 2, normal(3, seed=2)
    gamma = torch.zeros(3, dtype=torch.float64)
    of_u, of_v = lru_scan(u, nu, theta, gamma)[0], lru_scan(v, nu, theta, gamma)[0]
    torch.testing.assert_close(lru_scan(2 * u - v, nu, theta, gamma)[0], 2 * of_u - of_v)
    later = torch.cat([torch.zeros_like(u[:, :7]), u[:, :-7]], 1)
    torch.testing.assert_close(lru_scan(later, nu, theta, gamma)[0][:, 7:], of_u[:, :-7])


def test_lru_normalised_by_its_gate_keeps_the_variance_of_white_noise():
    magnitude = torch.tensor([0.5, 0.8, 0.9], dtype=torch.float64)
    u = normal(256, 400, 3)
    log_gamma = 0.5 * torch.log1p(-(magnitude**2))
    h, _ = lru_scan(u, torch.log(-torch.log(magnitude)), normal(3), log_gamma)
    assert ((h[:, 100:].abs().square().mean((0, 1)) - 1).abs() < 0.05).all()


def test_reverse_is_running_the_flipped_sequence():
    magnitude, phase, key, value = (normal(2, 20, 3, seed=seed) for seed in range(4))
    backwards, first = gate_loop_scan(magnitude, phase, key, value, reverse=True)
    forwards, last = gate_loop_scan(*(t.flip(1) for t in (magnitude, phase, key, value)))
    torch.testing.assert_close(backwards, forwards.flip(1))
    torch.testing.assert_close(first, last)


def test_wrong_arguments_are_refused_in_one_sentence():
    x, vector = torch.zeros(2, 4, 3), torch.zeros(3)
    for call, error, words in (
        (lambda: rg_lru_scan(x, x[:, :3], x, vector), ValueError, r'"entry" of rg_lru_scan must have the shape \(2, 4, 3\)'),
        (lambda: rg_lru_scan(x, x, x, torch.zeros(4)), ValueError, r'"log_odds" of rg_lru_scan must have the shape \(3,\)'),
        (lambda: min_gru_scan(x[0], x[0]), ValueError, r'"update" of min_gru_scan must be \(batch, steps, width\)'),
        (lambda: hgrn_scan(x, x, None, None, x), ValueError, r'"h0" of hgrn_scan must have the shape \(2, 3\)'),
        (lambda: gate_loop_scan(x, x, x + 0j, x), TypeError, '"key" of gate_loop_scan must be real floating point'),
        (lambda: lru_scan(x.long(), vector, vector, vector), TypeError, '"u" of lru_scan must be floating point or complex'),
    ):
        with pytest.raises(error, match=words):
            call()
