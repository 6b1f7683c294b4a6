"""The delta rule beyond its spec: chunk sizes, eigenvalues, state tracking, correlated keys, refusals."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import delta_rule
from archwright.kernels.delta_rule import SPEC
from archwright.kernels.delta_rule.cases import Case
from archwright.testing.kernel_laws import draw
from archwright.testing.kernels import check_case, evaluate

from .delta_rule_laws import LAWS


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_laws(law, backend):
    law(backend, steps=41)


@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 32, 45, 64])
def test_the_chunk_does_not_matter(chunk):
    """To 1e-10 in float64, rates up to 2, with and without decay; 45 is the whole sequence."""
    for decay in (None, -1.0):
        inputs = draw(SPEC, Case(2, 45, 2, 8, 6, decay=decay, state=True), torch.float64)
        expected = evaluate(SPEC, SPEC.reference, inputs)
        found = evaluate(SPEC, lambda *args, **options: delta_rule(*args, **options, chunk=chunk, backend="fast"), inputs)
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-10, msg=name)


def test_fast_on_a_long_sequence():
    for dtype in (torch.float64, torch.float32):
        check_case(SPEC, Case(1, 300, 2, 16, 16, decay=-0.1, state=True), dtype, backend="fast")


def _transition(rate: float, backend: str) -> torch.Tensor:
    """I - beta k k^T: what one step without a value makes of the identity."""
    k = torch.nn.functional.normalize(torch.randn(1, 1, 1, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64), dim=-1)
    eye = torch.eye(6, dtype=torch.float64)[None, None]
    _, last = delta_rule(k, k, 0 * k, torch.full((1, 1, 1), rate, dtype=torch.float64), None, eye, backend=backend)
    return last[0, 0]


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0, 1.7, 2.0])
def test_eigenvalues_of_a_step(backend, rate):
    values = torch.linalg.eigvalsh(_transition(rate, backend))
    expected = torch.tensor(sorted([1.0 - rate] + 5 * [1.0]), dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)


def test_two_reflections_are_a_rotation():
    k = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64).view(1, 2, 1, 2)
    eye = torch.eye(2, dtype=torch.float64)[None, None]
    _, last = delta_rule(k, k, 0 * k, torch.full((1, 2, 1), 2.0, dtype=torch.float64), None, eye)
    turn = last[0, 0]
    torch.testing.assert_close(turn @ turn.T, eye[0, 0])
    assert torch.linalg.det(turn).item() == pytest.approx(1.0)
    torch.testing.assert_close(torch.linalg.matrix_power(turn, 3), eye[0, 0])  # axes at 60 degrees: an order of three


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_rates_of_two_count_parity_over_512_steps(backend):
    bits = torch.randint(0, 2, (4, 512, 1), generator=torch.Generator().manual_seed(0))
    one = torch.ones(4, 512, 1, 1)
    start = torch.ones(4, 1, 1, 1)
    out, _ = delta_rule(one, one, 0 * one, 2.0 * bits, None, start, backend=backend)
    assert torch.equal((1 - out.flatten(1)) / 2, bits.flatten(1).cumsum(1).remainder(2).float())
    positive, _ = delta_rule(one, one, 0 * one, 1.0 * bits, None, start, backend=backend)
    assert (positive >= 0).all()


def test_a_step_overwrites_at_rate_one():
    q, k, v, beta, _, state = draw(SPEC, Case(3, 1, 2, 6, 4, state=True), torch.float64).args
    _, last = delta_rule(q, k, v, torch.ones_like(beta), None, state)
    torch.testing.assert_close(torch.einsum("bhk,bhkv->bhv", k[:, 0], last), v[:, 0])


def test_orthonormal_keys_at_rate_one_are_linear_attention():
    generator = torch.Generator().manual_seed(0)
    k = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q.view(1, 8, 1, 8)
    v = torch.randn(1, 8, 1, 4, generator=generator, dtype=torch.float64)
    _, last = delta_rule(k, k, v, torch.ones(1, 8, 1, dtype=torch.float64))
    torch.testing.assert_close(last[0, 0], torch.einsum("tk,tv->kv", k[0, :, 0], v[0, :, 0]))


@pytest.mark.parametrize("chunk", [16, 64])
@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_equal_keys_at_rates_up_to_two_stay_accurate(spread, chunk):
    """Where the inverse by repeated squaring is off by 4e2 and more; the recurrence itself is at 1e-6."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 128, 2, 16, generator=generator) for _ in range(3))
    k = torch.nn.functional.normalize(k[:, :1] + spread * k, dim=-1)
    beta = 2 * torch.rand(2, 128, 2, generator=generator)
    found = delta_rule(q, k, v, beta, chunk=chunk, backend="fast")
    exact = delta_rule(q.double(), k.double(), v.double(), beta.double(), backend="reference")
    for left, right in zip(found, exact, strict=True):
        torch.testing.assert_close(left.double(), right, rtol=0, atol=2e-5)


def test_an_endless_decay_forgets():
    *rows, _, state = draw(SPEC, Case(1, 20, 1, 4, 3, state=True)).args
    decay = torch.zeros(1, 20, 1)
    decay[:, 9] = -torch.inf
    for backend in ("fast", "reference"):
        out, last = delta_rule(*rows, decay, state, backend=backend)
        fresh, final = delta_rule(*(x[:, 9:] for x in rows), backend=backend)
        torch.testing.assert_close(out[:, 9:], fresh)
        torch.testing.assert_close(last, final)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_its_dtype_and_carries_the_state_in_float32(dtype):
    out, last = delta_rule(*draw(SPEC, Case(2, 20, 2, 4, 3), dtype).args)
    assert (out.dtype, last.dtype) == (dtype, torch.float32)


def test_wrong_arguments_are_refused_in_one_sentence():
    q, v, beta = torch.zeros(2, 4, 3, 5), torch.zeros(2, 4, 3, 6), torch.zeros(2, 4, 3)
    for args, options, error, words in (
        ((q, q[:, :3], v, beta), {}, ValueError, "k of shape"),
        ((q, q, v[:, :3], beta), {}, ValueError, "v of shape"),
        ((q, q, v, beta[..., None]), {}, ValueError, "beta of shape"),
        ((q, q, v, beta, beta[:1]), {}, ValueError, "log_decay of shape"),
        ((q, q, v, beta, None, torch.zeros(2, 3, 6, 5)), {}, ValueError, "state of shape"),
        ((q[0], q[0], v[0], beta[0]), {}, ValueError, "batch, steps, heads, width"),
        ((q, q, v, beta.long()), {}, TypeError, '"beta"'),
        ((q, q, v, beta), {"chunk": 0}, ValueError, "at least one step"),
    ):
        with pytest.raises(error, match=words):
            delta_rule(*args, **options)
