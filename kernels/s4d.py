r"""Diagonal state spaces as convolutions: the kernel of S4D, and a causal convolution by FFT."""

from __future__ import annotations

import torch
from torch import Tensor

from .function import accumulate_dtype


def s4d_kernel(log_dt: Tensor, a: Tensor, c: Tensor, length: int) -> Tensor:
    r"""``k_l = 2 Re sum_n C_n (e^{dt A_n} - 1) / A_n e^{dt A_n l}`` for l = 0 ... length - 1.

    This is the response of ``h' = A h + u``, ``y = 2 Re C h``, held constant between steps of ``dt = exp(log_dt)``: in recurrent
    mode a linear scan with the gates ``e^{dt A}``, the inputs ``(e^{dt A} - 1) / A u`` and the read-out ``2 Re sum_n C_n h_n``.

    Args:
        log_dt: (width,).
        a: A, complex, (width, states) or (states,), of negative real part.
        c: C, complex, (width, states).
        length: how many steps.

    Returns:
        (width, length), real, float32 (float64 for float64 or complex128 arguments). ``(e^{dt A} - 1) / A`` keeps its digits for small
        ``dt A`` and is dt at A = 0.

    Raises:
        ValueError: shapes do not match, or the length is negative. TypeError: A or C is not complex.

    Paper: On the Parameterization and Initialization of Diagonal State Space Models (2022, 2206.11893).
    """
    for name, tensor in (("a", a), ("c", c)):
        if not tensor.is_complex():
            raise TypeError(f'The argument "{name}" of s4d_kernel must be complex. Got {tensor.dtype} instead.')
    if log_dt.dim() != 1 or c.dim() != 2 or c.shape[0] != log_dt.shape[0] or tuple(a.shape) not in ((c.shape[1],), tuple(c.shape)):
        raise ValueError(
            "s4d_kernel needs log_dt (width,), a (width, states) or (states,), and c (width, states). "
            f"Got {tuple(log_dt.shape)}, {tuple(a.shape)} and {tuple(c.shape)}."
        )
    if length < 0:
        raise ValueError(f"s4d_kernel needs a length of at least 0. Got {length!r} instead.")
    real = accumulate_dtype(log_dt, a, c)
    kind = torch.complex128 if real == torch.float64 else torch.complex64
    dt = torch.exp(log_dt.to(real)).unsqueeze(-1)
    step = dt * a.to(kind)
    weight = c.to(kind) * dt * _expm1_over(step)
    powers = torch.exp(step.unsqueeze(-1) * torch.arange(length, dtype=real, device=step.device))
    return 2.0 * torch.einsum("dn,dnl->dl", weight, powers).real


def _expm1_over(z: Tensor) -> Tensor:
    """(e^z - 1) / z for complex z, by its series where the difference would cancel."""
    small = z.abs() < 0.3
    safe = torch.where(small, 1.0, z)
    near = torch.where(small, z, 0.0)
    series = torch.ones_like(z)
    for k in range(15, 1, -1):
        series = 1.0 + near * series / k
    return torch.where(small, series, (torch.exp(safe) - 1.0) / safe)


def fft_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """``y_t = sum_{l <= t} kernel_l x_{t - l}`` along the steps of every channel, by FFTs of twice the length so that nothing wraps round.

    Args:
        x: (batch, steps, width), real.
        kernel: (width, steps), real.

    Returns:
        (batch, steps, width) in the dtype of ``x``; computed in float32 or better.

    Raises:
        ValueError: shapes do not match.

    Paper: Combining Recurrent, Convolutional, and Continuous-time Models with Linear State-Space Layers (2021, 2110.13985).
    """
    if x.dim() != 3 or tuple(kernel.shape) != (x.shape[2], x.shape[1]):
        raise ValueError(
            f"fft_convolution needs x (batch, steps, width) and kernel (width, steps). Got {tuple(x.shape)} and {tuple(kernel.shape)}."
        )
    if x.numel() == 0:
        return x * kernel.t().to(x.dtype)
    steps, dtype = x.shape[1], accumulate_dtype(x, kernel)
    spectrum = torch.fft.rfft(x.to(dtype), n=2 * steps, dim=1) * torch.fft.rfft(kernel.to(dtype).t(), n=2 * steps, dim=0)
    return torch.fft.irfft(spectrum, n=2 * steps, dim=1)[:, :steps].to(x.dtype)
