"""Mistakes in the scan."""

from .types import Mutation

MUTATIONS = [
    Mutation("scan", "scan.chunked", "g[final] += dlast", "g[final] -= dlast", "fast"),
    Mutation("scan", "scan.chunked", "state.addcmul_(gate, state_before)", "state.addcmul_(gate, state_before, value=-1)", "fast"),
    Mutation("scan", "scan.triton_", "h_r = local + product * carry_r[None, :]", "h_r = local - product * carry_r[None, :]", "triton"),
    Mutation("scan", "scan.triton_", "(t >= 0) & (t < steps - 1)", "(t >= 0) & (t < steps)", "triton"),
    Mutation("scan_complex", "scan.chunked", "flat_h[before].conj()", "flat_h[before]", "fast"),
    Mutation("scan_complex", "scan.triton_", "scan_block(gate_r, -gate_i, dh_r", "scan_block(gate_r, gate_i, dh_r", "triton"),
]
