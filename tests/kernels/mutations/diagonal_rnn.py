"""Mistakes in the diagonal RNN."""

from .types import Mutation

HOME = "diagonal_rnn"

MUTATIONS = [
    Mutation(HOME, "diagonal_rnn.cells", "torch.mul(1 - r, r, out=by_r)", "torch.mul(1 + r, r, out=by_r)", "fast"),
    Mutation(HOME, "diagonal_rnn.cells", "adjoint[:, 1], through)", "adjoint[:, 1], -through)", "fast"),
    Mutation(HOME, "diagonal_rnn.cells", "through.addcmul_(by_o, peephole[1])", "through.addcmul_(by_o, peephole[0])", "fast"),
    Mutation(
        HOME, "diagonal_rnn.fast", "carry = _pull_back(jacobian[0], adjoint[0])", "carry = _pull_back(jacobian[-1], adjoint[0])", "fast"
    ),
    Mutation(HOME, "diagonal_rnn.triton_", "inside & (step > 0)", "inside & (step > 1)", "triton"),
    Mutation(HOME, "diagonal_rnn.triton_", "later_c += d_0 * peephole_f", "later_c -= d_0 * peephole_f", "triton"),
    Mutation(HOME, "diagonal_rnn.triton_", "hidden = (1 - z) * hidden + z * c", "hidden = (1 - z) * hidden - z * c", "triton"),
]
