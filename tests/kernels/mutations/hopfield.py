"""Mistakes in the Hopfield retrieval."""

from .types import Mutation

MUTATIONS = [
    Mutation("hopfield", "hopfield", "is_causal=ordered and seen is None", "is_causal=False", "fast"),
    Mutation("hopfield", "hopfield", "(state * beta).to(query.dtype)", "(state + beta).to(query.dtype)", "fast"),
]
