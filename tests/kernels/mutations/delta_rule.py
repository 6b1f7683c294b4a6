"""Mistakes in the delta rule."""

from .types import Mutation

FAST, TRITON = "delta_rule.fast", "delta_rule.triton_"
MUTATIONS = [
    Mutation("delta_rule", FAST, "before.baddbmm_(know, dwant, alpha=-1)", "before.baddbmm_(know, dwant)", "fast"),
    Mutation("delta_rule", FAST, "dclash.diagonal(dim1=-2, dim2=-1).zero_()", "dclash.diagonal(dim1=-2, dim2=-1)", "fast"),
    Mutation("delta_rule", FAST, "left.cumsum(-1)[..., :-1]", "left.cumsum(-1)[..., 1:]", "fast"),
    Mutation("delta_rule", TRITON, "x -= between if level", "x += between if level", "triton"),
    Mutation("delta_rule", TRITON, "tl.where(ahead, reach, 0.0), ", "tl.where(above, reach, 0.0), ", "triton"),
]
