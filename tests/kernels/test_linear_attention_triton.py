"""The laws of linear attention and its chunked form, in the interpreter; and what its Triton kernels refuse."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from archwright.kernels.dispatch import BackendError
from archwright.kernels.function import fused
from archwright.kernels.launching import small_tiles
from archwright.kernels.linear_attention import SPEC, linear_attention
from archwright.kernels.linear_attention.cases import SMALL_CASES, Case
from archwright.kernels.linear_attention.reference import reference
from archwright.kernels.linear_attention.serving import by_chunks
from archwright.testing.kernel_laws import draw
from archwright.testing.kernels import check_case, evaluate

from . import test_specs_triton as generic
from .linear_attention_laws import EVERY_DECAY, LAWS

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law):
    with small_tiles():
        law("triton", steps=5)


def test_keys_too_wide_for_one_program_are_refused():
    wide = torch.zeros(1, 2, 1, 129)
    with pytest.raises(BackendError, match="129 wide"):
        linear_attention(wide, wide, wide, backend="triton")


def chunked(q, k, v, log_decay=None, state=None, *, scale=None, chunk=None, backend=None):
    from archwright.kernels.linear_attention.triton_chunked import CORE

    return fused(CORE, q, k, v, log_decay, state, outputs=2, scale=scale, chunk=chunk)


CHUNKED = dataclasses.replace(SPEC, triton=chunked, public=chunked)
# with the tiles of a device: chunks of 16 and two tiles of values
RAGGED = [Case(1, steps, 2 if decay == "head" else 1, 6, 19, decay, state=True) for steps in (1, 15, 16, 17, 35) for decay in EVERY_DECAY]
STRONG = [Case(1, 21, 1, 5, 4, decay, strongest, state=True, spike=6) for decay in ("step", "channel") for strongest in (-20.0, -1e4)]


@pytest.mark.parametrize("case", [*RAGGED, *STRONG], ids=str)
def test_chunks_in_half_precision(case):
    check_case(CHUNKED, case, torch.float16, backend="triton")


@pytest.mark.parametrize("case", STRONG, ids=str)
def test_chunks_lose_no_digits_to_strong_decays(case):
    check_case(CHUNKED, case, torch.float32, backend="triton")


@pytest.mark.parametrize("case", SMALL_CASES[:4], ids=str)
def test_small_chunks(case):
    with small_tiles():
        check_case(CHUNKED, case, torch.float32, backend="triton")


def test_chunks_in_bfloat16():
    check_case(CHUNKED, Case(1, 17, 1, 4, 5, "channel", state=True), torch.bfloat16, backend="triton")


@pytest.mark.parametrize("decay", EVERY_DECAY)
def test_chunks_have_the_gradient_of_the_definition_in_float64(decay):
    inputs = draw(SPEC, Case(1, 10, 1, 3, 9, decay, -1.0, state=True), torch.float64)
    with small_tiles():
        found = evaluate(CHUNKED, chunked, inputs)
    for name, expected in evaluate(CHUNKED, reference, inputs).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("strength", [-1e4, -float("inf")])
@pytest.mark.parametrize("shape", [(1,), (1, 18, 1), (1, 18, 1, 3)], ids=["head", "step", "channel"])
def test_chunks_with_a_gate_of_zero(shape, strength):
    q, k, v, _, state = draw(SPEC, Case(1, 18, 1, 3, 4, state=True), torch.float32).args
    args = [arg.clone().requires_grad_() for arg in (q, k, v, q.new_full(shape, strength), state)]
    out, last = chunked(*args, scale=1.0)
    torch.testing.assert_close(out, (q * k).sum(-1, keepdim=True) * v)
    torch.testing.assert_close(last, k[:, -1, :, :, None] * v[:, -1, :, None, :])
    gradients = torch.autograd.grad(out.sum(), args)
    torch.testing.assert_close(gradients[0], k * v.sum(-1, keepdim=True))
    assert not gradients[3].any()
    assert not gradients[4].any()


@pytest.mark.parametrize("decay", ["head", "channel"])
def test_chunks_write_every_output_and_nothing_beyond_in_any_order(decay, monkeypatch):
    spec = dataclasses.replace(CHUNKED, small_cases=(Case(2, 9, 1, 3, 9, decay, state=True),))
    generic.test_every_output_is_written_and_nothing_beyond(spec)
    generic.test_programs_may_run_in_any_order(spec, monkeypatch)


def test_who_goes_by_chunks():
    def serves(dtype, steps, *, state=None):
        q = torch.zeros(1, steps, 1, 2, dtype=dtype)
        return by_chunks(q, q, q, None, state)

    assert serves(torch.float16, 65)
    assert serves(torch.bfloat16, 65)
    assert not serves(torch.bfloat16, 64)
    assert not serves(torch.float32, 65)
    assert not serves(torch.bfloat16, 65, state=torch.zeros(1, 1, 2, 2, dtype=torch.float64))


def test_a_long_sequence_in_half_precision():
    check_case(SPEC, Case(1, 65, 1, 2, 3, "channel", state=True), torch.float16, backend="triton")
