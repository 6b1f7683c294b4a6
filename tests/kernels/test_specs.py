"""Every kernel by its spec: the fast path against the definition, its laws, its gradients; and Triton on a GPU where there is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from archwright.kernels import KERNELS
from archwright.testing.kernel_laws import LAWS, draw
from archwright.testing.kernels import check_case, check_kernel, on

EVERY = [pytest.param(spec, id=name) for name, spec in KERNELS.items()]
CASES = [pytest.param(spec, case, id=f"{name}-{case}") for name, spec in KERNELS.items() for case in spec.cases]


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_fast_is_as_close_to_the_truth_as_the_definition(spec, case):
    for dtype in spec.dtypes:
        check_case(spec, case, dtype, backend="fast")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("spec", EVERY)
def test_laws(spec, backend, law):
    law(spec, backend, spec.small_cases[0])


@pytest.mark.parametrize("spec", EVERY)
def test_gradients_and_their_gradients_in_float64(spec):
    inputs = draw(spec, spec.small_cases[0], torch.float64)
    args = [None if arg is None else arg.requires_grad_() for arg in inputs.args]

    def fast(*given):
        return on(spec, "fast")(*given, **inputs.options)

    if spec.exact_gradient:
        assert torch.autograd.gradcheck(fast, args)
    if spec.twice:
        assert torch.autograd.gradgradcheck(fast, args, fast_mode=True)
    else:
        out = fast(*args)
        first = out if isinstance(out, torch.Tensor) else out[0]
        with pytest.raises(RuntimeError, match="twice"):
            torch.autograd.grad(first.sum(), [arg for arg in args if arg is not None], create_graph=True)


@pytest.mark.parametrize("spec", EVERY)
def test_autocast_changes_nothing_inside(spec):
    inputs = draw(spec, spec.small_cases[0])
    plain = on(spec, "fast")(*inputs.args, **inputs.options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = on(spec, "fast")(*inputs.args, **inputs.options)
    torch.testing.assert_close(under, plain, rtol=0, atol=0)


@pytest.mark.parametrize("spec", EVERY)
def test_costs_are_positive_and_grow_with_precision(spec):
    case = spec.small_cases[0]
    for direction in ("forward", "backward"):
        assert 0 < spec.bytes(case, torch.bfloat16, direction) < spec.bytes(case, torch.float32, direction)
        assert spec.flops(case, direction) > 0


@pytest.mark.parametrize("spec", EVERY)
def test_what_the_spec_names_is_there(spec):
    assert spec.public.__doc__
    assert spec.public.__name__ in dir(__import__("archwright.kernels", fromlist=["_"]))
    for benchmark in spec.benchmarks:
        for backend in (benchmark.backend, benchmark.against):
            assert backend in ("fast", "reference", "triton", "compile", *spec.peers)
    inputs = draw(spec, spec.small_cases[0])
    assert len(spec.differentiable) == len(inputs.args)
    assert set(spec.per_sample) <= set(spec.differentiable)


@pytest.mark.parametrize("spec", EVERY)
def test_peers_compute_the_same(spec):
    case = spec.small_cases[0]
    for name, peer in spec.peers.items():

        def public(*args, backend, peer=peer, **options):
            return peer(*args, **options)

        check_case(replace(spec, public=public), case, torch.float32, backend=name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("spec", EVERY)
def test_triton_on_the_device(spec):
    check_kernel(spec, backend="triton" if spec.has_triton else "fast", device="cuda", cases=(*spec.small_cases, *spec.cases))
