"""Which backend serves a call: precedence, refusals, explanations; and Triton's kernels compiled for GPUs that are not here."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from archwright.kernels import explain, linear_scan, use
from archwright.kernels.dispatch import VARIABLE, BackendError, parse

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


@pytest.mark.parametrize(("setting", "words"), [("quick", "backends are auto"), ("auto,scam=fast", 'kernel "scam"; kernels are ')])
def test_a_setting_that_names_nothing_is_refused(monkeypatch, setting, words):
    monkeypatch.setenv(VARIABLE, setting)
    with pytest.raises(BackendError, match=words):
        linear_scan(X, X)
    with pytest.raises(BackendError, match=words), use(setting):
        pass


def test_cpu_machines_never_import_triton():
    code = (
        "import sys, torch; from archwright.kernels import linear_scan; "
        "linear_scan(torch.zeros(1, 40, 2), torch.zeros(1, 40, 2)); sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0
