"""Mistakes in PolyNorm and PolyReLU."""

from .types import Mutation

MUTATIONS = [
    Mutation("poly_norm", "poly.norm", "sums * r / -width", "sums * r / width", "fast"),
    Mutation("poly_norm", "poly.norm", "out.div_(divisor[block])", "out.mul_(divisor[block])", "fast"),
    Mutation("poly_norm", "poly.triton_", "(p + 1.0) * r * scale", "(p + 1.0) * r", "triton"),
    Mutation("poly_norm", "poly.triton_", "before = power\n", "before = u\n", "triton"),
    Mutation("poly_relu", "poly.relu", ".mul_(rising)", ".mul_(1)", "fast"),
    Mutation("poly_relu", "poly.triton_", "if i < TERMS - 1:", "if i < TERMS:", "triton"),
]
