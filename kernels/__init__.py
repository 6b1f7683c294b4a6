"""Fused maths under the blocks: Triton on CUDA, fast PyTorch elsewhere, plain references as the definition.

Each kernel is a public function with four faces (reference, fast, Triton, and the :class:`~archwright.kernels.spec.KernelSpec`
from which its tests and its benchmark are made). ``dispatch`` chooses by device; ``ARCHWRIGHT_KERNELS`` or ``with use(...)`` pins
the choice. This room imports torch and triton alone, and triton only when a Triton kernel is launched.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_HOMES = {
    "KERNELS": "spec",
    "KernelSpec": "spec",
    "explain": "dispatch",
    "use": "dispatch",
    "linear_scan": "scan",
    "rg_lru_scan": "gated_scan",
    "min_gru_scan": "gated_scan",
    "hgrn_scan": "gated_scan",
    "gate_loop_scan": "gated_scan",
    "lru_scan": "gated_scan",
    "s4d_kernel": "s4d",
    "fft_convolution": "s4d",
    "norm_act": "norm_act",
    "glu": "glu",
    "relu2": "relu2",
    "step_activation": "step_activation",
    "poly_norm": "poly",
    "poly_relu": "poly",
    "evonorm_s0": "evonorm",
    "evonorm_b0": "evonorm",
    "rational": "rational",
    "hyper_read": "hyper_connection",
    "hyper_write": "hyper_connection",
    "sinkhorn": "sinkhorn",
    "orthogonal_residual": "orthogonal_residual",
    "newton_scan": "newton",
    "diagonal_rnn": "diagonal_rnn",
    "rnn": "rnn",
    "linear_attention": "linear_attention",
    "delta_rule": "delta_rule",
    "kan_linear": "kan",
    "entmax": "entmax",
    "sparsemax": "entmax",
    "hopfield": "hopfield",
    "local_attention": "attention",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module "archwright.kernels" has no attribute "{name}"')
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)


class _Room(ModuleType):
    """Importing the submodule ``glu`` sets the attribute ``glu``, which is to be the function of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
