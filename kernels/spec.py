"""What a kernel says about itself; its tests and its benchmark are generated from this."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Implementation = Callable[..., Any]


@dataclass(frozen=True)
class Inputs:
    """The arguments of one call: tensors (or None) by position, options by name."""

    args: tuple[torch.Tensor | None, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class KernelSpec:
    """One kernel: its implementations, how to make its inputs, and what it costs.

    Args:
        name: what ``ARCHWRIGHT_KERNELS=auto,NAME=fast`` calls it.
        public: the function blocks call; takes ``backend=``.
        reference: the definition, as plain as possible, safe in float64.
        fast: PyTorch without Triton, for CPUs and whatever Triton cannot serve.
        triton: the Triton version; imports triton when called.
        inputs: ``inputs(case, dtype, device, generator) -> Inputs``.
        cases: edge sizes the tests walk through.
        differentiable: names of the positional arguments that receive gradients.
        bytes: ``bytes(case, dtype, "forward" | "backward")`` moved to and from memory at least.
        flops: ``flops(case, "forward" | "backward")``.
        supports: why Triton cannot serve these arguments, or None when it can.
        min_work: elements of the second argument below which Triton does not pay.
        peers: other formulations the benchmark compares with, by name.
    """

    name: str
    public: Implementation
    reference: Implementation
    fast: Implementation
    triton: Implementation
    inputs: Callable[[Any, torch.dtype, str, torch.Generator], Inputs]
    cases: tuple[Any, ...]
    differentiable: tuple[str, ...]
    bytes: Callable[[Any, torch.dtype, str], int]
    flops: Callable[[Any, str], int]
    supports: Callable[..., str | None]
    min_work: int = 1
    peers: Mapping[str, Implementation] = field(default_factory=dict)

    def implementation(self, backend: str) -> Implementation:
        return {"reference": self.reference, "fast": self.fast, "triton": self.triton}[backend]


class _Kernels(Mapping[str, KernelSpec]):
    """Every kernel by name; their modules are imported at the first look-up."""

    modules = ("scan",)

    def __init__(self) -> None:
        self._specs: dict[str, KernelSpec] = {}

    def add(self, spec: KernelSpec) -> KernelSpec:
        if spec.name in self._specs:
            raise ValueError(f'The kernel "{spec.name}" is already registered; choose another name.')
        self._specs[spec.name] = spec
        return spec

    def _load(self) -> dict[str, KernelSpec]:
        for module in self.modules:
            importlib.import_module(f".{module}", __package__)
        return self._specs

    def __getitem__(self, name: str) -> KernelSpec:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def __len__(self) -> int:
        return len(self._load())


KERNELS = _Kernels()
