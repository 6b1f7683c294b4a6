"""Mistakes in the rational function."""

from .types import Mutation

MUTATIONS = [
    Mutation("rational", "rational.fast", ".mul_(inner.sign_()).neg_()", ".mul_(inner.sign_())", "fast"),
    Mutation("rational", "rational.fast", "out.mul_(torch.sign(at, out=value))", "out.mul_(1)", "fast"),
    Mutation("rational", "rational.triton_", "near = (DEGREE - k) * coefficient", "near = (DEGREE - k + 1) * coefficient", "triton"),
    Mutation(
        "rational",
        "rational.triton_",
        "below = q + group % q_groups\n    at = tl.load(x + offset, mask=mask, other=0.0).to(ACC)\n    g",
        "below = q\n    at = tl.load(x + offset, mask=mask, other=0.0).to(ACC)\n    g",
        "triton",
    ),
]
