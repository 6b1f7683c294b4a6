"""The linear recurrent unit: a complex diagonal recurrence that is the same at every step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.gated_scan import lru_scan
from ...choices import Domain, Integer, OneOf, Real
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, linear
from .directions import complex_from, parts_of, scan_channels
from .heads import refuse_state

_KNOBS: dict[str, Domain] = {
    "states": Integer(16, 512, log=True),
    "rmin": Real(0.0, 0.99),
    "rmax": Real(0.9, 0.9999),
    "phase_max": Real(0.03, 6.28, log=True),
    "causal": OneOf((True, False)),
}


class LinearRecurrentUnit(nn.Module):
    """``h_t = lam h_{t-1} + exp(log_gamma) B u_t``, ``y_t = Re(C h_t) + D u_t`` with ``lam = exp(-exp(nu) + i exp(log_theta))``.

    lam starts uniform by area on the ring between the radii ``rmin`` and ``rmax``, with angles uniform up to ``phase_max``;
    gamma starts as ``sqrt(1 - |lam|^2)``, so that white inputs give states of the variance of ``B u``. Linear in u and, forwards,
    the same at every time. Real and imaginary parts of B and C are kept as real weights. State: h, complex, [B, states].
    """

    def __init__(self, width: int, states: int, *, rmin: float, rmax: float, phase_max: float, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        squared = (torch.rand(states) * (rmax**2 - rmin**2) + rmin**2).clamp(1e-9, 1 - 1e-6)
        self.nu = nn.Parameter(torch.log(-0.5 * torch.log(squared)))
        self.log_theta = nn.Parameter(torch.log(phase_max * torch.rand(states).clamp(min=1e-4)))
        self.log_gamma = nn.Parameter(0.5 * torch.log1p(-squared))
        self.enter = linear(width, 2 * states, bias=False, variance=0.5)
        self.leave = linear(2 * states, width, bias=False, variance=2.0)
        self.skip = nn.Parameter(torch.randn(width))

    def forward(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        tensors = (complex_from(*self.enter(u).chunk(2, dim=-1)), self.nu, self.log_theta.exp(), self.log_gamma)
        h, last = scan_channels(lru_scan, tensors, state, causal=self.causal)
        return self.leave(parts_of(h)) + self.skip * u, last


@block("lru", "mixer", knobs=_KNOBS, paper="Resurrecting Recurrent Neural Networks for Long Sequences (2023, 2303.06349)")
class LRU(nn.Module):
    """A linear recurrence that turns and fades each of its states at a rate of its own, then a gate.

    ``z_t = gelu(LRU(x)_t)``, ``y_t = (W_1 z_t + b_1) * sigmoid(W_2 z_t + b_2)``; see :class:`LinearRecurrentUnit`. For long
    ranges take ``rmin=0.9``, ``rmax=0.999`` and a ``phase_max`` of 0.3 or less. With ``causal=False`` one half of the states runs
    backwards.
    Shapes: [B, T, D] -> [B, T, D]. State: h, complex, [B, states].
    Cost per token: 8 N D + 4 D^2 operations, 4 N D + 2 D^2 + 3 N parameters for N = ``states``.
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        states: int = 64,
        rmin: float = 0.0,
        rmax: float = 0.9999,
        phase_max: float = 2 * math.pi,
        causal: bool = True,
    ) -> None:
        super().__init__()
        for name, value in {"rmin": rmin, "rmax": rmax}.items():
            if not 0 <= value <= 1:
                raise BuildError(f'The "{name}" parameter of "lru" is a radius in [0, 1]. Got {value!r} instead.')
        if not phase_max > 0:
            raise BuildError(f'The "phase_max" parameter of "lru" must be above 0. Got {phase_max!r} instead.')
        states = checked("lru", "states", states)
        self.causal = causal
        self.recurrence = LinearRecurrentUnit(spec.width, states, rmin=rmin, rmax=rmax, phase_max=phase_max, causal=causal)
        self.value, self.gate = linear(spec.width, spec.width), linear(spec.width, spec.width)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("lru", self.causal, state)
        z, last = self.recurrence(x, state)
        z = F.gelu(z)
        return self.value(z) * torch.sigmoid(self.gate(z)), last, {}
