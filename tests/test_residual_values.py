"""The promises of value residual, whose values travel across layers on edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from archwright import TensorSpec, build, chain, layer, tokens
from archwright.search_space.compose import token_head

from .build_toys import VALUES, batch, toys


@pytest.fixture(autouse=True)
def _toys() -> Iterator[None]:
    with toys():
        yield


SEQUENCE = TensorSpec("sequence", (6, 3))


def attentive(depth: int, residual: Any) -> Any:
    return build(chain(tokens(8), [layer("attention") for _ in range(depth)], token_head(), residual=residual), SEQUENCE, VALUES).double()


def test_value_residual_with_lambda_zero_is_plain_attention() -> None:
    own = attentive(3, {"rule": "value-residual", "lambda1": 0.0})
    plain = attentive(3, "pre-norm")
    plain.load_state_dict(own.state_dict())
    torch.testing.assert_close(own(batch(SEQUENCE).double()), plain(batch(SEQUENCE).double()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["resformer", "resformer-learned", "svformer", "sparse"])
def test_value_residual_leaves_one_layer_unchanged(mode: str) -> None:
    rule = {"rule": "value-residual", "mode": mode}
    assert chain(tokens(8), [layer("attention")], token_head(), residual=rule) == chain(tokens(8), [layer("attention")], token_head())


def test_svformer_has_one_value_map() -> None:
    count = {
        mode: sum(p.numel() for p in attentive(4, {"rule": "value-residual", "mode": mode}).parameters())
        for mode in ("resformer", "svformer")
    }
    assert count["resformer"] - count["svformer"] == 3 * 8 * 8


def test_svformer_caches_keys_per_layer_and_values_once() -> None:
    net = attentive(4, {"rule": "value-residual", "mode": "svformer"})
    _, state = net.advance(batch(SEQUENCE, 1).double())
    held = [tensor for tensor in torch.utils._pytree.tree_leaves(state) if isinstance(tensor, Tensor)]
    assert sum(tensor.numel() for tensor in held) == 4 * 6 * 8 + 6 * 8


def test_every_layer_sends_gradient_to_the_first_values() -> None:
    net = attentive(3, {"rule": "value-residual", "mode": "svformer"})
    with torch.no_grad():
        for index in range(2):
            net.get_submodule(f"layer-{index}.branch0.mixer").out.weight.zero_()
    net(batch(SEQUENCE).double()).square().sum().backward()
    assert net.get_submodule("layer-0.branch0.mixer").value.weight.grad.abs().max() > 0


def test_value_residual_stays_causal() -> None:
    net = attentive(3, "value-residual")
    x = batch(SEQUENCE).double()
    moved = x.clone()
    moved[:, 4:] += 1.0
    torch.testing.assert_close(net(x)[:, :4], net(moved)[:, :4], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(net(x)[:, 4:], net(moved)[:, 4:])
