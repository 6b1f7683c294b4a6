"""The laws of linear attention; each takes the backend and the number of steps."""

from __future__ import annotations

import torch

from archwright.kernels.linear_attention import SPEC, linear_attention
from archwright.kernels.linear_attention.cases import Case
from archwright.testing.kernel_laws import draw

EVERY_DECAY = ("none", "head", "step", "channel")


def given(decay: str, steps: int, strongest: float = -0.4, dtype: torch.dtype = torch.float64) -> tuple:
    return draw(SPEC, Case(1, steps, 2, 3, 4, decay, strongest, state=True), dtype).args


def part(args: tuple, steps: slice, state: torch.Tensor | None) -> tuple:
    q, k, v, log_decay, _ = args
    per_step = log_decay is not None and log_decay.dim() > 1
    return q[:, steps], k[:, steps], v[:, steps], log_decay[:, steps] if per_step else log_decay, state


def two_halves_with_the_state_passed_are_the_whole(backend: str, steps: int) -> None:
    for decay in EVERY_DECAY:
        args = given(decay, steps)
        whole, last = linear_attention(*args, backend=backend)
        early, state = linear_attention(*part(args, slice(None, steps // 3), args[4]), backend=backend)
        late, final = linear_attention(*part(args, slice(steps // 3, None), state), backend=backend)
        torch.testing.assert_close(torch.cat([early, late], 1), whole, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(final, last, rtol=1e-10, atol=1e-10)


def a_later_input_changes_no_earlier_output(backend: str, steps: int) -> None:
    for decay in EVERY_DECAY:
        args = given(decay, steps)
        before, _ = linear_attention(*args, backend=backend)
        changed = [None if arg is None else arg.clone() for arg in args]
        for arg in changed[:4]:
            if arg is not None and arg.dim() > 1:
                arg[:, steps // 2] -= 0.1
        after, _ = linear_attention(*changed, backend=backend)
        assert torch.equal(before[:, : steps // 2], after[:, : steps // 2]), decay
        assert not torch.equal(before[:, steps // 2], after[:, steps // 2]), decay


def recurrent_is_parallel(backend: str, steps: int) -> None:
    """All at once: every pair of a query and an earlier key, by the product of the decays between them."""
    for decay in EVERY_DECAY:
        q, k, v, log_decay, _ = args = given(decay, steps)
        out, _ = linear_attention(*args[:4], backend=backend)
        gates = (
            torch.zeros_like(q) if log_decay is None else (log_decay if log_decay.dim() == 4 else log_decay.unsqueeze(-1)).expand(q.shape)
        )
        total = gates.cumsum(1)
        between = (total.unsqueeze(2) - total.unsqueeze(1)).exp()
        scores = torch.einsum("bihk,bjhk,bijhk->bhij", q, k, between).tril() * q.shape[-1] ** -0.5
        torch.testing.assert_close(out, torch.einsum("bhij,bjhv->bihv", scores, v), rtol=1e-10, atol=1e-10)


def retention_is_gated_linear_attention_with_a_constant_gate(backend: str, steps: int) -> None:
    q, k, v, per_head, state = given("head", steps)
    expected = linear_attention(q, k, v, per_head, state, backend=backend)
    for gates in (per_head.expand(1, steps, -1), per_head[:, None].expand(1, steps, -1, q.shape[-1])):
        for left, right in zip(linear_attention(q, k, v, gates, state, backend=backend), expected, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


def a_gate_of_one_is_plain_linear_attention(backend: str, steps: int) -> None:
    q, k, v, _, state = given("none", steps)
    expected = linear_attention(q, k, v, None, state, backend=backend)
    for shape in (q.shape[2:3], q.shape[:3], q.shape):
        for left, right in zip(linear_attention(q, k, v, q.new_zeros(shape), state, backend=backend), expected, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


def a_gate_of_zero_leaves_each_step_alone(backend: str, steps: int) -> None:
    """Gradients stay finite, and the state before the first step is forgotten."""
    q, k, v, _, state = given("none", steps, dtype=torch.float32)
    expected = (q * k).sum(-1, keepdim=True) * v
    for shape in (q.shape[2:3], q.shape[:3], q.shape):
        for strength in (-1e4, -float("inf")):
            args = [arg.clone().requires_grad_() for arg in (q, k, v, q.new_full(shape, strength), state)]
            out, last = linear_attention(*args, scale=1.0, backend=backend)
            torch.testing.assert_close(out, expected)
            torch.testing.assert_close(last, k[:, -1, :, :, None] * v[:, -1, :, None, :])
            dq, dk, dv, ddecay, dstate = torch.autograd.grad(out.sum(), args)
            torch.testing.assert_close(dv, (q * k).sum(-1, keepdim=True).expand_as(v))
            torch.testing.assert_close(dq, k * v.sum(-1, keepdim=True))
            torch.testing.assert_close(dk, q * v.sum(-1, keepdim=True))
            assert not ddecay.any()
            assert not dstate.any()


LAWS = (
    two_halves_with_the_state_passed_are_the_whole,
    a_later_input_changes_no_earlier_output,
    recurrent_is_parallel,
    retention_is_gated_linear_attention_with_a_constant_gate,
    a_gate_of_one_is_plain_linear_attention,
    a_gate_of_zero_leaves_each_step_alone,
)
