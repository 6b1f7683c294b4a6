"""The ``compile`` backend: a kernel's definition through ``torch.compile``, for long trainings on a machine with a C++ compiler."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .spec import Implementation, KernelSpec


@cache
def _compiled(name: str, formula: Implementation) -> Implementation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the compiler imports parts of torch that torch has deprecated
        importlib.import_module("torch._inductor.compile_fx")
    function: Implementation = torch.compile(formula, dynamic=False)
    return function


def compiled(spec: KernelSpec) -> Implementation:
    """The definition (or ``spec.compilable``) compiled once per shape; the first call of each takes seconds. Never chosen by ``auto``."""
    function = _compiled(spec.name, spec.compilable or spec.reference)

    def run(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return run


def in_parts(x: Tensor) -> Tensor:
    """x (..., width) as (parts, rows, width). A compiler sums the gradient of a coefficient one row after the other; with a copy of it
    for each part (see :func:`for_each_part`) those sums are short."""
    rows = x.numel() // x.shape[-1]
    parts = next((count for count in (512, 64, 8) if rows % count == 0), 1)
    return x.reshape(parts, -1, x.shape[-1])


def for_each_part(coefficient: Tensor, parts: int) -> Tensor:
    """A coefficient (..., 1 or width) as (..., parts, 1, 1 or width); its gradient adds the parts in float64."""
    *lead, width = coefficient.shape
    return coefficient.double()[..., None, None, :].expand(*lead, parts, 1, width).to(coefficient.dtype)
