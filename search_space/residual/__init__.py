"""Residual rules: how the output of a branch joins the stream that runs through the layers.

A rule is ``rule(spec, total, **knobs)`` for tensors of ``spec`` and ``total`` writes, with five verbs: ``init`` makes the
stream from a tensor, ``read`` gives a branch its input, ``write`` adds a branch's output, ``skip`` passes a branch that is
dropped, ``final`` turns the stream back into a tensor. Importing this package registers the rules that come with Archwright.
"""

from __future__ import annotations

from . import hyper_connections, post_norm, pre_norm, rezero, value_residual
from .rule import Rule, Write

__all__ = ["Rule", "Write", "hyper_connections", "post_norm", "pre_norm", "rezero", "value_residual"]
