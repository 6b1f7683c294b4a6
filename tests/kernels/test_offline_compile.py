"""Triton's kernels compiled for GPUs that are not here: they compile, spill no registers, and fit in shared memory."""

from __future__ import annotations

import os

import pytest

from archwright.kernels import KERNELS
from archwright.testing.offline_compile import SHARED_LIMIT, compile_for, lower, with_ones

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter replaces the compiler")


SERVED = [name for name, spec in KERNELS.items() if spec.has_triton]
# the oldest, and the one with the least shared memory; the others take minutes
QUICK = (80, 120)


@pytest.mark.parametrize("architecture", [a if a in QUICK else pytest.param(a, marks=pytest.mark.slow) for a in SHARED_LIMIT])
@pytest.mark.parametrize("name", SERVED)
def test_triton_kernels_compile_without_spilling_registers(name, architecture, tmp_path, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    variants = KERNELS[name].variants()
    assert variants, f'the kernel "{name}" names no variants'
    for variant in variants:
        complaint = compile_for(variant, architecture).complaint(architecture)
        assert complaint is None, f"{variant.kernel.__name__} {dict(variant.constants)}: {complaint}"


@pytest.mark.parametrize("name", SERVED)
def test_a_size_of_one_compiles_too(name):
    """Triton turns an integer argument of 1 into a constant, on which a kernel may do less than on a number; the interpreter does not."""
    pytest.importorskip("triton")
    for variant in KERNELS[name].variants():
        for specialised in with_ones(variant):
            lower(specialised)
