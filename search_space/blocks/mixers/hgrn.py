"""The hierarchically gated recurrence: forget gates that cannot fall below a floor, which is higher in higher layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.gated_scan import hgrn_scan
from ...choices import Domain, OneOf
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, chosen, linear
from .directions import complex_from, parts_of, scan_channels
from .heads import refuse_state

_BOOL = OneOf((True, False))
_FLOORS = ("learned", "fixed", "none")
_KNOBS: dict[str, Domain] = {"complex": _BOOL, "floor": OneOf(_FLOORS), "expand": OneOf((1, 2)), "causal": _BOOL}


@block(
    "hgrn",
    "mixer",
    knobs=_KNOBS,
    paper="Hierarchically Gated Recurrent Neural Network for Sequence Modeling (2023, 2311.04823)",
)
class HGRN(nn.Module):
    """A gated linear recurrence with short memory in low layers and long memory in high ones.

    ``f_t = floor + (1 - floor) sigmoid(W_f x_t + b_f)``, ``h_t = f_t exp(i theta) h_{t-1} + (1 - f_t) c_t``,
    ``y_t = W_o LayerNorm(sigmoid(W_g x_t + b_g) * [Re h_t, Im h_t]) + b_o`` in ``expand * D`` channels, where
    ``c_t = silu(W_r x_t + b_r) + i silu(W_i x_t + b_i)`` and theta [expand * D] is learned from ``10000 ** (-j / (expand * D))``.
    ``complex=False``: theta is 0 and c and h are real.

    The floor of layer k of L (``layer``, ``layers``) is ``(k - 1) / L`` where it is ``fixed``, which is where the paper's start. A
    ``learned`` one starts there too and moves, per channel, up to half a step to either side, so that floors rise with depth
    whatever is learned; that of the first layer is exactly 0. (The paper learns all of them as sums of one softmax over the layers,
    which needs a parameter that the layers share.) ``none`` is 0 in every layer.
    With ``causal=False`` one half of the channels runs backwards.
    Shapes: [B, T, D] -> [B, T, D]. State: h, [B, expand * D], complex unless ``complex=False``.
    Cost per token: 14 e D^2 operations, 7 e D^2 parameters for e = ``expand`` (``complex=False``: 8 and 4).
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        complex: bool = True,
        floor: str = "learned",
        expand: int = 1,
        layer: int = 1,
        layers: int = 1,
        causal: bool = True,
    ) -> None:
        super().__init__()
        if checked("hgrn", "layer", layer) > checked("hgrn", "layers", layers):
            raise BuildError(f'The "layer" parameter of "hgrn" counts from 1 to "layers", which is {layers}. Got {layer} instead.')
        inner = checked("hgrn", "expand", expand) * spec.width
        both = 2 * inner if complex else inner
        self.causal, self.layer, self.layers = causal, layer, layers
        self.floor = chosen("hgrn", "floor", floor, _FLOORS)
        self.forget, self.candidate = linear(spec.width, inner), linear(spec.width, both)
        self.gate, self.norm, self.out = linear(spec.width, both), nn.LayerNorm(both), linear(both, spec.width)
        self.theta = nn.Parameter(10000.0 ** (-torch.arange(inner) / inner)) if complex else None
        self.shift = nn.Parameter(torch.zeros(inner)) if floor == "learned" and layer > 1 else None

    def floors(self) -> Tensor | None:
        """What the forget gates cannot fall below, [expand * D]; None is 0."""
        if self.floor == "none" or self.layer == 1:
            return None
        shift = self.forget.weight.new_zeros(self.forget.out_features) if self.shift is None else torch.sigmoid(self.shift) - 0.5
        return (self.layer - 1 + shift) / self.layers

    def states(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """All h, [B, T, expand * D], and the last one."""
        value = F.silu(self.candidate(x))
        if self.theta is not None:
            value = complex_from(*value.chunk(2, dim=-1))
        return scan_channels(hgrn_scan, (self.forget(x), value, self.floors(), self.theta), state, causal=self.causal)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("hgrn", self.causal, state)
        h, last = self.states(x, state)
        return self.out(self.norm(torch.sigmoid(self.gate(x)) * parts_of(h))), last, {}
