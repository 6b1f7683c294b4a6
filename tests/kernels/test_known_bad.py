"""Compiler bugs: a kernel that Triton miscompiles on a GPU is refused with the reason, and only that one."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import known_bad
from archwright.kernels.dispatch import BackendError, choose
from archwright.kernels.known_bad import CompilerBug, known_bug, refusal
from archwright.kernels.scan import SPEC

BUG = CompilerBug(("scan",), 9, (3, 4), (3, 7, 1), "a test of the table")


@pytest.fixture
def bugs(monkeypatch):
    monkeypatch.setattr(known_bad, "BUGS", [BUG])


class Gpu:
    """As much of a CUDA tensor as the choice looks at."""

    is_cuda, dtype, device = True, torch.float32, torch.device("cuda")

    @staticmethod
    def numel():
        return 10**6


@pytest.fixture
def hopper(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)


@pytest.mark.parametrize(
    ("kernel", "capability", "triton", "found"),
    [
        ("scan", 9, (3, 4), True),
        ("scan", 9, (3, 6, 0), True),
        ("scan", 9, (3, 7, 0), True),
        ("scan", 9, (3, 7, 1), False),
        ("scan", 9, (3, 3, 9), False),
        ("scan", 8, (3, 6, 0), False),
        ("rnn", 9, (3, 6, 0), False),
    ],
)
def test_the_table_is_exact_about_kernel_gpu_and_version(bugs, kernel, capability, triton, found):
    assert (known_bug(kernel, capability, triton) is BUG) == found


def test_auto_goes_another_way_and_says_why_while_a_forced_backend_raises(bugs, hopper, monkeypatch):
    args = (Gpu(), Gpu(), None)
    monkeypatch.setattr(known_bad, "triton_version", lambda: (3, 6, 0))
    decision = choose(SPEC, args, {})
    assert decision.backend == "fast"
    assert "a test of the table" in decision.reason
    with pytest.raises(BackendError, match=r"cannot use.*known bug: a test of the table"):
        choose(SPEC, args, {}, "triton")
    monkeypatch.setattr(known_bad, "triton_version", lambda: (3, 9, 0))
    assert choose(SPEC, args, {}).backend == "triton"


def test_a_gpu_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "7.5" in refusal(Gpu(), kernel="scan")


def test_the_version_is_read_from_the_installed_package():
    pytest.importorskip("triton")
    assert len(known_bad.triton_version()) == 3
