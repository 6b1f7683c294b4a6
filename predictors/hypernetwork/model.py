"""The graph hypernetwork: a candidate's graph in, all its weights out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...search_space.errors import ConfigError
from ...search_space.seeds import derive_seed
from ...search_space.specs import OutputSpec, TensorSpec
from .batch import GraphBatch, batched
from .decoders import MatrixDecoder, VectorDecoder
from .graph import ParameterGraph, Slot
from .normalising import normalised
from .sweeps import GatedSweeps
from .vocabulary import Vocabulary

Pool = Literal["mean", "mean+max", "last"]
Weights = dict[str, Tensor]
MOST_CHANNELS, MOST_SIDE = 64, 7


@dataclass(frozen=True)
class Options:
    """The shape of a hypernetwork.

    Args:
        d: width of the node states, a multiple of 4.
        rounds: forward-backward sweeps.
        virtual_edges: messages along shortest paths, weighed by one over their length.
        reach: longest such path.
        normalise: give decoded tensors the scale that their place in the network wants.
        channels, side: largest tensor decoded as such, larger ones repeat it; by default the largest known, up to 64 and 7.
    """

    d: int = 32
    rounds: int = 1
    virtual_edges: bool = True
    reach: int = 50
    normalise: bool = True
    channels: int | None = None
    side: int | None = None

    def __post_init__(self) -> None:
        if self.d < 4 or self.d % 4:
            raise ConfigError(f"The width d of a hypernetwork is {self.d}; expected a multiple of 4, such as 32.")
        if self.rounds < 1 or self.reach < 1:
            raise ConfigError(f"A hypernetwork was given rounds {self.rounds} and reach {self.reach}; expected 1 or more of each.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Hypernetwork(nn.Module):
    """Predicts every learnable tensor of a candidate from its graph; GHN-2.

    A node starts as ``E_block + sum_k value_k E_trait_k + E_sizes``, where ``E_sizes`` joins embeddings, d / 4 wide, of outputs,
    inputs, kernel height and kernel width, averaged over the node's tensors. Gated sweeps (:mod:`.sweeps`) and a layer norm
    give ``h_v``. A tensor is decoded from ``(h_v + E_name + E_sizes) / sqrt(3)`` with the embeddings of its own name and sizes
    (:mod:`.decoders`) and brought to scale (:mod:`.normalising`). Names and sizes are those of a :class:`.Vocabulary`.

    Departures from the paper: nodes are whole blocks, which may own several tensors, hence ``E_name``; parameters of blocks are
    features; sizes of nodes may be left out (:meth:`states`), so that a graph can be embedded without building the network.

    Args:
        vocabulary: names and sizes that have embeddings of their own.
        options: its shape.
        input, output: of the task whose networks it predicts.
        seed: of its initial weights; embeddings of a name depend on seed and name alone.

    Source: Parameter Prediction for Unseen Deep Architectures (2021, arXiv 2110.13100).
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        options: Options | None = None,
        *,
        input: TensorSpec | None = None,
        output: OutputSpec | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.vocabulary, self.options, self.input, self.output = vocabulary, options or Options(), input, output
        d = self.options.d
        channels = self.options.channels or min(max(vocabulary.channels), MOST_CHANNELS)
        side = self.options.side or min(max(vocabulary.kernels), MOST_SIDE)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(derive_seed(seed, "init", "hypernetwork"))
            self.sweeps = GatedSweeps(d, rounds=self.options.rounds, virtual_edges=self.options.virtual_edges)
            self.norm = nn.LayerNorm(d)
            self.matrix = MatrixDecoder(d, channels, channels, side)
            self.classifier = MatrixDecoder(d, output.size if output is not None else 1, channels, 1, layers=2)
            self.vector = VectorDecoder(d, channels)
        self.blocks = _embedding("block", vocabulary.blocks, d, seed)
        self.traits = _embedding("trait", vocabulary.traits, d, seed)
        self.tensors = _embedding("tensor", vocabulary.tensors, d, seed)
        self.channels = nn.ModuleList(_embedding(f"channels {axis}", vocabulary.channels, d // 4, seed) for axis in range(2))
        self.kernels = nn.ModuleList(_embedding(f"kernel {axis}", vocabulary.kernels, d // 4, seed) for axis in range(2))

    def batch(self, graphs: Sequence[ParameterGraph]) -> GraphBatch:
        """The graphs as this hypernetwork reads them, on its device."""
        return batched(graphs, self.vocabulary, self.options.reach).to(self.norm.weight)

    def states(self, batch: GraphBatch, sized: Tensor | None = None) -> Tensor:
        """Node states ``h_v``, [n, d].

        Args:
            sized: [g] 1 for graphs whose nodes know the sizes of their tensors, 0 for those that do not; by default all do.
        """
        h = self.blocks(batch.blocks)
        h = h.index_add(0, batch.trait_nodes, batch.trait_values[:, None] * self.traits(batch.traits))
        if len(batch.slot_nodes):
            counts = torch.bincount(batch.slot_nodes, minlength=len(h)).clamp(min=1).to(h)
            shares = torch.reciprocal(counts) if sized is None else sized[batch.graphs] / counts
            h = h.index_add(0, batch.slot_nodes, self._sizes(batch) * shares[batch.slot_nodes, None])
        return self.norm(self.sweeps(h, batch))

    def embed(self, graphs: Sequence[ParameterGraph], pool: Pool = "mean") -> Tensor:
        """``z = mean_v h_v`` of each graph, [g, d], without the sizes of tensors.

        Args:
            pool: ``mean``; ``mean+max`` joins the largest of each number, [g, 2 d]; ``last`` is the state of the output's node.
        """
        batch = self.batch(graphs)
        h = self.states(batch, self.norm.weight.new_zeros(len(graphs)))
        if pool == "last":
            return h[batch.outputs]
        each = [h[batch.graphs == index] for index in range(len(graphs))]
        mean = torch.stack([states.mean(0) for states in each])
        return mean if pool == "mean" else torch.cat([mean, torch.stack([states.amax(0) for states in each])], dim=1)

    def forward(self, graphs: Sequence[ParameterGraph], sized: Tensor | None = None) -> list[Weights]:
        """The weights of each graph's network by name in its state dict; differentiable."""
        batch = self.batch(graphs)
        states = self.states(batch, sized)[batch.slot_nodes] + self.tensors(batch.slot_tensors)
        states = (states + self._sizes(batch)) / 3**0.5
        found: list[Weights] = [{} for _ in graphs]
        for members in _alike(graphs):
            rows = torch.tensor([row for row, _, _ in members], device=states.device)
            slot = members[0][2]
            for (_, index, one), w in zip(members, self._decoded(states[rows], slot), strict=True):
                found[index][one.name] = w
        return found

    def _decoded(self, states: Tensor, slot: Slot) -> Tensor:
        if len(slot.shape) < 2:
            w = self.vector(states, prod(slot.shape), scale=slot.kind == "scale")
        else:
            w = (self.classifier if slot.kind == "classifier" else self.matrix)(states, slot.sizes)
        return normalised(w.reshape(-1, *slot.shape), slot, normalise=self.options.normalise)

    def _sizes(self, batch: GraphBatch) -> Tensor:
        tables = (*self.channels, *self.kernels)
        return torch.cat([table(batch.slot_sizes[:, axis]) for axis, table in enumerate(tables)], dim=1)


def _alike(graphs: Sequence[ParameterGraph]) -> list[list[tuple[int, int, Slot]]]:
    """Tensors of one kind and shape, decoded together: (row, graph, slot); those with a start of their own stand alone."""
    groups: dict[Any, list[tuple[int, int, Slot]]] = {}
    row = 0
    for index, graph in enumerate(graphs):
        for slot in graph.slots:
            key = row if slot.start is not None else (slot.kind, slot.shape)
            groups.setdefault(key, []).append((row, index, slot))
            row += 1
    return list(groups.values())


def _embedding(table: str, names: Sequence[str | int], d: int, seed: int) -> nn.Embedding:
    """A row for the unknown and one per name, standard normal, each from a seed of its own."""
    rows = [torch.randn(d, generator=torch.Generator().manual_seed(derive_seed(seed, table, str(name)))) for name in ("", *names)]
    return nn.Embedding.from_pretrained(torch.stack(rows), freeze=False)
