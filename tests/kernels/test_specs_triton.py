"""Every Triton kernel in the interpreter: against its definition, its laws, guard zones, and any order of its programs."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import KERNELS
from archwright.kernels.launching import small_tiles
from archwright.testing.kernel_laws import LAWS, draw
from archwright.testing.kernels import check_case, evaluate, on

from .guards import guarded

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]

SERVED = {name: spec for name, spec in KERNELS.items() if spec.has_triton}
EVERY = [pytest.param(spec, id=name) for name, spec in SERVED.items()]
CASES = [pytest.param(spec, case, id=f"{name}-{case}") for name, spec in SERVED.items() for case in spec.small_cases]


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_triton_is_as_close_to_the_truth_as_the_definition(spec, case):
    with small_tiles():
        check_case(spec, case, torch.float32, backend="triton")


@pytest.mark.parametrize("spec", EVERY)
def test_the_tiles_of_a_device(spec):
    check_case(spec, spec.small_cases[0], torch.float32, backend="triton")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("spec", EVERY)
def test_other_precisions(spec, dtype):
    if dtype not in spec.dtypes:
        pytest.skip(f"{spec.name} is not made for {dtype}")
    with small_tiles():
        check_case(spec, spec.small_cases[0], dtype, backend="triton")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("spec", EVERY)
def test_laws(spec, law):
    with small_tiles():
        law(spec, "triton", spec.small_cases[0])


@pytest.mark.parametrize("spec", EVERY)
def test_gradients_in_float64(spec):
    if not spec.exact_gradient:
        pytest.skip(f"the gradient of {spec.name} is on purpose not that of the function")
    inputs = draw(spec, spec.small_cases[0], torch.float64)
    args = [None if arg is None else arg.requires_grad_() for arg in inputs.args]
    with small_tiles():
        assert torch.autograd.gradcheck(lambda *given: on(spec, "triton")(*given, **inputs.options), args, fast_mode=True)


@pytest.mark.parametrize("spec", EVERY)
def test_every_output_is_written_and_nothing_beyond(spec):
    """Outputs start as NaN between finite guards, inputs lie between NaN guards: a gap, a stray write or a stray read all show."""
    inputs = draw(spec, spec.small_cases[0])
    with small_tiles(), guarded() as memory:
        results = evaluate(spec, on(spec, "triton"), memory.between_nan(inputs))
    memory.check()
    assert memory.buffers, f"{spec.name} allocates by other means than torch.empty and torch.empty_like"
    assert all(torch.isfinite(tensor).all() for tensor in results.values())


@pytest.mark.parametrize("spec", EVERY)
def test_programs_may_run_in_any_order(spec, monkeypatch):
    from triton.runtime import interpreter

    inputs = draw(spec, spec.small_cases[0])

    def results():
        with small_tiles():
            return evaluate(spec, on(spec, "triton"), inputs)

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
    assert len(set(visited)) > 1, f"{spec.name}: the first small case must need several programs"


@pytest.mark.parametrize("spec", EVERY)
def test_the_interpreter_lets_triton_serve_on_a_cpu(spec):
    inputs = draw(spec, spec.small_cases[0])
    assert spec.supports(*inputs.args, **inputs.options) is None
