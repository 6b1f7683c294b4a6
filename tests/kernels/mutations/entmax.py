"""Mistakes in entmax."""

from .types import Mutation

MUTATIONS = [
    Mutation("entmax", "entmax", "weighted.addcmul_(g, mean, value=-1)", "weighted.addcmul_(g, mean, value=1)", "fast"),
    Mutation("entmax", "entmax", "delta.sub_(step)\n", "delta.sub_(step, alpha=0.5)\n        break\n", "fast"),
    Mutation("entmax", "entmax_triton", "g * (cotangent - mean[:, None])", "g * (cotangent + mean[:, None])", "triton"),
    Mutation("entmax", "entmax_triton", 'mask=mask, other=-float("inf")', "mask=mask, other=0.0", "triton"),
]
