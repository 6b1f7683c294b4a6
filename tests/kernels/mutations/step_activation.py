"""Mistakes in the activation with a step derivative."""

from .types import Mutation

MUTATIONS = [
    Mutation("step_activation", "step_activation", "code.add_((chunk > edge)", "code.sub_((chunk > edge)", "fast"),
    Mutation("step_activation", "step_activation", "bitwise_right_shift(part * steps.bits)", "bitwise_right_shift(part)", "fast"),
    Mutation("step_activation", "step_activation_triton", "codes |= code <<", "codes = code <<", "triton"),
    Mutation("step_activation", "step_activation_triton", "level = tl.where(code >= 3", "level = tl.where(code > 3", "triton"),
]
