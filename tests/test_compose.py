"""The short spellings: what ``chain`` writes, what it wires, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from archwright import Architecture, OutputSpec, TensorSpec, build, chain, layer, pooled_head, tokens
from archwright.search_space.choices import record
from archwright.search_space.compose import cell, conv_stem, part, patches
from archwright.search_space.errors import ArchitectureError, RegistryError
from archwright.search_space.space import Space

from .build_toys import CLASSES, IMAGE, batch


def ports_of(arch: Architecture) -> dict[str, tuple[str, ...]]:
    return {node.name: node.inputs[1:] for node in arch.nodes if node.block == "layer"}


def small_mixers(choose: Any) -> Architecture:
    width = choose.one_of("width", [32, 64, 128])
    rule = choose.one_of("residual", ["pre-norm", "rezero", "hyper-connections"])
    norm = choose.one_of("norm", ["layernorm", "rmsnorm"]) if rule != "rezero" else None
    layers = []
    for here in choose.repeat("layer", 1, 6):
        mixer = here.one_of("mixer", ["attention", "gru", "rg-lru", "hopfield"])
        channel = here.one_of("channel", ["mlp", "swiglu", "gr-kan"])
        layers.append(layer(mixer, channel, norm=norm, at=here))
    return chain(tokens(width), layers, pooled_head(), residual=rule)


def test_a_space_of_sixteen_lines_builds_and_runs() -> None:
    import random

    space = Space("small-mixers", small_mixers)
    rng = random.Random(0)
    for _ in range(3):
        arch, _ = space.sample(rng)
        assert build(arch, TensorSpec("sequence", (6, 3)), CLASSES)(batch(TensorSpec("sequence", (6, 3)))).shape == (3, 10)


def test_names_are_choice_scopes_and_the_rest_is_numbered() -> None:
    arch, _ = record(lambda choose: chain(tokens(8), [layer("gru", at=h) for h in choose.repeat("layer", 2, 2)], pooled_head()), _low)
    assert [n.name for n in arch.nodes] == ["input", "stem", "stream", "layer/0", "layer/1", "close", "head"]
    plain = chain(tokens(8), [layer("gru"), layer("gru", at="mine")], pooled_head())
    assert [n.name for n in plain.nodes if n.block == "layer"] == ["layer-0", "mine"]


def _low(path: str, domain: Any) -> Any:
    return domain.values()[0]


def test_names_do_not_enter_the_digest() -> None:
    one = chain(tokens(8), [layer("gru"), layer("attention")], pooled_head())
    other = chain(tokens(8), [layer("gru", at="a"), layer("attention", at="b")], pooled_head())
    assert one.digest == other.digest
    assert one.digest != chain(tokens(8), [layer("attention"), layer("gru")], pooled_head()).digest


def test_the_norm_goes_where_the_rule_wants_it() -> None:
    def norms(rule: str) -> list[tuple[str, Any]]:
        arch = chain(tokens(8), [layer("gru", norm="rmsnorm")], pooled_head(), residual=rule)
        return [(n.block, n.params.get("norm")) for n in arch.nodes if n.block in ("layer", "close")]

    assert norms("pre-norm") == [("layer", "rmsnorm"), ("close", "rmsnorm")]
    assert norms("post-norm") == [("layer", "rmsnorm"), ("close", None)]
    assert norms("rezero") == [("layer", None), ("close", None)]


def test_the_final_norm_can_be_another() -> None:
    arch = chain(tokens(8), [layer("gru", norm="rmsnorm")], pooled_head(), norm="layernorm")
    assert arch.node("close").params["norm"] == "layernorm"


def test_the_first_giver_is_wired_to_every_later_taker() -> None:
    mixers = ["gru", "attention", "hopfield", "attention", "attention"]
    arch = chain(tokens(8), [layer(m, "mlp") for m in mixers], pooled_head(), residual="value-residual")
    values = ("layer-1:values",)
    assert ports_of(arch) == {"layer-0": (), "layer-1": (), "layer-2": (), "layer-3": values, "layer-4": values}


def test_sparse_value_residual_starts_at_its_first_layer() -> None:
    rule = {"rule": "value-residual", "mode": "sparse", "first_layer": 2}
    arch = chain(tokens(8), [layer("attention")] * 4, pooled_head(), residual=rule)
    assert ports_of(arch) == {"layer-0": (), "layer-1": (), "layer-2": ("layer-0:values",), "layer-3": ("layer-0:values",)}


def test_values_do_not_cross_a_change_of_rule() -> None:
    layers = [layer("attention", residual="rezero"), layer("attention"), layer("attention")]
    arch = chain(tokens(8), layers, pooled_head(), residual="value-residual")
    assert ports_of(arch) == {"layer-0": (), "layer-1": (), "layer-2": ("layer-1:values",)}


def test_runs_of_equal_rules_share_a_stream() -> None:
    layers = [layer("gru"), layer("gru", residual="pre-norm"), layer("gru", residual="rezero")]
    arch = chain(tokens(8), layers, pooled_head())
    assert [n.name for n in arch.nodes if n.block in ("open", "close")] == ["stream", "close", "stream-1", "close-1"]


def test_a_node_between_layers_closes_the_stream() -> None:
    arch = chain(tokens(8), [layer("gru"), part("dropout", rate=0.2), layer("gru")], pooled_head())
    kinds = ["input", "tokens", "open", "layer", "close", "dropout", "open", "layer", "close", "pooled-head"]
    assert [n.block for n in arch.nodes] == kinds


def test_a_cell_can_be_a_branch() -> None:
    square = cell(part("gelu", "x"), part("silu", "x"), part("sum", "gelu", "silu"))
    arch = chain(tokens(8), [layer(square, "mlp")], pooled_head())
    assert build(arch, IMAGE, CLASSES)(batch(IMAGE)).shape == (3, 10)


@pytest.mark.parametrize("stem", [tokens(8, patch=2), patches(8, 4), conv_stem(8), conv_stem(8, kernel_size=5, stride=2)])
def test_stems_without_layers_make_a_network(stem: Any) -> None:
    assert build(chain(stem, [], pooled_head(pool="max", dropout=0.1)), IMAGE, CLASSES)(batch(IMAGE)).shape == (3, 10)


def test_an_architecture_survives_json() -> None:
    arch = chain(tokens(8), [layer("attention", "mlp")] * 2, pooled_head(), residual="value-residual")
    again = Architecture.from_json(arch.to_text())
    assert (again, again.digest) == (arch, arch.digest)
    assert torch.equal(build(again, IMAGE, CLASSES, seed=1)(batch(IMAGE)), build(arch, IMAGE, CLASSES, seed=1)(batch(IMAGE)))


def test_regression_and_classification_share_the_head() -> None:
    arch = chain(tokens(8), [layer("gru")], pooled_head())
    assert build(arch, TensorSpec("table", (4,)), OutputSpec("values", 1))(batch(TensorSpec("table", (4,)))).shape == (3, 1)


def test_mistakes_are_named() -> None:
    with pytest.raises(ArchitectureError, match="neither a mixer nor a channel"):
        layer(None)
    with pytest.raises(ArchitectureError, match=r"one of them is 'gru'; write it as layer"):
        chain(tokens(8), ["gru"], pooled_head())  # type: ignore[list-item]
    with pytest.raises(RegistryError, match='did you mean "rezero"'):
        chain(tokens(8), [layer("gru")], pooled_head(), residual="re-zero")
    with pytest.raises(ArchitectureError, match="has no name"):
        chain(tokens(8), [layer("gru")], pooled_head(), residual={"n_streams": 2})
    with pytest.raises(ArchitectureError, match='Two nodes are called "a"'):
        chain(tokens(8), [layer("gru", at="a"), layer("gru", at="a")], pooled_head())


def test_importing_compose_does_not_import_torch() -> None:
    code = "import sys, archwright.search_space.compose; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
