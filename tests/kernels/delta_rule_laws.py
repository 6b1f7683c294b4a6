"""Laws of the delta rule; each takes the backend and a number of steps."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from archwright.kernels import delta_rule
from archwright.kernels.delta_rule import SPEC
from archwright.kernels.delta_rule.cases import Case
from archwright.testing.kernel_laws import draw


def drawn(steps: int, **settings):
    return draw(SPEC, Case(1, steps, 2, 5, 3, state=True, **settings), torch.float64).args


def two_halves_with_the_state_passed_are_the_whole(backend: str, steps: int) -> None:
    *rows, state = drawn(steps, decay=-1.0)
    whole, last = delta_rule(*rows, state, backend=backend)
    cut = steps // 3
    early, between = delta_rule(*(x[:, :cut] for x in rows), state, backend=backend)
    late, final = delta_rule(*(x[:, cut:] for x in rows), between, backend=backend)
    torch.testing.assert_close(torch.cat([early, late], 1), whole)
    torch.testing.assert_close(final, last)


def later_steps_change_no_earlier_output(backend: str, steps: int) -> None:
    *rows, state = drawn(steps, decay=-1.0)
    before, _ = delta_rule(*rows, state, backend=backend)
    cut = steps // 2
    changed = [torch.cat([x[:, :cut], x[:, cut:] * 0.5], 1) for x in rows]
    after, _ = delta_rule(*changed, state, backend=backend)
    assert torch.equal(before[:, :cut], after[:, :cut])
    assert not torch.isclose(before[:, cut], after[:, cut]).any()


def a_decay_of_zero_is_no_decay(backend: str, steps: int) -> None:
    q, k, v, beta, _, state = drawn(steps)
    plain = delta_rule(q, k, v, beta, None, state, backend=backend)
    gated = delta_rule(q, k, v, beta, torch.zeros_like(beta), state, backend=backend)
    for left, right in zip(plain, gated, strict=True):
        torch.testing.assert_close(left, right)


def a_rate_of_zero_leaves_the_state_alone(backend: str, steps: int) -> None:
    q, k, v, beta, _, state = drawn(steps)
    out, last = delta_rule(q, k, v, 0 * beta, None, state, scale=1.0, backend=backend)
    assert torch.equal(last, state)
    torch.testing.assert_close(out, torch.einsum("bthk,bhkv->bthv", q, state))


def a_rate_of_two_reflects(backend: str, steps: int) -> None:
    q, k, v, beta, _, state = drawn(steps)
    _, last = delta_rule(q, k, 0 * v, 0 * beta + 2, None, state, backend=backend)
    torch.testing.assert_close(last.norm(dim=(-2, -1)), state.norm(dim=(-2, -1)))
    assert (last - state).norm() > 0.1


def the_last_value_of_each_key_is_recalled(backend: str, steps: int) -> None:
    """Orthonormal keys, written again and again with new values at rate one; a sum of all values would give something else."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    which = torch.arange(steps) % 5
    k, v = basis[which].view(1, steps, 1, 5), torch.randn(1, steps, 1, 3, generator=generator, dtype=torch.float64)
    _, last = delta_rule(k, k, v, torch.ones(1, steps, 1, dtype=torch.float64), backend=backend)
    latest = torch.stack([v[0, which == index, 0][-1] for index in range(5)])
    torch.testing.assert_close(basis @ last[0, 0], latest)


def normalising_inside_is_normalising_outside(backend: str, steps: int) -> None:
    q, k, v, beta, _, state = drawn(steps)
    inside = delta_rule(3 * q, 0.5 * k, v, beta, None, state, normalise=True, backend=backend)
    outside = delta_rule(normalize(q, dim=-1), normalize(k, dim=-1), v, beta, None, state, backend=backend)
    for left, right in zip(inside, outside, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)  # the 1e-6 under the root


LAWS = (
    two_halves_with_the_state_passed_are_the_whole,
    later_steps_change_no_earlier_output,
    a_decay_of_zero_is_no_decay,
    a_rate_of_zero_leaves_the_state_alone,
    a_rate_of_two_reflects,
    the_last_value_of_each_key_is_recalled,
    normalising_inside_is_normalising_outside,
)
