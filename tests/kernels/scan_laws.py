"""Laws of the scan; each takes the backend and a size."""

from __future__ import annotations

import torch

from archwright.kernels import linear_scan
from archwright.kernels.scan import SPEC, Case
from archwright.testing.kernel_laws import draw


def run(backend: str, args: tuple, reverse: bool = False):
    return linear_scan(*args, reverse=reverse, backend=backend)


def two_halves_with_the_state_passed_are_the_whole(backend: str, steps: int, width: int) -> None:
    a, x, h0 = draw(SPEC, Case(2, steps, width, state=True), torch.float64).args
    whole, last = run(backend, (a, x, h0))
    cut = steps // 3
    early, state = run(backend, (a[:, :cut], x[:, :cut], h0))
    late, final = run(backend, (a[:, cut:], x[:, cut:], state))
    torch.testing.assert_close(torch.cat([early, late], 1), whole)
    torch.testing.assert_close(final, last)


def the_last_state_is_the_last_output(backend: str, steps: int, width: int) -> None:
    args = draw(SPEC, Case(2, steps, width, state=True)).args
    for reverse, index in ((False, -1), (True, 0)):
        h, last = run(backend, args, reverse)
        assert torch.equal(h[:, index], last)


def a_later_input_changes_no_earlier_state(backend: str, steps: int, width: int) -> None:
    a, x, h0 = draw(SPEC, Case(2, steps, width, state=True)).args
    before, _ = run(backend, (a, x, h0))
    changed = x.clone()
    changed[:, steps // 2] += 1
    after, _ = run(backend, (a, changed, h0))
    assert torch.equal(before[:, : steps // 2], after[:, : steps // 2])
    assert not torch.equal(before[:, steps // 2], after[:, steps // 2])


def running_in_reverse_is_running_the_flipped_sequence(backend: str, steps: int, width: int) -> None:
    a, x, h0 = draw(SPEC, Case(2, steps, width, state=True), torch.float64).args
    backwards, _ = run(backend, (a, x, h0), reverse=True)
    flipped, _ = run(backend, (a.flip(1), x.flip(1), h0))
    torch.testing.assert_close(backwards, flipped.flip(1))


LAWS = (
    two_halves_with_the_state_passed_are_the_whole,
    the_last_state_is_the_last_output,
    a_later_input_changes_no_earlier_state,
    running_in_reverse_is_running_the_flipped_sequence,
)
