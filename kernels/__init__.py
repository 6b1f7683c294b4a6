"""Fused maths under the blocks: Triton on CUDA, fast PyTorch elsewhere, plain references as the definition.

Each kernel is a public function with four faces (reference, fast, Triton, and the :class:`~archwright.kernels.spec.KernelSpec`
from which its tests and its benchmark are made). ``dispatch`` chooses by device; ``ARCHWRIGHT_KERNELS`` or ``with use(...)`` pins
the choice. This room imports torch and triton alone, and triton only when a Triton kernel is launched.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {"linear_scan": "scan", "explain": "dispatch", "use": "dispatch", "KERNELS": "spec", "KernelSpec": "spec"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module "archwright.kernels" has no attribute "{name}"')
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
