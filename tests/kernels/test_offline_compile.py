"""Triton's kernels compiled for GPUs that are not here: they compile, spill no registers, and fit in shared memory."""

from __future__ import annotations

import os

import pytest

from archwright.kernels import KERNELS
from archwright.testing.offline_compile import SHARED_LIMIT, compile_for

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter replaces the compiler")


@pytest.mark.parametrize("architecture", SHARED_LIMIT)
@pytest.mark.parametrize("name", [name for name, spec in KERNELS.items() if spec.has_triton])
def test_triton_kernels_compile_without_spilling_registers(name, architecture, tmp_path, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    variants = KERNELS[name].variants()
    assert variants, f'the kernel "{name}" names no variants'
    for variant in variants:
        complaint = compile_for(variant, architecture).complaint(architecture)
        assert complaint is None, f"{variant.kernel.__name__} {dict(variant.constants)}: {complaint}"
