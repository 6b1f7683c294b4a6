"""The ``compile`` backend: a kernel's definition through ``torch.compile``, for long trainings on a machine with a C++ compiler."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from typing import Any

import torch

from .spec import Implementation, KernelSpec


@cache
def _compiled(name: str, reference: Implementation) -> Implementation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the compiler imports parts of torch that torch has deprecated
        importlib.import_module("torch._inductor.compile_fx")
    function: Implementation = torch.compile(reference, dynamic=False)
    return function


def compiled(spec: KernelSpec) -> Implementation:
    """``spec.reference`` compiled once per shape; the first call of each takes seconds. Never chosen by ``auto``."""
    function = _compiled(spec.name, spec.reference)

    def run(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return run
