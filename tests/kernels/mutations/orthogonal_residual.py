"""Mistakes in the orthogonal residual."""

from .types import Mutation

MUTATIONS = [
    Mutation("orthogonal_residual", "orthogonal_residual", "stream, share * e, value=2.0", "stream, share * e, value=1.0", "fast"),
    Mutation("orthogonal_residual", "orthogonal_residual_triton", "(2.0 * taken * e)", "(-2.0 * taken * e)", "triton"),
    Mutation("orthogonal_residual", "orthogonal_residual_triton", "+ eps\n", "\n", "triton"),
]
