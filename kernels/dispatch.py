"""Which implementation of a kernel serves a call, and why.

In order of precedence: the ``backend=`` argument, the innermost ``with use(...)``, the variable ``ARCHWRIGHT_KERNELS``, ``auto``.
A setting is a backend or ``auto``, then exceptions per kernel: ``fast``, ``auto,scan=reference``. ``auto`` takes the fast PyTorch
path on a CPU and in float64 (the definition itself where so little is asked that it is quickest), Triton on CUDA where it can serve. A
backend that was asked for by name and cannot serve raises
:class:`BackendError` with the reason; it never falls back. ``compile`` is the definition through ``torch.compile``: worth its
seconds per shape in long trainings, and never chosen by ``auto``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from .spec import KERNELS, KernelSpec

BACKENDS = ("fast", "reference", "triton", "compile")
VARIABLE = "ARCHWRIGHT_KERNELS"

Arguments = tuple[torch.Tensor | None, ...]

_pinned: ContextVar[str | None] = ContextVar("archwright_kernels", default=None)
_log = logging.getLogger(__name__)


class BackendError(RuntimeError):
    """A backend was asked for that does not exist or cannot serve the call."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The backend that serves a call, and why."""

    backend: str
    reason: str


@contextmanager
def use(setting: str) -> Iterator[None]:
    """Pin the backend of every kernel called inside: ``with use("reference"):`` or ``with use("auto,scan=fast"):``."""
    parse(setting)
    token = _pinned.set(setting)
    try:
        yield
    finally:
        _pinned.reset(token)


@lru_cache(maxsize=64)
def parse(setting: str) -> dict[str, str]:
    """The setting by kernel name; the default stands under ``"*"``.

    >>> parse("auto,scan=fast")
    {'*': 'auto', 'scan': 'fast'}

    Raises:
        BackendError: a part names no backend or no kernel.
    """
    chosen = {"*": "auto"}
    for part in filter(None, (piece.strip() for piece in setting.split(","))):
        kernel, _, backend = part.rpartition("=")
        if backend not in ("auto", *BACKENDS):
            raise BackendError(f'The kernel setting "{setting}" names "{backend}"; backends are auto, {", ".join(BACKENDS)}.')
        if kernel and kernel not in KERNELS:
            raise BackendError(f'The kernel setting "{setting}" names the kernel "{kernel}"; kernels are {", ".join(KERNELS)}.')
        chosen[kernel or "*"] = backend
    return chosen


def call(spec: KernelSpec, *args: torch.Tensor | None, backend: str | None = None, **options: Any) -> Any:
    """Run ``spec`` on the backend chosen for this call."""
    return spec.implementation(choose(spec, args, options, backend).backend)(*args, **options)


def choose(spec: KernelSpec, args: Arguments, options: Mapping[str, Any], backend: str | None = None) -> Decision:
    """The backend for one call of ``spec``.

    Raises:
        BackendError: the backend asked for cannot serve this call; the message says why.
    """
    asked, where = _asked(spec.name, backend)
    decision = _automatic(spec, args, options) if asked == "auto" else _forced(spec, args, options, asked, where)
    if not torch.compiler.is_compiling() and _log.isEnabledFor(logging.DEBUG):
        _log_once(spec.name, decision)
    return decision


def explain(name: str, *args: torch.Tensor | None, backend: str | None = None, **options: Any) -> Decision:
    """The backend that kernel ``name`` would use for these arguments, and the reason.

    Raises:
        BackendError: no such kernel, or the backend asked for cannot serve this call.
    """
    if name not in KERNELS:
        raise BackendError(f'There is no kernel "{name}"; kernels are {", ".join(KERNELS)}.')
    return choose(KERNELS[name], args, options, backend)


def _asked(name: str, backend: str | None) -> tuple[str, str]:
    if backend is not None:
        setting, where = backend, "the argument backend"
    elif (pinned := _pinned.get()) is not None:
        setting, where = pinned, "use(...)"
    else:
        setting, where = os.environ.get(VARIABLE, "auto"), VARIABLE
    chosen = parse(setting)
    return chosen.get(name, chosen["*"]), where


# torch.compile takes the setting as it is while it traces; this is the mark of torch.compiler.assume_constant_result, whose call
# would import the compiler here
_asked._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _forced(spec: KernelSpec, args: Arguments, options: Mapping[str, Any], asked: str, where: str) -> Decision:
    refusal = spec.supports(*args, **options) if asked == "triton" else None
    if refusal is not None:
        raise BackendError(f'The kernel "{spec.name}" cannot use the backend "{asked}" that {where} asks for: {refusal}')
    return Decision(asked, f"asked for by {where}")


def _automatic(spec: KernelSpec, args: Arguments, options: Mapping[str, Any]) -> Decision:
    tensors = [arg for arg in args if arg is not None]
    if not tensors[0].is_cuda:
        small = spec.plain_below(**options)
        if small and tensors[0].dtype == torch.float32 and max(tensor.numel() for tensor in tensors) < small:
            return Decision("reference", f"fewer than {small} elements on {tensors[0].device.type}: the definition costs the least there")
        return Decision("fast", f"the tensors are on {tensors[0].device.type}")
    if any(tensor.dtype in (torch.float64, torch.complex128) for tensor in tensors):
        return Decision("fast", "float64")
    refusal = spec.supports(*args, **options)
    if refusal is not None:
        return Decision("fast", f"Triton cannot serve: {refusal}")
    # inside a CUDA graph a launch costs next to nothing
    if max(tensor.numel() for tensor in tensors) < spec.min_work and not torch.cuda.is_current_stream_capturing():
        return Decision("fast", f"fewer than {spec.min_work} elements")
    return Decision("triton", "CUDA tensors that Triton can serve")


@lru_cache(maxsize=1024)
def _log_once(name: str, decision: Decision) -> None:
    _log.debug('kernel "%s" uses %s: %s', name, decision.backend, decision.reason)
