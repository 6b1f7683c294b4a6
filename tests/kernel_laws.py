"""Laws every backend of the scan obeys; each takes the backend and a size."""

from __future__ import annotations

import torch

from archwright.kernels import linear_scan
from archwright.kernels.scan import SPEC, Case
from archwright.kernels.spec import Inputs


def draw(case: Case, dtype: torch.dtype = torch.float32, seed: int = 0) -> Inputs:
    return SPEC.inputs(case, dtype, "cpu", torch.Generator().manual_seed(seed))


def run(backend: str, args: tuple, reverse: bool = False):
    return linear_scan(*args, reverse=reverse, backend=backend)


def two_halves_with_the_state_passed_are_the_whole(backend: str, steps: int, width: int) -> None:
    a, x, h0 = draw(Case(2, steps, width, state=True), torch.float64).args
    whole, last = run(backend, (a, x, h0))
    cut = steps // 3
    early, state = run(backend, (a[:, :cut], x[:, :cut], h0))
    late, final = run(backend, (a[:, cut:], x[:, cut:], state))
    torch.testing.assert_close(torch.cat([early, late], 1), whole)
    torch.testing.assert_close(final, last)


def the_last_state_is_the_last_output(backend: str, steps: int, width: int) -> None:
    args = draw(Case(2, steps, width, state=True)).args
    for reverse, index in ((False, -1), (True, 0)):
        h, last = run(backend, args, reverse)
        assert torch.equal(h[:, index], last)


def a_later_input_changes_no_earlier_state(backend: str, steps: int, width: int) -> None:
    a, x, h0 = draw(Case(2, steps, width, state=True)).args
    before, _ = run(backend, (a, x, h0))
    changed = x.clone()
    changed[:, steps // 2] += 1
    after, _ = run(backend, (a, changed, h0))
    assert torch.equal(before[:, : steps // 2], after[:, : steps // 2])
    assert not torch.equal(before[:, steps // 2], after[:, steps // 2])


def running_in_reverse_is_running_the_flipped_sequence(backend: str, steps: int, width: int) -> None:
    a, x, h0 = draw(Case(2, steps, width, state=True), torch.float64).args
    backwards, _ = run(backend, (a, x, h0), reverse=True)
    flipped, _ = run(backend, (a.flip(1), x.flip(1), h0))
    torch.testing.assert_close(backwards, flipped.flip(1))


def strides_do_not_matter(backend: str, steps: int, width: int) -> None:
    a, x, h0 = draw(Case(2, steps, width, state=True)).args
    expected = run(backend, (a, x, h0))
    strided = (a.permute(2, 0, 1).contiguous().permute(1, 2, 0), torch.stack([x, x], -1)[..., 0], h0.t().contiguous().t())
    assert not strided[0].is_contiguous()
    assert not strided[1].is_contiguous()
    for left, right in zip(run(backend, strided), expected, strict=True):
        assert torch.equal(left, right)
    shared = a[:, :1].expand_as(a)
    assert torch.equal(run(backend, (shared, x, h0))[0], run(backend, (shared.contiguous(), x, h0))[0])


def an_expanded_cotangent_is_served(backend: str, steps: int, width: int) -> None:
    a, x, _ = draw(Case(2, steps, width)).args
    grads = []
    for weight in (torch.ones(1, 1, 1).expand_as(x), torch.ones_like(x)):
        leaf = x.clone().requires_grad_()
        run(backend, (a, leaf))[0].backward(weight)
        grads.append(leaf.grad)
    assert torch.equal(*grads)


def inputs_and_cotangents_stay_as_they_were(backend: str, steps: int, width: int) -> None:
    args = [arg.requires_grad_() for arg in draw(Case(2, steps, width, state=True)).args]
    cotangents = [torch.randn(2, steps, width), torch.randn(2, width)]
    kept = [tensor.detach().clone() for tensor in (*args, *cotangents)]
    outputs = run(backend, tuple(args))
    first = torch.autograd.grad(outputs, args, cotangents, retain_graph=True)
    results = [out.clone() for out in outputs]
    second = torch.autograd.grad(outputs, args, cotangents)
    for left, right in zip((*args, *cotangents, *first, *results), (*kept, *second, *outputs), strict=True):
        assert torch.equal(left, right)


def any_subset_of_gradients_may_be_wanted(backend: str, steps: int, width: int) -> None:
    drawn = draw(Case(2, steps, width, state=True), torch.float64).args

    def gradients(wanted: tuple[bool, ...]) -> list[torch.Tensor | None]:
        args = [arg.clone().requires_grad_(want) for arg, want in zip(drawn, wanted, strict=True)]
        h, last = run(backend, tuple(args))
        (h.square().sum() + last.sum()).backward()
        return [arg.grad for arg in args]

    every = gradients((True, True, True))
    for wanted in ((True, False, False), (False, True, False), (False, False, True)):
        for gradient, full, want in zip(gradients(wanted), every, wanted, strict=True):
            assert (gradient is not None) == want
            assert gradient is None or torch.allclose(gradient, full)


def one_bad_sequence_leaves_the_others_alone(backend: str, steps: int, width: int) -> None:
    a, x, h0 = draw(Case(3, steps, width, state=True)).args
    expected, _ = run(backend, (a, x, h0))
    for poison in (float("nan"), float("inf")):
        spoilt = x.clone()
        spoilt[1] = poison
        h, _ = run(backend, (a, spoilt, h0))
        assert torch.equal(h[[0, 2]], expected[[0, 2]])
        assert not torch.isfinite(h[1]).any()


LAWS = (
    two_halves_with_the_state_passed_are_the_whole,
    the_last_state_is_the_last_output,
    a_later_input_changes_no_earlier_state,
    running_in_reverse_is_running_the_flipped_sequence,
    strides_do_not_matter,
    an_expanded_cotangent_is_served,
    inputs_and_cotangents_stay_as_they_were,
    any_subset_of_gradients_may_be_wanted,
    one_bad_sequence_leaves_the_others_alone,
)
