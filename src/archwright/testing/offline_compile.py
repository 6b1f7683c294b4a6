"""Triton kernels compiled for GPUs that are not here: what the binary uses, read by the tools that come with Triton."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..kernels.spec import Variant

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
"""Bytes of shared memory one program may have, by compute capability."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one compiled kernel uses: registers per thread, bytes of stack and local memory (spills), bytes of shared memory."""

    registers: int
    stack: int
    local: int
    shared: int
    tensor_cores: bool
    seconds: float

    def complaint(self, architecture: int) -> str | None:
        """Why the kernel should not be shipped for this architecture, or None."""
        if self.stack or self.local:
            return f"it spills registers ({self.stack} bytes of stack, {self.local} local)."
        if self.shared > SHARED_LIMIT[architecture]:
            return f"it needs {self.shared} bytes of shared memory of at most {SHARED_LIMIT[architecture]}."
        return None


def compile_for(variant: Variant, architecture: int) -> Usage:
    """Compile a variant for an architecture (80, 90, 100, 120) and read what it uses; pointers count as 16-byte aligned.

    Raises:
        triton.CompilationError: the kernel does not compile.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import compile

    source = _source(variant)
    began = time.perf_counter()
    compiled = compile(source, target=GPUTarget("cuda", architecture, 32), options=_options(variant))
    seconds = time.perf_counter() - began
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(compiled.asm["cubin"])
        text = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
    found = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    tensor_cores = bool(re.search(r"\b(mma|wgmma|tcgen05)\b", compiled.asm["ptx"]))
    # shared memory asked for at launch is not in the binary
    return Usage(found["REG"], found["STACK"], found["LOCAL"], compiled.metadata.shared, tensor_cores, seconds)


def lower(variant: Variant, architecture: int = 90) -> None:
    """The first step of the compilation alone, which finds what Triton's language does not allow.

    Raises:
        triton.CompilationError: the kernel is not valid.
    """
    from triton._C.libtriton import ir
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend

    target = GPUTarget("cuda", architecture, 32)
    backend = make_backend(target)
    options, context = backend.parse_options(_options(variant)), ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    _source(variant).make_ir(target, options, backend.get_codegen_implementation(options), backend.get_module_map(), context)


def with_ones(variant: Variant) -> list[Variant]:
    """The variants that Triton makes where whole numbers are 1, which it turns into constants: each alone, and all of them."""
    whole = [name for name in variant.kernel.arg_names if variant.types.get(name) == "i32" and name not in variant.constants]
    return [replace(variant, constants={**variant.constants, **dict.fromkeys(names, 1)}) for names in ([[one] for one in whole] + [whole])]


def _source(variant: Variant) -> Any:
    from triton.compiler import ASTSource

    kernel, constants = variant.kernel, dict(variant.constants)
    signature = {name: "constexpr" if name in constants else variant.types.get(name, variant.default) for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    pointers = [(place,) for place, name in enumerate(kernel.arg_names) if signature[name].startswith("*")]
    return ASTSource(fn=kernel, signature=signature, constexprs=places, attrs={place: [["tt.divisibility", 16]] for place in pointers})


def _options(variant: Variant) -> dict[str, Any]:
    return {"enable_fp_fusion": True, **variant.options}
