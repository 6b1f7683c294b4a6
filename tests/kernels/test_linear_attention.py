"""Linear attention beyond its spec: its laws, chunks, long sequences with strong decays, hand-computed values, refusals."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels.linear_attention import SPEC, linear_attention, reference
from archwright.kernels.linear_attention.anchors import REACH, fitting, halving, meeting, middle
from archwright.kernels.linear_attention.cases import Case
from archwright.testing.kernel_laws import draw
from archwright.testing.kernels import evaluate, on

from .linear_attention_laws import EVERY_DECAY, LAWS


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_laws(law, backend):
    law(backend, steps=41)


@pytest.mark.parametrize("decay", EVERY_DECAY)
def test_the_size_of_chunks_does_not_matter(decay):
    """Nor does it to any gradient: chunks of one step are the recurrence."""
    whole = evaluate(SPEC, reference, draw(SPEC, Case(1, 37, 2, 3, 4, decay, -0.5, state=True), torch.float64))
    for chunk in (1, 2, 7, 16, 36, 37, 64):
        found = evaluate(SPEC, on(SPEC, "fast"), draw(SPEC, Case(1, 37, 2, 3, 4, decay, -0.5, state=True, chunk=chunk), torch.float64))
        for name, value in found.items():
            torch.testing.assert_close(
                value, whole[name], rtol=1e-10, atol=1e-10, msg=lambda text, n=name, c=chunk: f"{n}, chunk {c}: {text}"
            )


def test_a_hand_computed_sequence():
    """One key of one channel, gates of a half: S = 2, 4, 2 and o = q S."""
    column = torch.tensor([[1.0, 3.0, 0.0]]).reshape(1, 3, 1, 1)
    q = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    half = torch.full((1,), 0.5).log()
    out, last = linear_attention(q, torch.ones_like(q), column, half, torch.full((1, 1, 1, 1), 2.0), scale=10.0)
    torch.testing.assert_close(out.flatten(), torch.tensor([20.0, 80.0, 60.0]))
    torch.testing.assert_close(last.flatten(), torch.tensor([2.0]))


def test_the_scale_is_that_of_the_keys_width():
    q, k, v, *_ = draw(SPEC, Case(1, 5, 1, 9, 2)).args
    torch.testing.assert_close(linear_attention(q, k, v)[0], linear_attention(q, k, v, scale=1.0)[0] / 3)


@pytest.mark.parametrize("smallest", [1e-4, 0.0])
def test_gates_down_to_zero_over_a_thousand_steps_stay_finite(smallest):
    q, k, v, *_ = draw(SPEC, Case(1, 1024, 2, 8, 8)).args
    gates = torch.rand(q.shape, generator=torch.Generator().manual_seed(0)).clamp(min=smallest)
    gates[:, ::7] = smallest
    args = [arg.requires_grad_() for arg in (q, k, v, gates.log())]
    out, last = linear_attention(*args)
    assert torch.isfinite(out).all()
    assert torch.isfinite(last).all()
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(out.sum() + last.sum(), args))
    torch.testing.assert_close(out, reference(*args)[0], rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_log_decay_is_that_of_queries_less_keys():
    """Summed from the last step backwards: q dq - k dk, plus the final state's own share."""
    q, k, v, gates, state = (
        arg.requires_grad_() for arg in draw(SPEC, Case(2, 50, 2, 3, 4, "channel", -0.3, state=True), torch.float64).args
    )
    out, last = linear_attention(q, k, v, gates, state)
    made = torch.Generator().manual_seed(1)
    dout, dlast = (torch.randn(t.shape, generator=made, dtype=torch.float64) for t in (out, last))
    dq, dk, found = torch.autograd.grad((out, last), (q, k, gates), (dout, dlast))
    change = q * dq - k * dk
    expected = change.flip(1).cumsum(1).flip(1) + (last * dlast).sum(-1).unsqueeze(1)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_strong_decays_lose_no_digits_of_their_gradient():
    """Where q dq - k dk keeps three digits of ten (e^-10 of what cancels), this keeps them as the recurrence does."""
    inputs = draw(SPEC, Case(1, 64, 2, 16, 16, "channel", -10.0), torch.float32)
    q, k, v, _, _ = inputs.args
    args = [arg.clone().requires_grad_() for arg in (q, k, v, torch.full_like(q, -10.0))]
    exact = [arg.detach().double().requires_grad_() for arg in args]
    (found,) = torch.autograd.grad(linear_attention(*args, backend="fast")[0].sum(), args[3:])
    (expected,) = torch.autograd.grad(reference(*exact)[0].sum(), exact[3:])
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()


def test_anchors_leave_every_factor_finite_and_every_pair_whole():
    gates = -2.5 * torch.rand(3, 16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    between = (gates.cumsum(1).unsqueeze(2) - gates.cumsum(1).unsqueeze(1)).exp()
    one = middle(gates)
    assert one.query.log().abs().max() <= REACH
    lower = torch.ones(16, 16, dtype=torch.bool).tril(-1)
    torch.testing.assert_close((one.query[0].unsqueeze(2) * one.key[0].unsqueeze(1))[:, lower], between[:, lower])
    several, pairs = halving(gates), meeting(16, gates)
    assert several.query.max() <= 1
    assert several.key.max() <= 1
    assert torch.equal(pairs.sum(0), lower.double())
    met = (pairs[:, None, :, :, None] * several.query[:-1].unsqueeze(3) * several.key[:-1].unsqueeze(2)).sum(0)
    torch.testing.assert_close(met[:, lower], between[:, lower])


def test_chunks_shrink_as_decays_grow():
    sizes = [
        fitting(torch.tensor([-strength]), 64)
        for strength in (0.0, REACH / 32, REACH / 16, REACH / 8, REACH / 4, REACH / 2, float("inf"), float("nan"))
    ]
    assert sizes == [64, 64, 32, 16, 8, 0, 0, 0]


def test_wrong_arguments_are_refused_in_one_sentence():
    q, v = torch.zeros(2, 4, 3, 5), torch.zeros(2, 4, 3, 6)
    for args, options, error, words in (
        ((q[0], q[0], v[0]), {}, ValueError, "batch, steps, heads, K"),
        ((q, q[..., :4], v), {}, ValueError, "batch, steps, heads, K"),
        ((q, q, v[:, :3]), {}, ValueError, "batch, steps, heads, V"),
        ((q, q, v, torch.zeros(5)), {}, ValueError, "log_decay of one of the shapes"),
        ((q, q, v, None, torch.zeros(2, 3, 6, 5)), {}, ValueError, "state of shape"),
        ((q, q, v), {"chunk": 0}, ValueError, "at least one step"),
        ((q.long(), q, v), {}, TypeError, '"q"'),
        ((q, q, v, q + 0j), {}, TypeError, '"log_decay"'),
    ):
        with pytest.raises(error, match=words):
            linear_attention(*args, **options)
