"""Mistakes in the recurrences."""

from .types import Mutation

MUTATIONS = [
    Mutation("rnn", "rnn.cells", "early.addcmul_(late, kept)", "early.addcmul_(late, kept, value=-1)", "fast"),
    Mutation("rnn", "rnn.fast", "first.copy_(entering.transpose(0, 1))", "first.zero_()", "fast"),
    Mutation("rnn", "rnn.slstm", "rest_here.mul_(first)", "rest_here", "fast"),
    Mutation("rnn", "rnn.triton_", "new + sigmoid(u1 + p1) * (h - new)", "new - sigmoid(u1 + p1) * (h - new)", "triton"),
    Mutation("rnn", "rnn.triton_backward", "carry = dh * z", "carry = dh * r", "triton"),
    Mutation(
        "rnn",
        "rnn.triton_backward",
        "before = inside & (row * 0 + done + 1 < steps)",
        "before = inside & (row * 0 + done < steps)",
        "triton",
    ),
]
