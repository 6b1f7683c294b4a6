"""Mistakes in linear attention."""

from .types import Mutation

MUTATIONS = [
    Mutation("linear_attention", "linear_attention.anchors", "row - 1] = decay[:, row]", "row - 1] = 1", "fast"),
    Mutation(
        "linear_attention",
        "linear_attention.chunks",
        "_decayed(states[n], states[n + 1], total, n)",
        "_decayed(states[n], states[n + 1], total, 0)",
        "fast",
    ),
    Mutation(
        "linear_attention",
        "linear_attention.fast",
        "addcmul_(query, as_query, value=-1) if wants",
        "addcmul_(query, as_query) if wants",
        "fast",
    ),
    Mutation(
        "linear_attention", "linear_attention.triton_", "slope = (slope + memory) * decay", "slope = (slope - memory) * decay", "triton"
    ),
    Mutation(
        "linear_attention",
        "linear_attention.triton_",
        "dkey + tl.sum(value * given, axis=0) * query",
        "dkey - tl.sum(value * given, axis=0) * query",
        "triton",
    ),
]
