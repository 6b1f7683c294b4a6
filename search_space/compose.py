"""Short ways to write an architecture: a stem, layers on a residual stream, a head.

>>> net = chain(tokens(32), [layer("attention", "mlp"), layer("gru")], pooled_head(), residual="rezero")
>>> [node.name for node in net.nodes]
['input', 'stem', 'stream', 'layer-0', 'layer-1', 'close', 'head']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .architecture import Architecture, Node
from .choices import Choices
from .errors import ArchitectureError
from .facts import BLOCKS, RESIDUALS

Rule = str | Mapping[str, Any]
LAYER_NORM = "layernorm"


@dataclass(frozen=True)
class LayerSpec:
    """A layer that :func:`chain` has yet to place on a stream; made by :func:`layer`."""

    branches: tuple[tuple[str, str | Architecture, Mapping[str, Any]], ...]  # role, block or cell, params
    norm: str | None = LAYER_NORM
    norm_params: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    residual: Rule | None = None


def part(block: str, *inputs: str, name: str | None = None, weights: str | None = None, **params: Any) -> Node:
    """A node of ``block``; without a name it is called after its block. Parameters left None are left out."""
    return Node(name or block, block, inputs, {key: value for key, value in params.items() if value is not None}, weights)


def cell(*nodes: Node, output: str | None = None, inputs: int = 1) -> Architecture:
    """A cell with inputs called ``x`` (or ``x0``, ``x1``, ...); it returns ``output``, by default its last node."""
    names = ["x"] if inputs == 1 else [f"x{index}" for index in range(inputs)]
    given = [Node(name, "input", (), {"index": index}) for index, name in enumerate(names)]
    every = (*given, *nodes)
    return Architecture(every, output or every[-1].name)


def tokens(width: int, *, patch: int | None = None) -> Node:
    """The stem that fits the task's input: patches, steps or features, each as a token of ``width``."""
    return part("tokens", name="stem", width=width, patch=patch)


def patches(width: int, patch: int) -> Node:
    """Square patches of an image as tokens."""
    return part("patches", name="stem", width=width, patch=patch)


def conv_stem(width: int, *, kernel_size: int | None = None, stride: int | None = None) -> Node:
    """A convolution on an image, giving a feature map."""
    return part("conv-stem", name="stem", width=width, kernel_size=kernel_size, stride=stride)


def pooled_head(*, pool: str | None = None, dropout: float | None = None) -> Node:
    """Pool over tokens or space, then class logits or real values as the task wants."""
    return part("pooled-head", name="head", pool=pool, dropout=dropout)


def token_head() -> Node:
    """One prediction per token."""
    return part("token-head", name="head")


def layer(
    mixer: str | Architecture | None,
    channel: str | Architecture | None = None,
    *,
    norm: str | None = LAYER_NORM,
    norm_params: Mapping[str, Any] | None = None,
    mixer_params: Mapping[str, Any] | None = None,
    channel_params: Mapping[str, Any] | None = None,
    at: Choices | str | None = None,
    residual: Rule | None = None,
) -> LayerSpec:
    """One layer: a token mixer and a channel mixer, each one write on the stream.

    Args:
        mixer, channel: names of blocks, or cells; None leaves that branch out.
        norm: placed where the stream's rule wants it; a rule without norms drops it.
        mixer_params, channel_params, norm_params: parameters of the blocks.
        at: the choice scope it is made in, whose path becomes its name.
        residual: a rule of its own; :func:`chain` opens a new stream where the rule changes.
    """
    named = (("mixer", mixer, mixer_params or {}), ("channel", channel, channel_params or {}))
    branches = tuple((role, block, params) for role, block, params in named if block is not None)
    if not branches:
        raise ArchitectureError("A layer has neither a mixer nor a channel mixer; give it one of them.")
    return LayerSpec(branches, norm, norm_params or {}, at if isinstance(at, str) or at is None else at.path, residual)


def chain(
    stem: Node,
    layers: Sequence[LayerSpec | Node],
    head: Node,
    *,
    residual: Rule = "pre-norm",
    norm: str | None = None,
) -> Architecture:
    """A network of one line: stem, layers on residual streams, head.

    Args:
        stem: a node without inputs (:func:`tokens`).
        layers: from :func:`layer`; a plain :class:`Node` between them closes the stream, is applied, and a new stream opens.
        head: a node without inputs (:func:`pooled_head`).
        residual: name of the rule, or ``{"rule": name, **knobs}``; layers with a rule of their own keep it.
        norm: the final norm where the rule norms in the branch; by default that of the last layer.

    Raises:
        ArchitectureError: two nodes have one name.
        RegistryError: a block or rule is unknown.
    """
    made = _Chain()
    made.add_node(stem)
    for run in _runs(_numbered(layers), residual):
        if isinstance(run, Node):
            made.add_node(run)
        else:
            made.add_stream(*run, norm)
    made.add_node(head)
    return Architecture(tuple(made.nodes), made.last)


def _numbered(layers: Sequence[LayerSpec | Node]) -> list[LayerSpec | Node]:
    """The layers, the unnamed ones called ``layer-0``, ``layer-1``, ... by their place."""
    for item in layers:
        if not isinstance(item, LayerSpec | Node):
            raise ArchitectureError(f"A chain is made of layers, but one of them is {item!r}; write it as layer(...).")
    return [
        replace(item, name=f"layer-{index}") if isinstance(item, LayerSpec) and item.name is None else item
        for index, item in enumerate(layers)
    ]


def _runs(layers: Sequence[LayerSpec | Node], residual: Rule) -> list[Node | tuple[dict[str, Any], list[LayerSpec]]]:
    """Plain nodes, and between them runs of layers under equal rules."""
    runs: list[Node | tuple[dict[str, Any], list[LayerSpec]]] = []
    for item in layers:
        if isinstance(item, Node):
            runs.append(item)
            continue
        rule = item.residual if item.residual is not None else residual
        knobs = {"rule": rule} if isinstance(rule, str) else dict(rule)
        if "rule" not in knobs:
            raise ArchitectureError(f'The residual rule {dict(knobs)} has no name; write {{"rule": name, ...}}.')
        last = runs[-1] if runs else None
        if isinstance(last, tuple) and last[0] == knobs:
            last[1].append(item)
        else:
            runs.append((knobs, [item]))
    return runs


class _Chain:
    """Nodes added one after another, each reading the last."""

    def __init__(self) -> None:
        self.nodes: list[Node] = [Node("input", "input")]
        self.last = "input"
        self.streams = 0

    def add(self, name: str, block: str, *further: str, **params: Any) -> None:
        self.nodes.append(Node(name, block, (self.last, *further), params))
        self.last = name

    def add_node(self, node: Node) -> None:
        """A prepared node, reading the last one unless it says what it reads."""
        self.nodes.append(node if node.inputs else replace(node, inputs=(self.last,)))
        self.last = node.name

    def add_stream(self, rule: dict[str, Any], layers: Sequence[LayerSpec], final: str | None) -> None:
        entry = RESIDUALS[str(rule["rule"])]
        place, wires = entry.facts.norm, _wired(layers, rule)
        if entry.facts.ports and entry.obj.unwired and not any(wire.takes for wire in wires):
            rule = {"rule": entry.obj.unwired}
        end = "" if self.streams == 0 else f"-{self.streams}"
        self.streams += 1
        self.add(f"stream{end}", "open", **rule)
        for spec, wire in zip(layers, wires, strict=True):
            self._add_layer(spec, wire, place)
        last = layers[-1]
        norm = _norm(final or last.norm, last.norm_params if final is None else {}) if place == "branch" else {}
        self.add(f"close{end}", "close", **norm)

    def _add_layer(self, spec: LayerSpec, wire: _Wire, place: str) -> None:
        branches = []
        for role, block, params in spec.branches:
            mixes = role == "mixer"
            branches.append(_branch(role, block, params, wire if mixes else _Wire()))
        norm = _norm(spec.norm, spec.norm_params) if place != "none" else {}
        taken = {"ports": tuple(wire.takes)} if wire.takes else {}
        self.add(str(spec.name), "layer", *wire.takes.values(), branches=tuple(branches), **norm, **taken)


def _norm(norm: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
    if norm is None:
        return {}
    return {"norm": norm, **({"norm_params": params} if params else {})}


@dataclass(frozen=True)
class _Wire:
    """What the mixer of one layer takes from earlier layers (port -> reference), gives, and is told for it."""

    takes: Mapping[str, str] = field(default_factory=dict)
    gives: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


def _wired(layers: Sequence[LayerSpec], rule: Mapping[str, Any]) -> list[_Wire]:
    """For each port of the rule: the first layer whose mixer offers it gives it to every later one that takes it."""
    entry = RESIDUALS[str(rule["rule"])]
    wires = [_Wire() for _ in layers]
    for port in entry.facts.ports:
        mixers = [_mixer_facts(spec) for spec in layers]
        giver = next((index for index, facts in enumerate(mixers) if facts and port in facts.outputs), None)
        if giver is None:
            continue
        taken = False
        for index in range(giver + 1, len(layers)):
            told = entry.obj.taking(index, rule)
            facts = mixers[index]
            if facts and port in facts.takes and told is not None:
                taken = True
                takes = {**wires[index].takes, port: f"{layers[giver].name}:{port}"}
                wires[index] = replace(wires[index], takes=takes, params={**wires[index].params, **told})
        if taken:
            wires[giver] = replace(wires[giver], gives=(*wires[giver].gives, port))
    return wires


def _mixer_facts(spec: LayerSpec) -> Any:
    """The facts of the layer's mixer, or None where it has none or it is a cell."""
    role, block, _ = spec.branches[0]
    return BLOCKS[block].facts if role == "mixer" and isinstance(block, str) else None


def _branch(role: str, block: str | Architecture, params: Mapping[str, Any], wire: _Wire) -> Architecture:
    if isinstance(block, Architecture):
        return block
    given = [Node(port, "input", (), {"port": port}) for port in wire.takes]
    told = {**params, **wire.params, **({"ports": tuple(wire.takes)} if wire.takes else {})}
    node = Node(role, block, ("x", *wire.takes), told)
    return Architecture((Node("x", "input", (), {"index": 0}), *given, node), role, {port: f"{role}:{port}" for port in wire.gives})
