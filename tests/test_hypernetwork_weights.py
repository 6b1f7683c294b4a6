"""The graph hypernetwork: what it reads of a candidate, the sweeps, and the tensors it predicts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from archwright.predictors.hypernetwork.candidates import predicted_weights
from archwright.predictors.hypernetwork.decoders import MatrixDecoder, tiled
from archwright.predictors.hypernetwork.files import load_hypernetwork, save_hypernetwork
from archwright.predictors.hypernetwork.functional import run
from archwright.predictors.hypernetwork.graph import ParameterGraph, Slot, graph_of
from archwright.predictors.hypernetwork.model import Hypernetwork, Options
from archwright.predictors.hypernetwork.normalising import normalised
from archwright.predictors.hypernetwork.vocabulary import Vocabulary
from archwright.search_space.architecture import Architecture, port_of, source_of
from archwright.search_space.build import build
from archwright.search_space.compose import cell, chain, conv_stem, layer, part, pooled_head, tokens
from archwright.search_space.errors import ConfigError
from archwright.search_space.seeds import generator
from archwright.search_space.space import SPACES
from archwright.search_space.specs import OutputSpec, TensorSpec

IMAGE, CLASSES = TensorSpec("image", (1, 8, 8)), OutputSpec("classes", 10)
TABLE = TensorSpec("table", (5,))


def made(graphs: list[ParameterGraph], options: Options | None = None, **task: object) -> Hypernetwork:
    given = {"input": IMAGE, "output": CLASSES, **task}
    return Hypernetwork(Vocabulary.of(graphs), options or Options(d=16), seed=3, **given)  # type: ignore[arg-type]


def small() -> Architecture:
    body = cell(part("conv-3x3", "x", name="a"), part("conv-1x1", "x", name="b"), part("sum", "a", "b", name="s"))
    nodes = [part("input", name="input"), replace(conv_stem(4), inputs=("input",)), part("cell", "stem", name="c", body=body)]
    nodes += [part("downsample", "c", name="down"), replace(pooled_head(), inputs=("down",))]
    return Architecture(tuple(nodes), "head")


def relabelled(architecture: Architecture, seed: int) -> Architecture:
    """The same network under other names, its nodes written down in another order."""
    rng = random.Random(seed)
    nodes = list(architecture.nodes)
    rng.shuffle(nodes)
    names = {node.name: f"n{number}" for number, node in enumerate(nodes)}

    def spell(reference: str) -> str:
        port = port_of(reference)
        return names[source_of(reference)] + (f":{port}" if port else "")

    renamed = [
        replace(
            node,
            name=names[node.name],
            inputs=tuple(map(spell, node.inputs)),
            weights=node.weights and names[node.weights],
            params={key: relabelled(value, seed) if isinstance(value, Architecture) else value for key, value in node.params.items()},
        )
        for node in nodes
    ]
    return Architecture(tuple(renamed), spell(architecture.output), {p: spell(r) for p, r in architecture.ports.items()})


@pytest.mark.parametrize("name", ["conv-cells", "token-mixers", "skip-anchors", "resnet", "normact-dag"])
def test_every_parameter_of_every_space_is_predicted_in_its_shape(name):
    space = SPACES[name].obj.for_input(IMAGE)
    architectures = [space.sample(generator(1, "probe", number))[0] for number in range(2)]
    graphs = [graph_of(architecture, IMAGE, CLASSES) for architecture in architectures]
    model = made(graphs)
    for architecture, graph, weights in zip(architectures, graphs, model(graphs), strict=True):
        network = build(architecture, IMAGE, CLASSES)
        assert {key: value.shape for key, value in weights.items()} == {key: p.shape for key, p in network.named_parameters()}
        assert sum(value.numel() for value in weights.values()) == graph.params == sum(p.numel() for p in network.parameters())
        with torch.no_grad():
            assert torch.isfinite(run(network.train(), weights, torch.randn(4, 1, 8, 8))).all()


def test_a_layer_is_read_branch_by_branch_and_shared_weights_belong_to_one_node():
    network = chain(tokens(8), [layer("attention", "mlp"), layer("gru")], pooled_head(), residual="rezero")
    graph = graph_of(network, TABLE, CLASSES)
    blocks = [node.block for node in graph.nodes]
    assert [b for b in blocks if b in ("attention", "mlp", "gru", "write")] == ["attention", "write", "mlp", "write", "gru", "write"]
    by_node = {graph.nodes[slot.node].block for slot in graph.slots}
    assert {"attention", "mlp", "gru", "write"} <= by_node
    assert {slot.kind for slot in graph.slots if graph.nodes[slot.node].block == "write"} == {"own"}  # the rezero gates


def test_isomorphic_graphs_get_identical_tensors():
    for architecture in (small(), SPACES["conv-cells"].obj.for_input(IMAGE).sample(generator(5, "probe", 0))[0]):
        graph = graph_of(architecture, IMAGE, CLASSES)
        model = made([graph])
        first = model([graph])[0]
        for seed in range(2):
            other = relabelled(architecture, seed)
            again = model([graph_of(other, IMAGE, CLASSES)])[0]
            assert set(again) != set(first)
            for slot, twin in zip(graph.slots, graph_of(other, IMAGE, CLASSES).slots, strict=True):
                assert torch.equal(first[slot.name], again[twin.name])


def test_networks_that_differ_in_one_operation_get_other_weights():
    one, other = small(), small()
    body = cell(part("conv-1x1", "x", name="a"), part("conv-1x1", "x", name="b"), part("sum", "a", "b", name="s"))
    other = replace(other, nodes=tuple(replace(n, params={"body": body}) if n.name == "c" else n for n in other.nodes))
    graphs = [graph_of(architecture, IMAGE, CLASSES) for architecture in (one, other)]
    first, second = made(graphs)(graphs)
    for name in ("stem.conv.weight", "head.out.weight"):
        assert (first[name] - second[name]).abs().max() > 1e-4


def test_a_graph_gets_the_same_weights_alone_and_in_a_batch():
    space = SPACES["conv-cells"].obj.for_input(IMAGE)
    graphs = [graph_of(space.sample(generator(2, "probe", number))[0], IMAGE, CLASSES) for number in range(3)]
    model = made(graphs)
    for graph, weights in zip(graphs, model(graphs), strict=True):
        for name, value in model([graph])[0].items():
            torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)


def test_gradients_flow_from_the_loss_into_every_part_of_the_hypernetwork():
    graph = graph_of(small(), IMAGE, CLASSES)
    model = made([graph])
    network = build(small(), IMAGE, CLASSES).train()
    run(network, model([graph])[0], torch.randn(4, 1, 8, 8)).square().mean().backward()
    unused = {name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    assert unused == set()


def test_gradcheck_on_a_target_of_two_layers():
    nodes = (part("input", name="input"), part("mlp", "input", name="hidden"), replace(pooled_head(), inputs=("hidden",)))
    target, task = Architecture(nodes, "head"), (TensorSpec("vector", (3,)), OutputSpec("values", 2))
    graph = graph_of(target, *task)
    model = made([graph], Options(d=4), input=task[0], output=task[1]).double()
    network = build(target, *task).double()
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    named = dict(model.named_parameters())
    checked = ["blocks.weight", "sweeps.gate.weight_ih", "vector.out.weight", "classifier.bias"]

    def loss(*values: torch.Tensor) -> torch.Tensor:
        weights = torch.func.functional_call(model, dict(zip(checked, values, strict=True)), ([graph],))[0]
        return run(network, weights, x).square().sum()

    assert torch.autograd.gradcheck(loss, [named[name].detach().clone().requires_grad_() for name in checked])


def test_with_one_round_and_a_reach_of_one_the_message_is_that_of_direct_neighbours():
    graph = graph_of(small(), IMAGE, CLASSES)
    model = made([graph], Options(d=16, reach=1)).double()
    batch, sweeps = model.batch([graph]), model.sweeps
    assert torch.equal(batch.nearness, (batch.reads > 0).to(batch.nearness))
    h = torch.randn(len(batch.blocks), 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = sweeps(h, batch)
    states = list(h)
    for read in (batch.reads, batch.reads.T):
        for node in range(len(h)) if read is batch.reads else reversed(range(len(h))):
            message = sum((read[node, u] * (sweeps.direct(states[u]) + sweeps.virtual(states[u])) for u in range(len(h))), h.new_zeros(16))
            states[node] = sweeps.gate(message[None], states[node][None])[0]
    torch.testing.assert_close(found, torch.stack(states))
    plain = made([graph], Options(d=16, virtual_edges=False))
    assert plain.sweeps.virtual is None
    assert plain([graph])[0].keys() == model.float()([graph])[0].keys()


def test_virtual_edges_weigh_the_shortest_path_up_to_the_reach():
    graph = graph_of(small(), IMAGE, CLASSES)
    depth = {node.block: number for number, node in enumerate(graph.nodes)}
    head, stem = depth["pooled-head"], depth["conv-stem"]
    assert graph.distances[head, stem] == 4.0  # one of two equal ways through the cell
    for reach, expected in ((3, 0.0), (4, 0.25)):
        batch = made([graph], Options(d=16, reach=reach)).batch([graph])
        assert batch.nearness[head, stem] == expected


def test_targets_larger_than_a_decoder_repeat_it_and_smaller_ones_are_its_corner():
    decoder = MatrixDecoder(8, rows=4, columns=4, side=3)
    states = torch.randn(2, 8)
    whole = decoder(states, (4, 4, 3, 3))
    torch.testing.assert_close(decoder(states, (2, 3, 1, 3)), whole[:, :2, :3, :1])
    large = decoder(states, (6, 4, 3, 5))
    torch.testing.assert_close(large, whole.repeat(1, 2, 1, 1, 2)[:, :6, :, :, :5])
    assert tiled(torch.arange(3.0)[None], (7,)).tolist() == [[0, 1, 2, 0, 1, 2, 0]]


def test_normalised_weights_keep_the_scale_of_what_flows():
    w = torch.randn(1, 64, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel = normalised(w, Slot("k", 0, "k", "matrix", (64, 32, 3, 3)))
    assert abs(float(kernel.std()) - (2 / (32 * 9)) ** 0.5) < 2e-3
    assert abs(float(normalised(w[:, :, :, 0, 0], Slot("m", 0, "m", "matrix", (64, 32))).std()) - 32**-0.5) < 1e-2
    scale = normalised(w[:, :, 0, 0, 0], Slot("s", 0, "s", "scale", (64,)))
    assert float(scale.min()) > 0
    assert float(scale.max()) < 2
    start = torch.full((64,), 7.0)
    own = normalised(w[:, :, 0, 0, 0], Slot("o", 0, "o", "own", (64,), start))
    assert float((own - 7.0).abs().max()) < 1
    assert torch.equal(normalised(w, Slot("k", 0, "k", "matrix", (64, 32, 3, 3)), normalise=False), w)


def test_unknown_blocks_and_names_share_an_embedding_and_sizes_take_the_nearest_known():
    vocabulary = Vocabulary.of([graph_of(small(), IMAGE, CLASSES)])
    assert vocabulary.block("attention") == 0
    assert vocabulary.block("conv-3x3") > 0
    assert vocabulary.channels == (1, 4, 8, 10)
    assert [vocabulary.channels[number] for number in vocabulary.nearest((5, 100, 1, 1))[:2]] == [4, 10]
    stranger = chain(tokens(8), [layer("attention")], pooled_head())
    model = made([graph_of(small(), IMAGE, CLASSES)])
    weights = predicted_weights(model, stranger, TABLE, CLASSES)
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_file_holds_the_whole_hypernetwork_without_pickle(tmp_path):
    graph = graph_of(small(), IMAGE, CLASSES)
    model = made([graph])
    path = save_hypernetwork(model, tmp_path / "deep" / "hypernetwork.safetensors")
    loaded = load_hypernetwork(path)
    assert (loaded.input, loaded.output, loaded.options, loaded.vocabulary) == (IMAGE, CLASSES, model.options, model.vocabulary)
    first, second = predicted_weights(model, small()), predicted_weights(loaded, small())
    assert all(torch.equal(first[name], second[name]) for name in first)
    noisy = [predicted_weights(model, small(), noise=0.1, seed=seed)["stem.conv.weight"] for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])
    assert 0.05 < float((noisy[0] - first["stem.conv.weight"]).std() / first["stem.conv.weight"].std()) < 0.15


def test_mistakes_get_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="multiple of 4"):
        Options(d=6)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_hypernetwork(tmp_path / "missing")
    (tmp_path / "noise").write_bytes(b"no tensors here")
    with pytest.raises(ConfigError, match="is no hypernetwork"):
        load_hypernetwork(tmp_path / "noise")
    model = made([graph_of(small(), IMAGE, CLASSES)])
    with pytest.raises(ConfigError, match="for 10 classes"):
        predicted_weights(model, small(), IMAGE, OutputSpec("classes", 2))
    with pytest.raises(ConfigError, match="was not trained for a task"):
        predicted_weights(made([], input=None, output=None), small())
