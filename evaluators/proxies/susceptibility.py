"""How an untrained network passes on a change of its input, and how much its signal differs from one initialisation to another."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from ...search_space.choices import Integer
from .aspect_ratio import BOOK, shape_of
from .batch import Batch
from .registry import proxy

STEP = 1e-3
DRAWS = 8


@proxy("chi-parallel", paper=BOOK)
def chi_parallel(network: nn.Module, batch: Batch) -> float:
    """The susceptibility to a change of the input's length per layer, ``(dK_L / dK_0)^(1/L)``; 1 keeps it, below it dies out.

    See :func:`susceptibilities`.
    """
    return susceptibilities(network, batch.x)[0]


@proxy("chi-perpendicular", paper=BOOK)
def chi_perpendicular(network: nn.Module, batch: Batch) -> float:
    """The susceptibility to a change across the input per layer; above 1 near inputs are driven apart, below 1 together.

    See :func:`susceptibilities`.
    """
    return susceptibilities(network, batch.x)[1]


def susceptibilities(network: nn.Module, x: Tensor) -> tuple[float, float]:
    """``chi_par`` and ``chi_perp`` of a network at its initial weights.

    With K the mean square of a sample's values, L the weights on the longest path, and small changes of each sample by h x (along it)
    and by a random direction of the same length across it::

        chi_par = |(K_out(x + h x) - K_out(x)) / (K(x + h x) - K(x))|^(1/L),   chi_perp = (K_out(change across) / K(change across))^(1/L)

    each averaged over samples before the root is taken. Both are 1 for a network of rectifiers with weights of variance 2 / fan-in.
    A batch norm, which forgets the length, has a ``chi_par`` of 0. Computed in float64.

    Returns:
        NaN for inputs that are codes, which have no near neighbours, and for a network without weights.
    """
    depth = shape_of(network, x).depth
    if not x.is_floating_point() or depth == 0:
        return math.nan, math.nan
    network, x = copy.deepcopy(network).double(), x.double()
    across = torch.randn(x.shape, dtype=torch.float64)
    flat, turned = x.flatten(1), across.flatten(1)
    power = flat.square().sum(1, keepdim=True).clamp(min=1e-12)
    turned = turned - flat * (turned * flat).sum(1, keepdim=True) / power
    turned = turned * (power.sqrt() / turned.norm(dim=1, keepdim=True).clamp(min=1e-12))
    with torch.no_grad():
        plain, longer, beside = network(x), network(x + STEP * x), network(x + STEP * turned.view_as(x))
    grown = (_square(longer) - _square(plain)).mean() / (_square(x + STEP * x) - _square(x)).mean()
    apart = _square(beside - plain).mean() / _square(STEP * turned).mean()
    return float(grown.abs()) ** (1 / depth), float(apart) ** (1 / depth)


@proxy("four-point-vertex", knobs={"n_init": Integer(2, 32)}, paper=BOOK)
def four_point_vertex(network: nn.Module, batch: Batch, *, n_init: int = DRAWS) -> float:
    """How much the size of the output differs between initialisations beyond what independent values would, from ``n_init`` draws.

    See :func:`empirical_vertex`. An estimate from 8 draws tells orders of magnitude.
    """
    return empirical_vertex(network, batch.x, draws=n_init)


def empirical_vertex(network: nn.Module, x: Tensor, *, draws: int = DRAWS) -> float:
    """``V / K^2 = Var(mean z^2) / E[mean z^2]^2 - 2 / n`` of a network's n outputs z over initialisations, averaged over samples.

    The excess is 0 for independent Gaussian outputs, and ``nu (l - 1) / n`` for a perceptron of l layers of width n, to first order in
    l / n. Each draw replaces every weight of two axes or more by normal numbers of the same variance; other parameters stay. Random
    numbers come from the global generator, which a registered proxy seeds.

    Args:
        x: samples (n, ...).
        draws: at least 2.
    """
    weights = [weight for weight in network.parameters() if weight.dim() > 1 and weight.requires_grad]
    kept = [weight.detach().clone() for weight in weights]
    powers = []
    with torch.no_grad():
        for _ in range(draws):
            for weight, before in zip(weights, kept, strict=True):
                weight.normal_(0.0, float(before.double().square().mean().sqrt()))
            output = network(x)
            powers.append(_square(output).double())
        for weight, before in zip(weights, kept, strict=True):
            weight.copy_(before)
    found = torch.stack(powers)
    excess = found.var(dim=0) / found.mean(dim=0).square() - 2.0 / output[0].numel()
    return float(excess.mean())


def _square(values: Tensor) -> Tensor:
    """K of each sample."""
    return values.flatten(1).square().mean(dim=1)
