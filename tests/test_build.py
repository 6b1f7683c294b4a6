"""Architectures become modules: shapes, names, seeds, sharing, state, and errors that name the node."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator

import pytest
import torch

from archwright import Architecture, Node, TensorSpec, build, chain, layer, tokens
from archwright.search_space.compose import token_head
from archwright.search_space.errors import BuildError, RegistryError

from .build_toys import CLASSES, IMAGE, TOKENS, VALUES, batch, body, graph, toys


@pytest.fixture(autouse=True)
def _toys() -> Iterator[None]:
    with toys():
        yield


def test_a_graph_computes_what_its_nodes_say() -> None:
    net = build(graph(("a", "test-linear", "input"), ("b", "sum", "a", "input", "input")), TOKENS, VALUES)
    x = batch()
    assert torch.equal(net(x), torch.tanh(net.a.map(x)) + x + x)


def test_parameter_names_follow_node_names_and_survive_a_round_trip() -> None:
    arch = graph(("stage/0/a.b", "test-linear", "input"), ("type", "test-linear", "stage/0/a.b"))
    net = build(arch, TOKENS, VALUES, seed=1)
    assert list(net.state_dict()) == [f"{key}.map.{part}" for key in ("stage/0/a%2Eb", "type_") for part in ("weight", "bias")]
    other = build(arch, TOKENS, VALUES, seed=2)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(batch()), net(batch()))


def test_parameters_depend_on_the_seed_alone() -> None:
    arch = graph(("a", "test-linear", "input"))
    torch.manual_seed(5)
    first = build(arch, TOKENS, VALUES, seed=3).a.map.weight
    torch.manual_seed(6)
    assert torch.equal(first, build(arch, TOKENS, VALUES, seed=3).a.map.weight)
    assert not torch.equal(first, build(arch, TOKENS, VALUES, seed=4).a.map.weight)


def test_building_leaves_global_random_state_alone() -> None:
    before, python = torch.get_rng_state(), random.getstate()
    build(chain(tokens(8), [layer("attention", "mlp")], token_head()), IMAGE, VALUES, seed=9)
    assert torch.equal(before, torch.get_rng_state())
    assert python == random.getstate()


def test_shared_weights_are_one_module_with_one_gradient() -> None:
    net = build(graph(("a", "test-linear", "input"), ("b", "test-linear", "a", {"weights": "a"})), TOKENS, VALUES)
    assert list(net.state_dict()) == ["a.map.weight", "a.map.bias"]
    x = batch()
    assert torch.equal(net(x), torch.tanh(net.a.map(torch.tanh(net.a.map(x)))))


def test_a_loop_equals_tied_copies_and_not_untied_ones() -> None:
    loop = build(graph(("l", "loop", "input", {"body": body(), "times": 2})), TOKENS, VALUES, seed=1)
    tied = build(graph(("a", "test-linear", "input"), ("b", "test-linear", "a", {"weights": "a"})), TOKENS, VALUES, seed=1)
    untied = build(graph(("a", "test-linear", "input"), ("b", "test-linear", "a")), TOKENS, VALUES, seed=1)
    assert torch.equal(loop(batch()), tied(batch()))
    assert not torch.allclose(loop(batch()), untied(batch()))


def test_a_called_cell_equals_its_nodes_written_out() -> None:
    called = build(graph(("c", "cell", "input", {"body": body()})), TOKENS, VALUES, seed=1)
    flat = build(graph(("a", "test-linear", "input")), TOKENS, VALUES, seed=1)
    assert torch.equal(called(batch()), flat(batch()))
    assert list(called.state_dict()) == ["c/op.map.weight", "c/op.map.bias"]


def test_a_deep_copy_is_independent() -> None:
    net = build(chain(tokens(8), [layer("attention", "mlp")], token_head(), residual="rezero"), TensorSpec("sequence", (6, 3)), VALUES)
    twin = copy.deepcopy(net)
    x = batch(TensorSpec("sequence", (6, 3)))
    before = twin(x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    assert torch.equal(twin(x), before)


@pytest.mark.parametrize("residual", ["pre-norm", "post-norm", "rezero", "hyper-connections", "value-residual"])
@pytest.mark.parametrize("chunks", [(1,) * 6, (4, 2)])
def test_steps_and_chunks_equal_the_full_pass(residual: str, chunks: tuple[int, ...]) -> None:
    spec = TensorSpec("sequence", (6, 3))
    layers = [layer("attention", "mlp"), layer("gru", "swiglu"), layer("attention"), layer("rg-lru"), layer("depthwise-conv")]
    net = _perturbed(build(chain(tokens(8), layers, token_head(), residual=residual), spec, VALUES).double().eval())
    x, state, parts = batch(spec).double(), None, []
    for part in x.split(chunks, dim=1):
        y, state = net.advance(part, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), net(x), rtol=1e-10, atol=1e-12)


def test_state_of_a_looped_mixer_belongs_to_the_use() -> None:
    net = build(graph(("l", "loop", "input", {"body": body("gru"), "times": 3})), TOKENS, VALUES).double()
    x, state, parts = batch().double(), None, []
    for step in x.split(1, dim=1):
        y, state = net.advance(step, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), net(x), rtol=1e-10, atol=1e-12)


def test_advance_does_not_write_to_the_state_it_is_given() -> None:
    net = build(graph(("g", "gru", "input")), TOKENS, VALUES)
    with torch.no_grad():
        _, state = net.advance(batch())
        kept = copy.deepcopy(state)
        first, _ = net.advance(batch(seed=1), state)
        assert torch.equal(first, net.advance(batch(seed=1), kept)[0])
        assert torch.equal(first, net.advance(batch(seed=1), state)[0])


@pytest.mark.parametrize("mode", ["resformer", "resformer-learned", "svformer"])
def test_value_edges_survive_reentrant_checkpointing(mode: str) -> None:
    layers = [layer("attention", "mlp") for _ in range(3)]
    arch = chain(tokens(8), layers, token_head(), residual={"rule": "value-residual", "mode": mode})
    spec = TensorSpec("sequence", (6, 3))
    net = build(arch, spec, VALUES).double()
    x = batch(spec).double().requires_grad_()
    net(x).square().sum().backward()
    plain = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    net.zero_grad()
    _checkpoint_layers(net)
    net(x).square().sum().backward()
    assert {name for name, p in net.named_parameters() if not torch.equal(p.grad, plain[name])} == set()


def _checkpoint_layers(net: torch.nn.Module) -> None:
    """Recompute each layer in the backward pass, the re-entrant way, the port values going in and out as tensors."""
    from torch.utils.checkpoint import checkpoint

    from archwright.search_space.network import Layer

    for module in [m for m in net.modules() if isinstance(m, Layer)]:

        def forward(stream, *, on, layer, state=None, _plain=module.forward, **ports):
            names, held, gives = list(ports), list(ports.values()), []

            def run(stream, *values):
                y, _, out = _plain(stream, on=on, layer=layer, **dict(zip(names, values, strict=True)))
                gives[:] = sorted(out)
                return (y, *(out[name] for name in gives))

            y, *out = checkpoint(run, stream, *held, use_reentrant=True)
            return y, None, dict(zip(gives, out, strict=True))

        module.forward = forward


def _perturbed(net):
    """Every parameter moved a little, so that factors that start at zero do not hide a mistake."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype))
    return net


# --- mistakes

STREAM = ("s", "open", "input", {"rule": "pre-norm"})
CLASHES = {
    "two shapes": (
        graph(("a", "test-linear", "input", {"width": 5}), ("b", "sum", "a", "input")),
        r'Node "b" \("sum"\).*tokens\(6, 5\).*tokens\(6, 8\)',
    ),
    "layout": (graph(("c", "conv-3x3", "input")), r'Node "c" \("conv-3x3"\) reads image, but its input is tokens\(6, 8\)'),
    "unknown parameter": (graph(("a", "gru", "input", {"casual": True})), r'"gru" has no parameter "casual"; did you mean "causal"'),
    "missing parameter": (graph(("a", "tokens", "input")), r'Node "a" \("tokens"\): "tokens" needs the parameter "width"'),
    "block's own refusal": (graph(("a", "attention", "input", {"heads": 3})), r'Node "a" \("attention"\).*width of 8 into 3 heads'),
    "broken block": (
        graph(("a", "test-raising", "input")),
        r'Node "a" \("test-raising"\) cannot read tokens\(6, 8\): this block is.*',
    ),
    "stream as tensor": (graph(STREAM, ("a", "test-linear", "s")), r'Node "a".*reads tokens or vector, but its input is stream.*close it'),
    "tensor as stream": (graph(("a", "layer", "input", {"branches": [body()]})), r'Node "a" \("layer"\) reads stream.*Open a stream first'),
    "stream at the end": (graph(STREAM), "open stream; end it with a close"),
    "branch of another width": (
        graph(STREAM, ("a", "layer", "s", {"branches": [body(width=5)]}), ("z", "close", "a")),
        r'Node "a".*branch 0 gives tokens\(6, 5\), but the stream carries tokens\(6, 8\)',
    ),
    "no branches": (graph(STREAM, ("a", "layer", "s", {"branches": []}), ("z", "close", "a")), 'Node "a".*give a tuple of architectures'),
    "norm where none goes": (
        graph(("s", "open", "input", {"rule": "rezero"}), ("a", "layer", "s", {"branches": [body()], "norm": "rmsnorm"})),
        'Node "a".*the rule "rezero" uses none',
    ),
    "unknown knob of a rule": (graph(("s", "open", "input", {"rule": "rezero", "alpha": 1.0})), 'Node "s".*no parameter "alpha"'),
    "unequal ties": (
        graph(("a", "test-linear", "input", {"width": 5}), ("b", "test-linear", "input", {"weights": "a"})),
        'Node "b".*uses the weights of "a"',
    ),
    "ties of unequal inputs": (
        graph(("a", "test-linear", "input", {"width": 5}), ("b", "test-linear", "a", {"width": 5, "weights": "a"})),
        r'Node "b".*"a", which reads tokens\(6, 8\), but its own input is tokens\(6, 5\)',
    ),
    "unknown port": (
        Architecture((Node("input", "input"), Node("a", "attention", ("input",)), Node("b", "gelu", ("a:keys",))), "b"),
        'reads the port "keys" of "a"',
    ),
}


@pytest.mark.parametrize("name", CLASHES)
def test_an_error_is_one_sentence_that_names_the_node(name: str) -> None:
    arch, message = CLASHES[name]
    with pytest.raises(BuildError, match=message) as caught:
        build(arch, TOKENS, VALUES)
    assert "\n" not in str(caught.value)


def test_an_output_of_the_wrong_size_is_refused() -> None:
    arch = graph(("a", "test-linear", "input", {"width": 7}))
    with pytest.raises(BuildError, match="10 classes"):
        build(arch, TensorSpec("vector", (8,)), CLASSES)


def test_an_unknown_rule_suggests_the_nearest() -> None:
    with pytest.raises(RegistryError, match='did you mean "pre-norm"'):
        build(graph(("s", "open", "input", {"rule": "prenorm"})), TOKENS, VALUES)


def test_a_mistake_inside_a_branch_names_layer_and_node() -> None:
    arch = chain(tokens(8), [layer("attention", mixer_params={"heads": 3})], token_head())
    with pytest.raises(BuildError, match=r'Node "layer-0/mixer" \("attention"\)'):
        build(arch, TensorSpec("sequence", (6, 3)), VALUES)
