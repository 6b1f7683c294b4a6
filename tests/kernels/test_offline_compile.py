"""Triton's kernels compiled for GPUs that are not here: they compile, spill no registers, and fit in shared memory."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from archwright.kernels import KERNELS

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}  # bytes one program may have

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter replaces the compiler")


@pytest.mark.parametrize("architecture", SHARED_LIMIT)
@pytest.mark.parametrize("name", [name for name, spec in KERNELS.items() if spec.has_triton])
def test_triton_kernels_compile_without_spilling_registers(name, architecture, tmp_path, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    variants = KERNELS[name].variants()
    assert variants, f'the kernel "{name}" names no variants'
    for variant in variants:
        usage = resources(variant, architecture, tmp_path)
        assert " STACK:0 " in usage, f"{variant.kernel.__name__} {variant.constants}: {usage}"
        assert " LOCAL:0 " in usage, f"{variant.kernel.__name__} {variant.constants}: {usage}"
        shared = int(re.search(r"SHARED:(\d+)", usage).group(1))
        assert shared <= SHARED_LIMIT[architecture], f"{variant.kernel.__name__} {variant.constants}: {shared} bytes of shared memory"


def resources(variant, architecture: int, folder: Path) -> str:
    """What the bundled tools say the compiled kernel uses."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    kernel, constants = variant.kernel, dict(variant.constants)
    signature = {name: "constexpr" if name in constants else variant.types.get(name, variant.default) for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    attrs = {(place,): [["tt.divisibility", 16]] for place, name in enumerate(kernel.arg_names) if signature[name].startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places, attrs=attrs)
    compiled = compile(source, target=GPUTarget("cuda", architecture, 32), options={"enable_fp_fusion": True, **variant.options})
    binary = folder / "kernel.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
    # shared memory asked for at launch is not in the binary
    return re.sub(r"SHARED:\d+", f"SHARED:{compiled.metadata.shared}", usage)
