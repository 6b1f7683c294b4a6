"""Mistakes in hyper-connections."""

from .types import Mutation

_WEIGHTED = "tl.sum(share[:, :, None] * cotangent, axis=1)"
MUTATIONS = [
    Mutation("hyper_read", "hyper_connection", "torch.bmm(copies, dx.transpose(1, 2))", "torch.bmm(copies, -dx.transpose(1, 2))", "fast"),
    Mutation("hyper_write", "hyper_connection", "2, dtype).transpose(1, 2), copies)", "2, dtype), copies)", "fast"),
    Mutation("hyper_write", "hyper_connection_triton", _WEIGHTED, _WEIGHTED.replace("share[", "-share["), "triton"),
    Mutation("hyper_write", "hyper_connection_triton", "(copy == i)[None, :, None]", "(copy >= i)[None, :, None]", "triton"),
]
