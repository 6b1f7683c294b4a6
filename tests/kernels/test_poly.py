"""PolyNorm and PolyReLU: what their definitions promise."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from archwright.kernels import KERNELS, poly_norm, poly_relu
from archwright.testing.kernels import check_case

THREE = torch.tensor([0.4, -0.7, 1.1], dtype=torch.float64)
BIAS = torch.tensor(0.3, dtype=torch.float64)


def _draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_poly_norm_by_hand():
    """Root mean squares of (1, -7), (1, 49) and (1, -343) are 5, the root of 1201 and that of 58825."""
    y = poly_norm(torch.tensor([[1.0, -7.0]]), torch.tensor([5.0, 0.0, 0.0]), torch.tensor(2.0), eps=1e-12)
    torch.testing.assert_close(y, torch.tensor([[3.0, -5.0]]))
    y = poly_norm(torch.tensor([[1.0, -7.0]]), torch.tensor([0.0, 1201**0.5, 58825**0.5]), eps=1e-12)
    torch.testing.assert_close(y, torch.tensor([[2.0, 49.0 - 343.0]]))


def test_poly_norm_of_order_one_is_rms_norm():
    x = _draw(3, 17)
    torch.testing.assert_close(poly_norm(x, torch.ones(1, dtype=x.dtype), eps=1e-5), F.rms_norm(x, (17,), eps=1e-5))


@pytest.mark.parametrize("factor", [3.0, 100.0, 1e6, 1e30])
def test_poly_norm_does_not_see_the_scale_and_odd_powers_see_the_sign(factor):
    x = _draw(4, 32)
    y = poly_norm(x, THREE, BIAS, eps=1e-9)
    torch.testing.assert_close(poly_norm(factor * x, THREE, BIAS, eps=1e-9), y, atol=1e-5, rtol=0)
    signs = torch.tensor([-1.0, 1.0, -1.0], dtype=x.dtype)
    torch.testing.assert_close(
        poly_norm(-factor * x, THREE, BIAS, eps=1e-9), poly_norm(x, THREE * signs, BIAS, eps=1e-9), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_poly_norm_is_bounded(scale):
    y = poly_norm(scale * _draw(50, 20).exp(), THREE, BIAS)
    assert (y.norm(dim=-1) <= 20**0.5 * (THREE.abs().sum() + BIAS.abs()) * (1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float16, 7.0),
        (torch.float16, 1e4),
        (torch.bfloat16, 1e10),
        (torch.float32, 1e7),
        (torch.float32, 1e30),
        (torch.float64, 1e100),
    ],
)
def test_no_power_overflows(dtype, scale):
    """The rows are of one magnitude: with rows of several the small ones' share of the gradient is beyond the dtype."""
    unit = _draw(6, 40).clamp(-3, 3).to(dtype)
    x = (scale * unit).requires_grad_()
    y = poly_norm(x, THREE.to(dtype), BIAS.to(dtype))
    wide = (x.detach().double() / scale).requires_grad_()
    exact = poly_norm(wide, THREE.to(dtype).double(), BIAS.to(dtype).double(), eps=1e-30)
    torch.testing.assert_close(y.double(), exact, atol=8 * torch.finfo(dtype).eps, rtol=0)
    cotangent = _draw(6, 40, seed=1)
    (dx,) = torch.autograd.grad(y, x, cotangent.to(dtype))
    (expected,) = torch.autograd.grad(exact, wide, cotangent.to(dtype).double())
    assert dx.isfinite().all()
    if scale < 1e8:
        off = (dx.double() * scale - expected).abs().max()
        assert off < 32 * torch.finfo(dtype).eps * expected.abs().max() + torch.finfo(dtype).tiny * scale


def test_a_huge_row_leaves_the_others_bitwise_alone():
    x = _draw(5, 9, dtype=torch.float32)
    before = poly_norm(x, THREE.float())
    x[2] *= 1e12
    after = poly_norm(x, THREE.float())
    others = [0, 1, 3, 4]
    assert torch.equal(before[others], after[others])
    torch.testing.assert_close(after[2], before[2], atol=1e-4, rtol=0)


def test_a_row_of_zeros_has_the_gradient_of_its_linear_term():
    x = torch.zeros(2, 5, requires_grad=True)
    poly_norm(x, THREE.float(), eps=1e-4).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 5), 40.0))


def test_poly_norm_saves_its_arguments_and_one_number_per_row_and_power():
    x, w, b = _draw(64, 50).requires_grad_(), THREE.clone().requires_grad_(), BIAS.clone().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        poly_norm(x, w, b)
    assert sorted(t.numel() for t in kept if t is not None) == [1, 3, 3 * 64, 64 * 50]


def test_poly_relu_contains_relu_and_its_square():
    x = _draw(7, 11, dtype=torch.float32)
    assert torch.equal(poly_relu(x, torch.tensor([0.0, 1.0, 0.0, 0.0])), x.relu())
    assert torch.equal(poly_relu(x, torch.tensor([0.0, 0.0, 1.0, 0.0])), x.relu().square())


def test_poly_relu_by_hand():
    x = torch.tensor([-3.0, 0.0, 2.0], requires_grad=True)
    y = poly_relu(x, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert y.tolist() == [1.0, 1.0, 49.0]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 62.0]


def test_poly_relu_learns_a_polynomial_of_relu():
    x = torch.linspace(-2, 2, 200, dtype=torch.float64)
    target = x.relu().square() + 0.5 * x.relu()
    coef = torch.tensor([0.0, 1 / 3, 1 / 3, 1 / 3], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([coef], max_iter=200, tolerance_grad=1e-14, tolerance_change=1e-16, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = (poly_relu(x, coef) - target).square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    assert (poly_relu(x, coef) - target).abs().max() < 1e-6


def test_wrong_arguments_are_refused_in_one_sentence():
    x = torch.zeros(2, 4)
    for args, options, error, words in (
        ((x.long(), torch.ones(3)), {}, TypeError, '"x"'),
        ((torch.zeros(()), torch.ones(3)), {}, ValueError, "width"),
        ((x, torch.ones(3, 4)), {}, ValueError, "one weight per power"),
        ((x, torch.ones(9)), {}, ValueError, "1 to 8"),
        ((x, torch.ones(3), torch.ones(4)), {}, ValueError, "scalar bias"),
        ((x, torch.ones(3)), {"eps": 0.0}, ValueError, "eps above zero"),
    ):
        with pytest.raises(error, match=words):
            poly_norm(*args, **options)
    with pytest.raises(TypeError, match='"coef"'):
        poly_relu(x, torch.ones(3).long())
    with pytest.raises(ValueError, match="one coefficient per power"):
        poly_relu(x, torch.ones(2, 2))


def test_rows_too_wide_for_a_program_are_refused():
    spec = KERNELS["poly_norm"]
    assert "8192" in spec.supports(torch.zeros(1, 8193), torch.ones(3), eps=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["poly_norm", "poly_relu"])
def test_compiled_is_as_close_to_the_truth_as_the_definition(name):
    spec = KERNELS[name]
    check_case(spec, spec.small_cases[0], torch.float32, backend="compile")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_network_around_poly_norm_compiles_in_one_graph():
    x = _draw(8, 64, dtype=torch.float32)

    def network(x):
        return poly_norm(2 * x, THREE.float(), BIAS.float()).sin()

    torch.testing.assert_close(torch.compile(network, fullgraph=True)(x), network(x))
