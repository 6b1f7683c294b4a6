"""Mistakes in the Kolmogorov-Arnold layer."""

from .types import Mutation

MUTATIONS = [
    Mutation("kan", "kan.basis", "return du.sub_(du", "return du.add_(du", "fast"),
    Mutation("kan", "kan.fast", "dwidths -= along", "dwidths += along", "fast"),
    Mutation("kan", "kan.triton_", "total *= 1.0 - u * u", "total *= 1.0 + u * u", "triton"),
    Mutation("kan", "kan.triton_", "there = n < rows", "there = n < rows - 1", "triton"),
    Mutation("kan", "kan.triton_basis", "rising - falling", "rising + falling", "triton"),
]
