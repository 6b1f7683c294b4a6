"""Mistakes in the gated scans."""

from .types import Mutation

MUTATIONS = [
    Mutation(
        "hgrn_scan", "gated_scan.triton_fronts", "d_keep = da_r - dx_r * value_r", "d_keep = da_r + dx_r * value_r", "triton", "gated_scan"
    ),
    Mutation("rg_lru_scan", "gated_scan.triton_", "((t >= 0) & (t < steps - 1))", "((t >= 0) & (t < steps))", "triton", "gated_scan"),
    Mutation(
        "lru_scan", "gated_scan.triton_fronts", "across = sum1 * w0 - sum0 * w1", "across = sum1 * w0 + sum0 * w1", "triton", "gated_scan"
    ),
]
