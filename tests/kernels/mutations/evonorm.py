"""Mistakes in EvoNorm."""

from .types import Mutation

MUTATIONS = [
    Mutation("evonorm_s0", "evonorm.s0", "r**2 / -count", "r**2 / count", "fast"),
    Mutation("evonorm_s0", "evonorm.s0", "gate.neg_().add_(1.0)", "gate.neg_()", "fast"),
    Mutation(
        "evonorm_s0", "evonorm.s0_triton", "tl.where(mask, value - mean[:, None, None], 0.0)", "value - mean[:, None, None]", "triton"
    ),
    Mutation("evonorm_s0", "evonorm.s0_triton", "* gate * (1.0 + inner", "* gate * (1.0 - inner", "triton"),
    Mutation("evonorm_b0", "evonorm.b0", "(mean - mean.mean(0)) * share", "mean * share", "fast"),
    Mutation("evonorm_b0", "evonorm.b0", "p.mul_(instance)", "p.mul_(~instance)", "fast"),
    Mutation("evonorm_b0", "evonorm.b0_triton", "tl.where(wins, 0.0, pull)", "pull", "triton"),
    Mutation("evonorm_b0", "evonorm.b0_triton", "below = tl.where(below <= spread", "below = tl.where(below > spread", "triton"),
]
