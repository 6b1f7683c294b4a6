"""Mistakes in the scan."""

from .types import Mutation

MUTATIONS = [
    Mutation("scan", "scan", "g[final] += dlast", "g[final] -= dlast", "fast"),
    Mutation("scan", "scan", "state.addcmul_(gate, state_before)", "state.addcmul_(gate, state_before, value=-1)", "fast"),
    Mutation("scan", "scan_triton", "out = local + product * carry[None, :]", "out = local - product * carry[None, :]", "triton"),
    Mutation("scan", "scan_triton", "(t >= 0) & (t < steps - 1)", "(t >= 0) & (t < steps)", "triton"),
]
