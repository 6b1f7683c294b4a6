"""The two-layer perceptron of the transformer."""

from __future__ import annotations

from torch import Tensor, nn

from ...choices import Domain, OneOf, Real
from ...facts import block
from ...specs import TensorSpec
from ..activations import activation as named_activation
from ..initialise import linear, scaled_width

_KNOBS: dict[str, Domain] = {"ratio": Real(1.0, 4.0, step=0.5), "activation": OneOf(("relu", "gelu", "silu", "squared-relu"))}
_LAYOUTS = ("tokens", "vector")


@block("mlp", "channel", _LAYOUTS, knobs=_KNOBS, paper="Attention Is All You Need (2017, 1706.03762)")
class MLP(nn.Module):
    """``y = W_2 f(W_1 x + b_1) + b_2`` with ``ratio * D`` hidden units; ``activation`` names any registered activation.

    Shapes: [..., D] -> [..., D]. Cost per token: 4 ratio D^2 operations, half as many parameters.
    """

    def __init__(self, spec: TensorSpec, *, ratio: float = 2.0, activation: str = "gelu") -> None:
        super().__init__()
        hidden = scaled_width("mlp", spec.width, ratio)
        self.up, self.down = linear(spec.width, hidden), linear(hidden, spec.width)
        self.activation = named_activation(activation, TensorSpec("vector", (hidden,)))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))
