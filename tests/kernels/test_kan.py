"""The Kolmogorov-Arnold linear layer beyond its spec: what its bases promise, hand-computed values, refusals, memory."""

from __future__ import annotations

from importlib import import_module
from math import comb, factorial

import pytest
import torch
from scipy.interpolate import BSpline
from torch.autograd import gradcheck

from archwright.kernels import kan_linear
from archwright.kernels.kan.cases import Case, inputs
from archwright.kernels.kan.reference import uniform_grid

BASES = ("bspline", "rbf", "chebyshev", "relu")


def functions(x, count, grid=None, backend="fast", **options):
    """phi_g(x) of one input, (len(x), G): the layer with the identity for weights."""
    weight = torch.eye(count, dtype=x.dtype).unsqueeze(1)
    return kan_linear(x.unsqueeze(1), weight, grid, backend=backend, **options)


def slopes(x, count, grid=None, **options):
    """phi_g'(x), (len(x), G)."""
    columns = []
    for g in range(count):
        leaf = x.clone().requires_grad_()
        columns.append(torch.autograd.grad(functions(leaf, count, grid, **options)[:, g].sum(), leaf)[0])
    return torch.stack(columns, 1)


def points(low, high, count=101):
    return torch.linspace(low, high, count, dtype=torch.float64)


# --- B-splines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_splines_sum_to_one_inside_the_grid_and_vanish_outside_the_extended_one(order, backend):
    count, spacing = 5 + order, 3.0 / 5
    options = {"basis": "bspline", "order": order, "low": -1.5, "high": 1.5, "backend": backend}
    inside = functions(points(-1.5, 1.5), count, **options)
    torch.testing.assert_close(inside.sum(1), torch.ones(101, dtype=torch.float64))
    assert (inside > -1e-12).all()
    assert ((inside > 1e-12).sum(1) <= order + 1).all()
    beyond = torch.tensor([-1.5 - order * spacing - 1e-9, 1.5 + order * spacing + 1e-9, -50.0, 50.0], dtype=torch.float64)
    assert functions(beyond, count, **options).abs().max() < 1e-12
    assert functions(torch.tensor([1.5 + spacing / 2], dtype=torch.float64), count, **options).sum() < 1


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("uniform", [True, False])
def test_splines_and_their_slopes_equal_scipy(order, uniform):
    count, x = 4 + order, points(-2.93, 2.9, 97)
    knots = uniform_grid("bspline", count, order, -1.5, 1.5, x)
    if not uniform:
        knots = knots + 0.3 * torch.rand(knots.shape, generator=torch.Generator().manual_seed(order), dtype=torch.float64)
    expected = [BSpline.basis_element(knots[g : g + order + 2].numpy(), extrapolate=False) for g in range(count)]
    options = {"basis": "bspline", "order": order, "low": -1.5, "high": 1.5}
    grid = None if uniform else knots
    for found, derivative in ((functions(x, count, grid, **options), 0), (slopes(x, count, grid, **options), 1)):
        values = torch.stack([torch.from_numpy(spline(x.numpy(), nu=derivative)).nan_to_num() for spline in expected], 1)
        torch.testing.assert_close(found, values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_closed_form_equals_the_recursion_on_the_same_knots(order):
    count, x = 4 + order, torch.cat([points(-3, 3), torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float64)])
    knots = uniform_grid("bspline", count, order, -1.0, 1.0, x)
    options = {"basis": "bspline", "order": order}
    torch.testing.assert_close(functions(x, count, **options), functions(x, count, knots, **options))
    torch.testing.assert_close(slopes(x, count, **options), slopes(x, count, knots, **options))


def test_a_cubic_spline_has_its_known_values_at_the_knots():
    """1/6, 4/6, 1/6 at the three inner knots of its support, which is half-open."""
    knots = torch.arange(5.0, dtype=torch.float64)
    x = torch.arange(5.0, dtype=torch.float64)
    for grid, low, high in ((knots, -1.0, 1.0), (None, 3.0, 4.0)):
        found = functions(x, 1 if grid is not None else 4, grid, basis="bspline", order=3, low=low, high=high)[:, 0]
        torch.testing.assert_close(found, torch.tensor([0, 1, 4, 1, 0], dtype=torch.float64) / 6)


def test_clamped_splines_pass_through_their_end_coefficients():
    knots = torch.tensor([0.0, 0, 0, 0, 1, 2, 3, 3, 3, 3], dtype=torch.float64)
    found = functions(torch.tensor([0.0, 3 - 1e-9], dtype=torch.float64), 6, knots, basis="bspline", order=3)
    torch.testing.assert_close(found, torch.eye(6, dtype=torch.float64)[[0, 5]], rtol=0, atol=1e-8)
    torch.testing.assert_close(functions(points(0, 2.99), 6, knots, basis="bspline").sum(1), torch.ones(101, dtype=torch.float64))


def test_knots_are_constants():
    knots = torch.linspace(-2, 2, 9, dtype=torch.float64).requires_grad_()
    x = points(-1, 1, 5).requires_grad_()
    for backend in ("fast", "reference"):
        assert torch.autograd.grad(functions(x, 5, knots, backend=backend).square().sum(), [x, knots], allow_unused=True)[1] is None


# --- other bases ------------------------------------------------------------------------------------------------------


def test_chebyshev_polynomials_are_cosines_of_multiples():
    angle = points(0.05, 3.09)
    found = functions(torch.atanh(angle.cos()), 6, basis="chebyshev")
    torch.testing.assert_close(found, torch.stack([(degree * angle).cos() for degree in range(6)], 1), rtol=0, atol=1e-10)


def test_chebyshev_of_degree_one_is_a_linear_map_of_tanh_with_a_bias():
    x, weight = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 4, 2, dtype=torch.float64)
    expected = torch.tanh(x) @ weight[..., 1].T + weight[..., 0].sum(1)
    torch.testing.assert_close(kan_linear(x, weight, basis="chebyshev"), expected)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_relu_bumps_peak_at_one_vanish_outside_and_overlap_as_splines_do(order):
    count, intervals = 5 + order, 5
    starts = (torch.arange(count, dtype=torch.float64) - order) / intervals
    ends = starts + (order + 1) / intervals
    options = {"basis": "relu", "order": order, "low": 0.0, "high": 1.0}
    torch.testing.assert_close(functions((starts + ends) / 2, count, **options).diagonal(), torch.ones(count, dtype=torch.float64))
    x = points(-1.0, 2.0, 301)
    found, outside = functions(x, count, **options), (x[:, None] < starts - 1e-9) | (x[:, None] > ends + 1e-9)
    assert (found[outside] == 0).all()
    inside = functions(points(0.003, 0.997), count, **options)
    assert ((inside > 1e-9).sum(1) <= order + 1).all()
    constant = 16 * intervals**4 / (order + 1) ** 4
    expected = constant * (torch.relu(ends - x[:, None]) * torch.relu(x[:, None] - starts)).square()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(functions(x, count, torch.stack([starts, ends]), **options), expected)
    assert slopes(ends, count, **options).diagonal().abs().max() < 1e-9  # the first derivative is continuous


def test_radial_functions_are_gaussians_on_centres_with_their_spacing_as_width():
    x, centres = points(-3, 3), torch.linspace(-2, 2, 8, dtype=torch.float64)
    expected = torch.exp(-(((x[:, None] - centres) / (4 / 7)) ** 2))
    torch.testing.assert_close(functions(x, 8, basis="rbf", low=-2.0, high=2.0), expected)
    grid = torch.stack([centres, torch.full_like(centres, 4 / 7)])
    torch.testing.assert_close(functions(x, 8, grid, basis="rbf"), expected)


@pytest.mark.parametrize("basis", ["bspline", "rbf", "relu"])
def test_one_grid_for_all_inputs_is_the_same_grid_for_each(basis):
    given = inputs(Case(basis, 3, 4, 2, 5, grid="shared"), torch.float64, "cpu", torch.Generator().manual_seed(0))
    x, weight, grid = given.args
    each = grid.expand(4, -1) if basis == "bspline" else grid.unsqueeze(1).expand(2, 4, -1)
    torch.testing.assert_close(kan_linear(x, weight, each, **given.options), kan_linear(x, weight, grid, **given.options))


# --- the layer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [Case("relu", 3, 3, 2, 4, grid="each"), Case("bspline", 3, 2, 3, 4), Case("chebyshev", 2, 3, 2, 4)], ids=str
)
def test_gradients_in_float64(case):
    given = inputs(case, torch.float64, "cpu", torch.Generator().manual_seed(0))
    args = [None if arg is None else arg.requires_grad_() for arg in given.args]
    assert gradcheck(lambda *tensors: kan_linear(*tensors, **given.options), args)


@pytest.mark.parametrize("basis", BASES)
def test_rows_in_many_blocks_give_what_they_give_alone(basis, monkeypatch):
    given = inputs(Case(basis, 50, 3, 2, 6), torch.float64, "cpu", torch.Generator().manual_seed(0))
    x, weight, _ = given.args
    whole = kan_linear(x, weight, **given.options)
    monkeypatch.setattr(import_module("archwright.kernels.kan.fast"), "ELEMENTS", 1)
    torch.testing.assert_close(kan_linear(x, weight, **given.options), whole)
    torch.testing.assert_close(kan_linear(x[1, 7], weight, **given.options), whole[1, 7])


@pytest.mark.parametrize("basis", BASES)
def test_nan_in_one_row_stays_there_and_shows(basis):
    given = inputs(Case(basis, 4, 3, 2, 6), torch.float32, "cpu", torch.Generator().manual_seed(0))
    x, weight, _ = given.args
    expected = kan_linear(x, weight, **given.options)
    x[0, 2, 1] = float("nan")
    found = kan_linear(x, weight, **given.options)
    assert found[0, 2].isnan().all()
    found[0, 2] = expected[0, 2]
    assert torch.equal(found, expected)


def test_bumps_of_far_away_inputs_are_zero_with_zero_slope():
    x = torch.tensor([-1e30, 1e30], dtype=torch.float32)
    for basis in ("bspline", "rbf", "relu"):
        assert functions(x, 5, basis=basis).abs().max() == 0
        assert slopes(x, 5, basis=basis).abs().max() == 0


def test_memory_holds_one_block_of_the_expansion():
    x, weight = torch.randn(4096, 32), torch.randn(16, 32, 8)
    largest = []

    class Watched(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            largest.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    with Watched():
        kan_linear(x, weight)
    assert x.numel() <= max(largest) < x.numel() * 8 / 4


def test_wrong_arguments_are_refused_in_one_sentence():
    x, weight = torch.zeros(2, 3), torch.zeros(4, 3, 5)
    for args, options, error, words in (
        ((x, weight), {"basis": "wavelet"}, ValueError, "knows the bases"),
        ((x, weight[0]), {}, ValueError, "weight"),
        ((x[:, :2], weight), {}, ValueError, r"\(2, 2\) and \(4, 3, 5\)"),
        ((x, weight[..., :0]), {}, ValueError, "G >= 1"),
        ((x, weight), {"order": 0}, ValueError, "order of at least 1"),
        ((x, weight), {"order": 5}, ValueError, "at least 6 functions"),
        ((x, weight[..., :1]), {"basis": "rbf"}, ValueError, "at least 2 functions"),
        ((x, weight), {"low": 1.0}, ValueError, "low < high"),
        ((x, weight, torch.zeros(2, 5)), {"basis": "chebyshev"}, ValueError, "no grid"),
        ((x, weight, torch.zeros(8)), {}, ValueError, r"\(9,\) or \(3, 9\)"),
        ((x, weight, torch.zeros(3, 5)), {"basis": "rbf"}, ValueError, r"\(2, 5\) or \(2, 3, 5\)"),
        ((x.long(), weight), {}, TypeError, '"x"'),
    ):
        with pytest.raises(error, match=words):
            kan_linear(*args, **options)


def test_closed_form_constants():
    """The sum of truncated powers that the closed form shortens is the B-spline."""
    for order in (1, 2, 3):
        z = points(-3, 3, 61)
        terms = [(-1) ** j * comb(order + 1, j) * torch.relu((order + 1) / 2 - j - z) ** order for j in range(order + 2)]
        options = {"basis": "bspline", "order": order, "low": order / 2 - 0.5, "high": order / 2 + 0.5}
        torch.testing.assert_close(functions(z, order + 1, **options)[:, 0], sum(terms) / factorial(order))
