"""Which backend serves a call: precedence, refusals, explanations; and Triton's kernels compiled for GPUs that are not here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from archwright.kernels import KERNELS, explain, linear_scan, use
from archwright.kernels.dispatch import VARIABLE, BackendError, parse
from archwright.kernels.scan import Case

X = torch.zeros(1, 3, 2)


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def test_auto_on_a_cpu_is_the_fast_path_and_says_why():
    decision = explain("scan", X, X)
    assert decision.backend == "fast"
    assert "cpu" in decision.reason


def test_precedence_is_argument_then_context_then_variable(monkeypatch):
    monkeypatch.setenv(VARIABLE, "reference")
    assert explain("scan", X, X).backend == "reference"
    with use("fast"):
        assert explain("scan", X, X).backend == "fast"
        with use("reference"):
            assert explain("scan", X, X).backend == "reference"
        assert explain("scan", X, X, backend="reference").backend == "reference"
    assert explain("scan", X, X).backend == "reference"


def test_a_setting_can_name_one_kernel(monkeypatch):
    assert parse("auto, scan=fast") == {"*": "auto", "scan": "fast"}
    monkeypatch.setenv(VARIABLE, "auto,scan=reference")
    assert explain("scan", X, X).backend == "reference"


def test_the_context_ends_with_an_exception():
    with pytest.raises(KeyError), use("reference"):
        raise KeyError
    assert explain("scan", X, X).backend == "fast"


def test_a_forced_backend_that_cannot_serve_raises_with_the_reason():
    with pytest.raises(BackendError, match=r"triton.*argument backend.*cpu"):
        linear_scan(X, X, backend="triton")
    with use("triton"), pytest.raises(BackendError, match=r"use\(\.\.\.\)"):
        linear_scan(X, X)


@pytest.mark.parametrize(("setting", "words"), [("quick", "backends are auto"), ("auto,scam=fast", 'kernel "scam"; kernels are scan')])
def test_a_setting_that_names_nothing_is_refused(monkeypatch, setting, words):
    monkeypatch.setenv(VARIABLE, setting)
    with pytest.raises(BackendError, match=words):
        linear_scan(X, X)
    with pytest.raises(BackendError, match=words), use(setting):
        pass


def test_kernels_are_listed_with_their_cost():
    assert list(KERNELS) == ["scan"]
    spec = KERNELS["scan"]
    case = Case(2, 3, 5)
    assert spec.bytes(case, torch.float32, "forward") == 3 * 30 * 4
    assert spec.bytes(case, torch.bfloat16, "backward") == 5 * 30 * 2
    assert spec.flops(case, "forward") == 60


def test_cpu_machines_never_import_triton():
    code = (
        "import sys, torch; from archwright.kernels import linear_scan; "
        "linear_scan(torch.zeros(1, 40, 2), torch.zeros(1, 40, 2)); sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0


VARIANTS = [(16, True, True), (64, True, False), (64, False, True)]


@pytest.mark.parametrize("architecture", [80, 90, 100, 120])
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter replaces the compiler")
def test_triton_kernels_compile_without_spilling_registers(architecture, tmp_path, monkeypatch):
    triton = pytest.importorskip("triton")
    from archwright.kernels import scan_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    for block, state, reverse in VARIANTS:
        for kernel, extra in ((scan_triton.forward_kernel, {}), (scan_triton.backward_kernel, {"HAS_DLAST": state, "WANTS_A": True})):
            constants = {"HAS_H0": state, "REVERSE": reverse, "ACC": triton.language.float32, "BLOCK_T": block, "BLOCK_D": 16, **extra}
            usage = _resources(triton, kernel, constants, scan_triton.COMPILER, architecture, tmp_path)
            assert " STACK:0 " in usage, usage
            assert " LOCAL:0 " in usage, usage


def _resources(triton, kernel, constants: dict, options: dict, architecture: int, folder: Path) -> str:
    """What the bundled tools say the compiled kernel uses, with bf16 tensors and float32 states."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    whole = {"steps": "i32", "width": "i32"}
    states = {"h0": "*fp32", "last": "*fp32", "dlast": "*fp32", "dh0": "*fp32"}
    signature = {name: "constexpr" if name in constants else whole.get(name, states.get(name, "*bf16")) for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs={(kernel.arg_names.index(k),): v for k, v in constants.items()})
    compiled = compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    binary = folder / "kernel.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
