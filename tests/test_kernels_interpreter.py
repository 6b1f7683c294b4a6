"""The Triton kernels without a GPU: TRITON_INTERPRET=1 must be set before this process imports triton (see conftest.py)."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import linear_scan, scan_triton
from archwright.kernels.scan import SPEC, Case
from archwright.testing.kernels import check_case, evaluate

from .kernel_laws import LAWS, draw

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]
SENTINEL = 7.25
GUARD = 64


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks far smaller than on a device: several of them per sequence, and the interpreter's cost per element stays bearable."""
    monkeypatch.setattr(scan_triton, "blocks", lambda steps: {"BLOCK_T": 8, "BLOCK_D": 4})


@pytest.mark.parametrize("case", [c for c in SPEC.cases if c.steps < 60], ids=str)
def test_triton_is_as_close_to_the_truth_as_the_definition(case):
    check_case(SPEC, case, torch.float32, backend="triton")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("case", [Case(2, 17, 5, True), Case(2, 17, 5, True, True), Case(1, 8, 4), Case(1, 9, 5, False, True)], ids=str)
def test_other_precisions(case, dtype):
    check_case(SPEC, case, dtype, backend="triton")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law):
    law("triton", steps=11, width=3)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_in_float64(reverse):
    args = [arg.requires_grad_() for arg in draw(Case(1, 9, 5, state=True), torch.float64).args]

    def triton(*given):
        return linear_scan(*given, reverse=reverse, backend="triton")

    assert torch.autograd.gradcheck(triton, args, fast_mode=True)
    assert torch.autograd.gradgradcheck(triton, args, fast_mode=True)


def test_the_block_sizes_of_a_device(monkeypatch):
    monkeypatch.undo()
    check_case(SPEC, Case(1, 67, 17, True), torch.float32, backend="triton")
    check_case(SPEC, Case(1, 16, 3, True, True), torch.float32, backend="triton")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_every_output_is_written_and_nothing_beyond(monkeypatch, state, reverse):
    """Outputs start as NaN between finite guards, inputs lie between NaN guards: a gap, a stray write or a stray read all show."""
    buffers = []

    def guarded(shape, dtype, fill, guard):
        size = int(torch.Size(shape).numel())
        buffer = torch.full((size + 2 * GUARD,), guard, dtype=dtype)
        buffer[GUARD : GUARD + size] = fill
        return buffer, buffer[GUARD : GUARD + size].view(shape)

    def empty(shape, dtype=torch.float32, device=None):
        buffer, view = guarded(shape, dtype, float("nan"), SENTINEL)
        buffers.append(buffer)
        return view

    def between_nan(tensor):
        _, view = guarded(tensor.shape, tensor.dtype, 0.0, float("nan"))
        return view.copy_(tensor)

    a, x, h0 = (None if arg is None else between_nan(arg) for arg in draw(Case(2, 13, 5, state=state)).args)
    dh, dlast = between_nan(torch.randn(2, 13, 5)), between_nan(torch.randn(2, 5))
    with monkeypatch.context() as patch:
        patch.setattr(scan_triton.torch, "empty", empty)
        patch.setattr(scan_triton.torch, "empty_like", lambda like, memory_format=None: empty(like.shape, like.dtype))
        h, last = scan_triton.forward(a, x, h0, reverse)
        results = [h, last, *scan_triton.backward(a, h0, h, dh, dlast, reverse, True)]
    written = [tensor for tensor in results if tensor is not None]
    assert len(buffers) == len(written) == 4 + state
    assert all(torch.isfinite(tensor).all() for tensor in written)
    for buffer in buffers:
        assert (buffer[:GUARD] == SENTINEL).all()
        assert (buffer[-GUARD:] == SENTINEL).all()


def test_programs_may_run_in_any_order(monkeypatch):
    from triton.runtime import interpreter

    inputs = draw(Case(3, 11, 9, state=True))

    def results():
        return evaluate(SPEC, lambda *args, **options: linear_scan(*args, **options, backend="triton"), inputs)

    expected = results()
    builder = interpreter.interpreter_builder
    forwards, visited = builder.set_grid_idx, []

    def backwards(x, y, z):
        mirrored = tuple(count - 1 - index for count, index in zip(builder.grid_dim, (x, y, z), strict=True))
        visited.append(mirrored)
        forwards(*mirrored)

    monkeypatch.setattr(builder, "set_grid_idx", backwards)
    for name, value in results().items():
        assert torch.equal(value, expected[name]), name
    assert visited[0] == (2, 2, 0)


def test_the_interpreter_lets_triton_serve_on_a_cpu():
    assert SPEC.supports(*draw(Case(1, 3, 2)).args) is None
