"""The minimal gated recurrent unit: a GRU whose gates read the input alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ....kernels.gated_scan import min_gru_scan
from ...choices import OneOf
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, linear
from .directions import scan_channels
from .heads import refuse_state

_BOOL = OneOf((True, False))


@block(
    "min-gru",
    "mixer",
    knobs={"expand": OneOf((1, 2)), "positive": _BOOL, "causal": _BOOL},
    paper="Were RNNs All We Needed? (2024, 2410.01201)",
)
class MinGRU(nn.Module):
    """A moving average of candidates whose rate each token sets, so that all steps are one scan.

    ``z_t = sigmoid(W_z x_t + b_z)``, ``h_t = (1 - z_t) h_{t-1} + z_t g(W_h x_t + b_h)``, ``y_t = W_o h_t + b_o`` in
    ``expand * D`` channels. ``positive``: ``g(v) = v + 1/2`` for v >= 0 and ``sigmoid(v)`` below; otherwise ``g(v) = v``.
    With ``causal=False`` one half of the channels runs backwards.
    Shapes: [B, T, D] -> [B, T, D]. State: h, [B, expand * D].
    Cost per token: 6 e D^2 operations, 3 e D^2 parameters for e = ``expand``.
    """

    def __init__(self, spec: TensorSpec, *, expand: int = 1, positive: bool = True, causal: bool = True) -> None:
        super().__init__()
        inner = checked("min-gru", "expand", expand) * spec.width
        self.positive, self.causal = positive, causal
        self.update, self.candidate = linear(spec.width, inner), linear(spec.width, inner)
        self.out = linear(inner, spec.width)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("min-gru", self.causal, state)
        tensors = (self.update(x), self.candidate(x))
        h, last = scan_channels(min_gru_scan, tensors, state, causal=self.causal, positive=self.positive)
        return self.out(h), last, {}
