"""Diagonal state spaces: as a convolution and as a recurrence they are the same."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import fft_convolution, linear_scan, s4d_kernel


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def system(width=3, states=8):
    """S4D-Lin: real parts of -1/2, evenly spaced imaginary parts."""
    a = torch.complex(torch.full((states,), -0.5, dtype=torch.float64), torch.pi * torch.arange(states, dtype=torch.float64))
    return -3.0 + 0.5 * normal(width), a.expand(width, states).clone(), torch.complex(normal(width, states), normal(width, states, seed=1))


def test_convolution_and_recurrence_agree():
    log_dt, a, c = system()
    u = normal(2, 64, 3, seed=2)
    dt = log_dt.exp()[:, None]
    gates = torch.exp(dt * a)
    entering = ((gates - 1) / a) * u.unsqueeze(-1)
    h, _ = linear_scan(gates.flatten().expand(2, 64, 24), entering.flatten(2))
    recurrent = 2 * (c * h.unflatten(-1, (3, 8))).sum(-1).real
    convolved = fft_convolution(u, s4d_kernel(log_dt, a, c, 64))
    torch.testing.assert_close(convolved, recurrent, rtol=1e-10, atol=1e-10)


def test_the_convolution_is_causal_and_does_not_wrap_round():
    x, kernel = normal(2, 33, 3), normal(3, 33, seed=1)
    expected = torch.stack([sum(kernel[:, lag] * x[:, t - lag] for lag in range(t + 1)) for t in range(33)], 1)
    torch.testing.assert_close(fft_convolution(x, kernel), expected)
    assert fft_convolution(x.bfloat16(), kernel.float()).dtype == torch.bfloat16
    assert fft_convolution(x[:, :0], kernel[:, :0]).shape == (2, 0, 3)


def test_half_the_step_and_every_input_twice_is_nearly_the_same_output():
    log_dt, a, c = system()
    u = normal(1, 50, 3, seed=2)
    once = fft_convolution(u, s4d_kernel(log_dt, a, c, 50))
    twice = fft_convolution(u.repeat_interleave(2, 1), s4d_kernel(log_dt - torch.log(torch.tensor(2.0)), a, c, 100))[:, 1::2]
    torch.testing.assert_close(twice, once)


def test_the_kernel_at_a_hand_computed_point_and_at_a_of_zero():
    one = torch.ones(1, 1, dtype=torch.complex128)
    kernel = s4d_kernel(torch.zeros(1, dtype=torch.float64), -one, one, 3)
    decay = torch.exp(-torch.arange(3, dtype=torch.float64))
    torch.testing.assert_close(kernel, 2 * (1 - decay[1]) * decay[None])
    still = s4d_kernel(torch.zeros(1, dtype=torch.float64), 0 * one, one, 3)
    torch.testing.assert_close(still, torch.full((1, 3), 2.0, dtype=torch.float64))


def test_small_steps_keep_their_digits():
    log_dt, a, c = system()
    exact = s4d_kernel(log_dt - 12, a, c, 5)
    single = s4d_kernel((log_dt - 12).float(), a.to(torch.complex64), c.to(torch.complex64), 5)
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)


def test_gradients():
    log_dt, a, c = (tensor.requires_grad_() for tensor in system(2, 3))
    assert torch.autograd.gradcheck(lambda *args: s4d_kernel(*args, 6), (log_dt, a, c))
    assert torch.autograd.gradcheck(fft_convolution, (normal(2, 5, 3).requires_grad_(), normal(3, 5).requires_grad_()))


def test_wrong_arguments_are_refused_in_one_sentence():
    log_dt, a, c = system()
    with pytest.raises(TypeError, match='"a" of s4d_kernel must be complex'):
        s4d_kernel(log_dt, a.real, c, 4)
    with pytest.raises(ValueError, match=r"log_dt \(width,\)"):
        s4d_kernel(log_dt[:2], a, c, 4)
    with pytest.raises(ValueError, match="at least 0"):
        s4d_kernel(log_dt, a, c, -1)
    with pytest.raises(ValueError, match=r"kernel \(width, steps\)"):
        fft_convolution(torch.zeros(2, 4, 3), torch.zeros(4, 3))
