"""EvoNorm: norm and activation in one, the statistics of one sample (S0) or of a batch (B0).

From "Evolving Normalization-Activation Layers" (2020, 2004.02967).
"""

from __future__ import annotations

from .b0 import SPEC as EVONORM_B0
from .b0 import evonorm_b0
from .s0 import SPEC as EVONORM_S0
from .s0 import evonorm_s0

__all__ = ["EVONORM_B0", "EVONORM_S0", "evonorm_b0", "evonorm_s0"]
