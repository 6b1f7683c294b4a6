"""Triton kernels compiled for GPUs that are not here: what the binary uses, read by the tools that come with Triton."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

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
    from triton.compiler import ASTSource, compile

    kernel, constants = variant.kernel, dict(variant.constants)
    signature = {name: "constexpr" if name in constants else variant.types.get(name, variant.default) for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    pointers = [(place,) for place, name in enumerate(kernel.arg_names) if signature[name].startswith("*")]
    source = ASTSource(fn=kernel, signature=signature, constexprs=places, attrs={place: [["tt.divisibility", 16]] for place in pointers})
    began = time.perf_counter()
    compiled = compile(source, target=GPUTarget("cuda", architecture, 32), options={"enable_fp_fusion": True, **variant.options})
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
