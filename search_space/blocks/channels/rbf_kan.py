"""Kolmogorov-Arnold channel mixer on Gaussian radial basis functions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.kan import kan_linear
from ...choices import Domain, Integer, Real
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, scaled_width

_KNOBS: dict[str, Domain] = {"ratio": Real(0.5, 2.0, step=0.5), "centres": Integer(3, 12)}


class RBFKANLayer(nn.Module):
    """``y = W_b silu(u) + W_s R(u)``, ``R_j(u) = exp(-((u - c_j) / d)^2)`` of every channel, u = LayerNorm(x).

    The m centres c_j are evenly spaced on [-1.5, 1.5] and d is their spacing. Weights start Kaiming-uniform (a = sqrt 5).
    Parameters: inputs * outputs (m + 1) + 2 inputs.
    """

    def __init__(self, inputs: int, outputs: int, *, centres: int = 6) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.base = nn.Linear(inputs, outputs, bias=False)
        self.radial = nn.Linear(inputs * centres, outputs, bias=False)
        self.centres = centres

    def forward(self, x: Tensor) -> Tensor:
        u = self.norm(x)
        radial = self.radial.weight.unflatten(1, (self.centres, -1)).transpose(1, 2)
        return self.base(F.silu(u)) + kan_linear(u, radial, basis="rbf", low=-1.5, high=1.5)


@block(
    "rbf-kan",
    "channel",
    ("tokens", "vector"),
    knobs=_KNOBS,
    paper="Kolmogorov-Arnold Networks are Radial Basis Function Networks (2024, 2405.06721)",
)
class RBFKAN(nn.Module):
    """Two layers in which every edge has a learned function: a sum of Gaussian bumps plus a SiLU.

    See :class:`RBFKANLayer`; the hidden layer has ``ratio * D`` units.
    Shapes: [..., D] -> [..., D]. Cost per token: 4 ratio (centres + 1) D^2 operations, half as many parameters.
    """

    def __init__(self, spec: TensorSpec, *, ratio: float = 1.0, centres: int = 6) -> None:
        super().__init__()
        hidden = scaled_width("rbf-kan", spec.width, ratio)
        checked("rbf-kan", "centres", centres, low=2)
        self.up = RBFKANLayer(spec.width, hidden, centres=centres)
        self.down = RBFKANLayer(hidden, spec.width, centres=centres)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x))
