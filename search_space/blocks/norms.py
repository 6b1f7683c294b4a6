"""Norms: each keeps the shape and layout of its input and couples no two samples, nor two tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...kernels.evonorm import evonorm_s0
from ..choices import OneOf, Real
from ..facts import block
from ..specs import TensorSpec
from .initialise import checked, chosen, largest_divisor

_LAYOUTS = ("tokens", "image", "vector")
_AFFINE = ("none", "gain", "gain-bias")
_EPS = Real(1e-6, 1e-3, log=True)


def _per_channel(spec: TensorSpec, value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((spec.width,), value))


class _ChannelNorm(nn.Module, ABC):
    """Shared by the norms over the channels of one token or pixel: gain, bias, and where the channel axis is."""

    def __init__(self, spec: TensorSpec, gain: bool, bias: bool, eps: float) -> None:
        super().__init__()
        self.width, self.eps, self.axis = spec.width, eps, 1 if spec.layout == "image" else -1
        self.gain = _per_channel(spec, 1.0) if gain else None
        self.bias = _per_channel(spec, 0.0) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x.movedim(self.axis, -1)).movedim(-1, self.axis)

    @abstractmethod
    def normalised(self, x: Tensor) -> Tensor:
        """The norm over the last axis, gain and bias included."""


@block("layernorm", "norm", _LAYOUTS, knobs={"affine": OneOf(_AFFINE), "eps": _EPS}, paper="Layer Normalization (2016, 1607.06450)")
class LayerNorm(_ChannelNorm):
    """Centre and scale the channels of each token (each pixel of an image) to mean 0 and variance 1, then gain and bias.

    ``y = g (x - mean(x)) / sqrt(var(x) + eps) + b`` over the D channels; ``affine`` chooses gain and bias, gain alone, or none.
    Cost per token: about 8 D operations, 2 D parameters.
    """

    def __init__(self, spec: TensorSpec, *, affine: str = "gain-bias", eps: float = 1e-5) -> None:
        chosen("layernorm", "affine", affine, _AFFINE)
        super().__init__(spec, affine != "none", affine == "gain-bias", eps)

    def normalised(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.width,), self.gain, self.bias, self.eps)


@block("rmsnorm", "norm", _LAYOUTS, keeps_zero=True, knobs={"eps": _EPS}, paper="Root Mean Square Layer Normalization (2019, 1910.07467)")
class RMSNorm(_ChannelNorm):
    """Scale the channels of each token to root mean square 1, then gain; nothing is centred.

    ``y = g x / sqrt(mean(x^2) + eps)`` over the D channels. Cost per token: about 4 D operations, D parameters.
    """

    def __init__(self, spec: TensorSpec, *, eps: float = 1e-5) -> None:
        super().__init__(spec, gain=True, bias=False, eps=eps)

    def normalised(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (self.width,), self.gain, self.eps)


@block(
    "evonorm-s0",
    "norm",
    _LAYOUTS,
    knobs={"variant": OneOf(("s0", "s1", "s2")), "groups": OneOf((1, 2, 4, 8, 32))},
    paper="Evolving Normalization-Activation Layers (2020, 2004.02967)",
)
class EvoNormS0(nn.Module):
    """A norm and an activation in one, found by search: a swish divided by the spread of its group of channels.

    ``s0: y = g x sigmoid(v x) / sqrt(var + eps) + b``; ``s1`` fixes v = 1; ``s2`` fixes v = 1 and divides by the root mean square.
    On images the statistics of a group run over its channels and all pixels of the sample; on tokens and vectors over the group's
    channels of one token alone, so that nothing leaks through time. ``groups`` is lowered until it divides the width and leaves
    8 channels or more in each. Cost per token: about 10 D operations, 3 D parameters (s1, s2: 2 D).
    """

    def __init__(self, spec: TensorSpec, *, variant: str = "s0", groups: int = 8, eps: float = 1e-5) -> None:
        super().__init__()
        self.variant = chosen("evonorm-s0", "variant", variant, ("s0", "s1", "s2"))
        self.groups = largest_divisor(spec.width, checked("evonorm-s0", "groups", groups), smallest_group=8)
        self.image, self.eps = spec.layout == "image", eps
        self.gain, self.bias = _per_channel(spec, 1.0), _per_channel(spec, 0.0)
        self.slope = _per_channel(spec, 1.0) if variant == "s0" else None

    def forward(self, x: Tensor) -> Tensor:
        rows = x if self.image else x.reshape(-1, x.shape[-1])
        y = evonorm_s0(rows, self.slope, self.gain, self.bias, groups=self.groups, eps=self.eps, centred=self.variant != "s2")
        return y.reshape(x.shape)
