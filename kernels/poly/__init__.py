"""Polynomial activations: PolyNorm, which normalises each power, and PolyReLU.

From "Polynomial Composition Activations: Unleashing the Dynamics of Large Language Models" (2024, 2411.03884).
"""

from __future__ import annotations

from .norm import SPEC as POLY_NORM
from .norm import poly_norm
from .relu import SPEC as POLY_RELU
from .relu import poly_relu

__all__ = ["POLY_NORM", "POLY_RELU", "poly_norm", "poly_relu"]
