"""Compiler bugs that make a Triton kernel wrong somewhere: such a kernel is refused with the reason, and ``auto`` goes another way."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import torch


@dataclass(frozen=True, slots=True)
class CompilerBug:
    """Kernels that Triton from version ``since`` to before ``before`` miscompiles for GPUs of one major compute capability."""

    kernels: tuple[str, ...]
    capability: int
    since: tuple[int, ...]
    before: tuple[int, ...]
    reason: str


# Each was found by others in kernels of the same shape; a kernel that avoids the shape need not be listed.
BUGS: list[CompilerBug] = [
    CompilerBug(
        ("linear_attention", "delta_rule"),
        9,
        (3, 4),
        (3, 7, 1),
        "gate gradients of chunked linear attention are wrong on Hopper with Triton 3.4 to 3.7.0 "
        "(dot of a transposed accumulator, flash-linear-attention issue 640)",
    ),
]


def refusal(*tensors: torch.Tensor | None, kernel: str = "") -> str | None:
    """Why Triton cannot run ``kernel`` on these tensors, or None when it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed."
    first = next(tensor for tensor in tensors if tensor is not None)
    if not first.is_cuda:
        if os.environ.get("TRITON_INTERPRET") == "1":
            return None
        return f"the tensors are on {first.device.type} and Triton needs CUDA (or TRITON_INTERPRET=1)."
    major, minor = torch.cuda.get_device_capability(first.device)
    if major < 8:
        return f"the GPU has compute capability {major}.{minor} and these kernels need 8.0."
    bug = known_bug(kernel, major, triton_version())
    return None if bug is None else f"Triton {'.'.join(map(str, triton_version()))} has a known bug: {bug.reason}."


def known_bug(kernel: str, capability: int, triton: tuple[int, ...]) -> CompilerBug | None:
    """The first entry of the table that concerns this kernel, GPU generation and Triton version."""
    matching = (bug for bug in BUGS if kernel in bug.kernels and bug.capability == capability and bug.since <= triton < bug.before)
    return next(matching, None)


@cache
def triton_version() -> tuple[int, ...]:
    release = version("triton").split("+")[0].split(".")[:3]
    return tuple(int(part) for part in release if part.isdigit())
