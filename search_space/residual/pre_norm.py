"""The pre-norm rule: x <- x + f(norm(x)), one norm at the very end."""

from __future__ import annotations

from ..facts import residual
from .rule import Rule


@residual("pre-norm", norm="branch", paper="Identity Mappings in Deep Residual Networks (2016, 1603.05027)")
class PreNorm(Rule):
    """x <- x + f(norm(x)); final: norm(x). The identity path is untouched: x_L = x_0 + sum of the branch outputs."""
