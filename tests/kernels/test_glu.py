"""Gated linear units and the squared rectifier beyond their specs: PyTorch's compositions, what is kept, refusals."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from archwright.kernels import glu, relu2

ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "sigmoid": torch.sigmoid}


def _kept(function, *args) -> int:
    """Elements of the tensors that autograd keeps, each counted once."""
    storages = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: storages.setdefault(t.data_ptr(), t), lambda t: t):
        function(*args)
    return sum(tensor.numel() for tensor in storages.values())


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gradients_are_those_of_the_plain_product(act):
    gate, value = (torch.randn(3, 50, dtype=torch.float64, requires_grad=True) for _ in range(2))
    cotangent = torch.randn(3, 50, dtype=torch.float64)
    found = torch.autograd.grad(glu(gate, value, act=act), (gate, value), cotangent)
    plain = torch.autograd.grad(ACTIVATIONS[act](gate) * value, (gate, value), cotangent)
    for left, right in zip(found, plain, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_nothing_but_the_arguments_is_kept(act):
    gate, value = (torch.randn(40, 25, requires_grad=True) for _ in range(2))
    assert _kept(lambda: glu(gate, value, act=act)) == 2000
    assert _kept(lambda: ACTIVATIONS[act](gate) * value) == (3000 if act in ("silu", "gelu") else 2000)
    assert _kept(lambda: relu2(gate)) == 1000


def test_halves_of_one_projection_may_be_given():
    both = torch.randn(6, 10, dtype=torch.float64, requires_grad=True)
    gate, value = both.chunk(2, -1)
    (found,) = torch.autograd.grad(glu(gate, value).square().sum(), both)
    (plain,) = torch.autograd.grad((F.silu(gate) * value).square().sum(), both)
    torch.testing.assert_close(found, plain)


def test_hand_computed_values():
    x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    y = relu2(x)
    assert y.tolist() == [0.0, 0.0, 9.0]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0.0, 0.0, 6.0]
    assert glu(torch.tensor([-1.0, 2.0]), torch.tensor([5.0, 5.0]), act="relu").tolist() == [0.0, 10.0]
    assert glu(torch.zeros(2), torch.tensor([4.0, -6.0]), act="sigmoid").tolist() == [2.0, -3.0]


def test_wrong_arguments_are_refused_in_one_sentence():
    x = torch.zeros(2, 4)
    for args, options, error, words in (
        ((x, x), {"act": "tanh"}, ValueError, "silu, gelu, relu, sigmoid"),
        ((x, x[:1]), {}, ValueError, "one shape and dtype"),
        ((x, x.double()), {}, ValueError, "one shape and dtype"),
        ((x, x.long()), {}, TypeError, '"value"'),
    ):
        with pytest.raises(error, match=words):
            glu(*args, **options)
    with pytest.raises(TypeError, match="real floating point"):
        relu2(x.long())
