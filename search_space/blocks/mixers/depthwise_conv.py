"""Depthwise convolution over the tokens, then a map across channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...choices import OneOf
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, linear
from .heads import refuse_state
from .short_conv import ShortConv


@block(
    "depthwise-conv",
    "mixer",
    knobs={"kernel_size": OneOf((3, 5, 7)), "causal": OneOf((True, False))},
    paper="Xception: Deep Learning with Depthwise Separable Convolutions (2016, 1610.02357)",
)
class DepthwiseConv(nn.Module):
    """Each token sees its neighbours, channel by channel; a linear map then mixes the channels.

    ``u_t = sum_j w_j * x_{t-k+1+j} + b`` (causal; with ``causal=False`` centred on t), ``y_t = W_o u_t``.
    Shapes: [B, T, D] -> [B, T, D]. State: the last k - 1 inputs, [B, k - 1, D].
    Cost per token: 2 D^2 + 2 k D operations, D^2 + (k + 1) D parameters.
    """

    def __init__(self, spec: TensorSpec, *, kernel_size: int = 5, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        self.conv = ShortConv(spec.width, checked("depthwise-conv", "kernel_size", kernel_size), causal=causal)
        self.out = linear(spec.width, spec.width, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("depthwise-conv", self.causal, state)
        y, past = self.conv(x, state)
        return self.out(y), past if self.causal else None, {}
