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
    Mutation("min_gru_scan", "gated_scan.triton_fronts", "dx_r * value - da_r) * z", "dx_r * value + da_r) * z", "triton", "gated_scan"),
    Mutation("gate_loop_scan", "gated_scan.triton_fronts", "da_i * cos - da_r * sin", "da_i * cos + da_r * sin", "triton", "gated_scan"),
]
