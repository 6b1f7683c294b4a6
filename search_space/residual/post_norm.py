"""The post-norm rule: x <- norm(x + f(x))."""

from __future__ import annotations

from ..facts import residual
from .rule import Rule


@residual("post-norm", norm="after", paper="Deep Residual Learning for Image Recognition (2015, 1512.03385)")
class PostNorm(Rule):
    """x <- norm(x + f(x)), as in the first transformer; final: x, which is normed already."""
