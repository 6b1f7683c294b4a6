"""Group-rational Kolmogorov-Arnold channel mixer."""

from __future__ import annotations

from torch import Tensor, nn

from ...choices import Domain, OneOf, Real
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, chosen, linear, scaled_width
from .rational import GroupRational

_DEGREES = ("3/2", "5/4", "7/6")
_INITS = ("identity-silu", "identity-gelu", "gelu-gelu")
# 1 / E[F(x)^2] for x ~ N(0, 1): the variance of W that keeps the variance of x.
_VARIANCE = {"identity": 1.0, "silu": 2.81, "gelu": 2.35}
_KNOBS: dict[str, Domain] = {
    "ratio": Real(1.0, 4.0, step=0.5),
    "groups": OneOf((1, 4, 8, 16)),
    "degree": OneOf(_DEGREES),
    "init": OneOf(_INITS),
}


class GRKANLayer(nn.Sequential):
    """``y_j = sum_i w_ji F_group(i)(x_i) + b_j`` with weights that keep the variance of N(0, 1) inputs.

    Parameters: inputs * outputs + outputs + groups (m + n + 1).
    """

    def __init__(self, inputs: int, outputs: int, *, groups: int = 8, degree: int = 4, function: str = "silu") -> None:
        rational = GroupRational(inputs, groups=groups, degree=degree, function=function)
        super().__init__(rational, linear(inputs, outputs, variance=_VARIANCE[function]))


@block("gr-kan", "channel", ("tokens", "vector"), knobs=_KNOBS, paper="Kolmogorov-Arnold Transformer (2024, 2409.10594)")
class GRKAN(nn.Module):
    """Two layers of learned rational functions, each shared by a group of channels and followed by a linear map.

    ``y = W_2 F_2(W_1 F_1(x) + b_1) + b_2`` with ``ratio * D`` hidden units and, for ``degree`` m/n,
    ``F(x) = (a_0 + ... + a_m x^m) / (1 + |b_1 x + ... + b_n x^n|)``; ``init`` names what F_1 and F_2 start as.
    ``groups`` is lowered until it divides the width.
    Shapes: [..., D] -> [..., D]. Cost per token: 4 ratio D^2 + 2 (m + n) (1 + ratio) D operations.
    """

    def __init__(self, spec: TensorSpec, *, ratio: float = 2.0, groups: int = 8, degree: str = "5/4", init: str = "identity-silu") -> None:
        super().__init__()
        hidden = scaled_width("gr-kan", spec.width, ratio)
        checked("gr-kan", "groups", groups)
        below = int(chosen("gr-kan", "degree", degree, _DEGREES)[-1])
        first, second = chosen("gr-kan", "init", init, _INITS).split("-")
        self.up = GRKANLayer(spec.width, hidden, groups=groups, degree=below, function=first)
        self.down = GRKANLayer(hidden, spec.width, groups=groups, degree=below, function=second)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x))
