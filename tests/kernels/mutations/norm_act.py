"""Mistakes in the norm with activation, the gated linear unit and the squared rectifier."""

from .types import Mutation

MUTATIONS = [
    Mutation("norm_act", "norm_act", "addcmul_(rows, share, value=-1)", "addcmul_(rows, share, value=1)", "fast"),
    Mutation("norm_act", "norm_act", 'share / width if norm == "rms"', 'share if norm == "rms"', "fast"),
    Mutation(
        "norm_act",
        "norm_act_triton",
        "h = tl.where(mask, h - mean[:, None], 0.0)\n        tl.store",
        "h = h - mean[:, None]\n        tl.store",
        "triton",
    ),
    Mutation("norm_act", "norm_act_triton", "(dz - normal * along[:, None])", "(dz + normal * along[:, None])", "triton"),
    Mutation("norm_act", "norm_act_triton", "range(program, blocks, tl.num_programs(0))", "range(program, program + 1)", "triton"),
    Mutation("glu", "glu", "dgate = dy * value", "dgate = dy * gate", "fast"),
    Mutation("glu", "glu_triton", "d * b * slope(a, ACT)", "-d * b * slope(a, ACT)", "triton"),
    Mutation("relu2", "relu2", "mul_(2).mul_(dy)", "mul_(dy)", "fast"),
    Mutation("relu2", "glu_triton", 'd * slope(a, "relu2")', 'd * activate(a, "relu2")', "triton", home="relu2"),
]
