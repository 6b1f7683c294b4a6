"""What a kernel says about itself; its tests and its benchmark are generated from this."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Implementation = Callable[..., Any]
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Inputs:
    """The arguments of one call: tensors (or None) by position, options by name."""

    args: tuple[torch.Tensor | None, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """One measurement: ``backend`` at ``case`` is to be ``target`` times as good as ``against``, a backend or a peer of the spec.

    Args:
        measure: ``time`` (process time of forward and backward) or ``memory`` (growth of the process's largest resident size).
    """

    case: Any
    target: float | None = None
    against: str = "reference"
    backend: str = "fast"
    measure: str = "time"


@dataclass(frozen=True)
class Variant:
    """One compilation of a Triton kernel, for the check that it compiles for GPUs that are not at hand.

    Args:
        kernel: the jitted function.
        constants: its constexpr arguments.
        types: Triton types of its other arguments (``"i32"``, ``"*fp32"``); those not named are ``default``.
        options: compiler options (``num_warps``, ...), the same as at launch.
    """

    kernel: Any
    constants: Mapping[str, Any]
    types: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    default: str = "*bf16"


@dataclass(frozen=True)
class KernelSpec:
    """One kernel: its implementations, how to make its inputs, and what it costs.

    Args:
        name: what ``ARCHWRIGHT_KERNELS=auto,NAME=fast`` calls it.
        public: the function blocks call; takes ``backend=``.
        reference: the definition, as plain as possible, safe in float64, differentiable by autograd.
        fast: PyTorch without Triton, for CPUs and whatever Triton cannot serve.
        triton: the Triton version; imports triton when called.
        inputs: ``inputs(case, dtype, device, generator) -> Inputs``.
        cases: sizes and settings the fast path is tested at.
        small_cases: those the Triton interpreter walks through (20 to 60 us per operation); the first is used for every law.
        differentiable: names of the positional arguments; each receives gradients.
        per_sample: names of those whose first axis is that of independent samples, as is the first axis of every output.
        bytes: ``bytes(case, dtype, "forward" | "backward")`` moved to and from memory at least.
        flops: ``flops(case, "forward" | "backward")``.
        supports: ``supports(*args, **options)``: why Triton cannot serve this call, or None when it can.
        dtypes: precisions it is tested in.
        min_work: elements of the largest argument below which Triton does not pay.
        plain_below: ``plain_below(**options)``: elements of the largest argument below which, on a CPU in float32, the definition is
            quicker than the fast path; 0 for never.
        compilable: what the backend ``compile`` hands to the compiler where that is not the definition as it stands.
        peers: other formulations the benchmark compares with, by name; called like ``reference``.
        benchmarks: what is measured.
        variants: the compilations that must succeed without spilling registers; imports triton when called.
        twice: whether the fast path and Triton can be differentiated twice; where not, they say so.
        exact_gradient: False where the gradient is on purpose not that of the function, so that no finite difference finds it.
        has_triton: False where PyTorch's own GPU kernels are the best there is: ``triton`` is ``fast`` and ``supports`` says so.
    """

    name: str
    public: Implementation
    reference: Implementation
    fast: Implementation
    triton: Implementation
    inputs: Callable[[Any, torch.dtype, str, torch.Generator], Inputs]
    cases: tuple[Any, ...]
    small_cases: tuple[Any, ...]
    differentiable: tuple[str, ...]
    bytes: Callable[[Any, torch.dtype, str], int]
    flops: Callable[[Any, str], int]
    supports: Callable[..., str | None]
    per_sample: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = FLOATS
    min_work: int = 1
    plain_below: Callable[..., int] = lambda **_: 0
    compilable: Implementation | None = None
    peers: Mapping[str, Implementation] = field(default_factory=dict)
    benchmarks: tuple[Benchmark, ...] = ()
    variants: Callable[[], Sequence[Variant]] = tuple
    twice: bool = True
    exact_gradient: bool = True
    has_triton: bool = True

    def implementation(self, backend: str) -> Implementation:
        if backend == "compile":
            from .compiling import compiled

            return compiled(self)
        return {"reference": self.reference, "fast": self.fast, "triton": self.triton}[backend]


class _Kernels(Mapping[str, KernelSpec]):
    """Every kernel by name; their modules are imported at the first look-up."""

    modules = (
        "scan",
        "gated_scan",
        "norm_act",
        "glu",
        "relu2",
        "step_activation",
        "poly",
        "evonorm",
        "rational",
        "hyper_connection",
        "orthogonal_residual",
        "diagonal_rnn",
        "rnn",
        "linear_attention",
        "delta_rule",
        "kan",
        "entmax",
        "hopfield",
    )

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
