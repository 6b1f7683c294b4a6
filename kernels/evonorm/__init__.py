"""EvoNorm: norm and activation in one, from "Evolving Normalization-Activation Layers" (2020, 2004.02967)."""

from __future__ import annotations

from .s0 import SPEC as EVONORM_S0
from .s0 import evonorm_s0

__all__ = ["EVONORM_S0", "evonorm_s0"]
