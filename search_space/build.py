"""From an architecture to a PyTorch module.

Every node is made twice: once on the meta device, where running it costs nothing and tells the shape it gives, and once for
real, its parameters drawn from the seed. Cells and loops are written out first, so each use of a shared module has its own
state and its own place on the stream.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .architecture import Architecture, cells_of
from .errors import ArchwrightError, BuildError, did_you_mean
from .facts import BLOCKS, RESIDUALS
from .inlining import FlatGraph, FlatNode, inlined, input_key
from .network import Closed, Graph, Layer, Network, Opened, Reference, Step, key_of
from .registry import Entry
from .signatures import filled, signature_of
from .specs import OutputSpec, TensorSpec

META_BATCH = 2
_RANK = {"image": 3, "tokens": 2, "sequence": 2, "table": 1, "vector": 1}
Make = Callable[[], nn.Module]


def build(architecture: Architecture, input: TensorSpec, output: OutputSpec, *, seed: int = 0) -> Network:
    """The architecture as a module for samples of ``input``; parameters are drawn from ``seed`` alone.

    No global random state is read or changed. Parameter names follow node names (``layer/0.branch0.mixer.query.weight``).

    Raises:
        BuildError: a node cannot read what it is given; names the node, its block and the shapes.
        RegistryError: a block or rule is unknown.
    """
    plan = plan_network(architecture, input, output)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return plan.make(Network)


def plan_network(architecture: Architecture, input: TensorSpec, output: OutputSpec) -> Plan:
    """The checked plan of a network: shapes known, nothing of size allocated.

    Raises:
        BuildError: as :func:`build`.
    """
    plan = Plan(inlined(architecture), {0: (_meta(input), input)}, output)
    given, spec = plan.result
    wanted = (META_BATCH, output.size)
    if spec.layout == "stream":
        raise BuildError("The output of the architecture is an open stream; end it with a close node.")
    if spec.layout == "vector" and tuple(given.shape) != wanted:
        raise BuildError(f"The output of the architecture is {spec}, but the task wants {output.size} {output.kind}; end it with a head.")
    return plan


class Plan:
    """Steps with their shapes, and for each module of its own how to make it."""

    def __init__(self, flat: FlatGraph, arguments: Mapping[int | str, tuple[Any, TensorSpec]], output: OutputSpec, where: str = "") -> None:
        self.flat, self.arguments, self.output_spec, self.where = flat, arguments, output, where
        self.steps: list[Step] = []
        self.makers: dict[str, Make] = {}
        self.values: list[dict[str, tuple[Any, TensorSpec]]] = []  # per step: port -> meta value and spec
        self.modules: dict[str, nn.Module] = {}  # on the meta device
        self.owner = _owners(flat)
        self.streams = _Streams(flat, where)
        with torch.no_grad(), _ShapesOfRecurrences():
            for number, node in enumerate(flat.nodes):
                self._add(number, node)
        self.result = self._read(flat.output, "the output")
        self.ports = {port: self._read(reference, "a port") for port, reference in flat.ports.items()}

    def make(self, kind: type[Graph] = Graph) -> Any:
        """The module, its parameters drawn from the current random state on the current device."""
        children = {key: maker() for key, maker in self.makers.items()}
        return kind(self.steps, children, self.flat.output, self.flat.ports)

    def meta(self, kind: type[Graph] = Graph) -> Any:
        """The module on the meta device."""
        return kind(self.steps, self.modules, self.flat.output, self.flat.ports)

    def _read(self, reference: Reference, reader: str) -> tuple[Any, TensorSpec]:
        number, port = reference
        found = self.values[number]
        if port not in found:
            name = self.flat.nodes[number].name
            cure = did_you_mean(port, [p for p in found if p])
            raise BuildError(f'{reader} reads the port "{port}" of "{self.where}{name}", which gives none of that name; {cure}.')
        return found[port]

    def _add(self, number: int, node: FlatNode) -> None:
        if node.block == "input":
            self._add_input(node)
            return
        entry = BLOCKS[node.block]
        label = f'Node "{self.where}{node.name}" ("{node.block}")'
        inputs = [self._read(reference, label) for reference in node.inputs]
        specs = [spec for _, spec in inputs]
        params = dict(node.params)
        ports = tuple(params.pop("ports", ()))
        self._check_layouts(label, entry, specs, len(specs) - len(ports))
        stream = self.streams.of(number)
        try:
            maker = self._maker(number, node, entry, specs, params, ports, inputs, label)
            key = self._own(number, node, maker, specs, label)
            module = self.modules[key]
            contract = isinstance(module, Layer) or "state" in inspect.signature(module.forward).parameters
            step = Step(node.name, key, tuple(node.inputs), ports, contract, stream)
            value, given = self._run(step, module, [value for value, _ in inputs])
        except BuildError as error:
            raise BuildError(str(error) if str(error).startswith("Node ") else f"{label}: {error}") from None
        except ArchwrightError:
            raise
        except Exception as error:
            reads = " and ".join(map(str, specs))
            raise BuildError(f"{label} cannot read {reads}: {_first_line(error)}") from error
        self.steps.append(step)
        layout = "stream" if node.block in ("open", "layer") else entry.facts.gives or self._closed_layout(number, node, specs)
        outputs = {"": (value, _spec_of(value, layout, label))}
        outputs |= {port: (held, _spec_of(held, "tokens" if held.dim() == 3 else "vector", label)) for port, held in given.items()}
        self.values.append(outputs)

    def _add_input(self, node: FlatNode) -> None:
        key = input_key(node.params)
        if key not in self.arguments:
            what = f'the port "{key}"' if isinstance(key, str) else f"input {key}"
            raise BuildError(f'Node "{self.where}{node.name}" ("input") is {what}, which nobody gives; wire it from outside.')
        self.steps.append(Step(node.name, None, argument=key))
        self.values.append({"": self.arguments[key]})

    def _check_layouts(self, label: str, entry: Entry, specs: list[TensorSpec], plain: int) -> None:
        if not specs:
            raise BuildError(f"{label} reads nothing; give it an input.")
        for spec in specs[:plain]:
            if spec.layout not in entry.facts.layouts:
                cure = ""
                if spec.layout == "stream":
                    cure = " An open stream is read by layers alone: close it first."
                elif "stream" in entry.facts.layouts:
                    cure = " Open a stream first."
                raise BuildError(f"{label} reads {' or '.join(entry.facts.layouts)}, but its input is {spec}.{cure}")

    def _closed_layout(self, number: int, node: FlatNode, specs: list[TensorSpec]) -> str:
        if node.block != "close":
            return specs[0].layout
        opened = self.flat.nodes[self.streams.opened_at[number]]
        return self._read(opened.inputs[0], "close")[1].layout

    # --- modules

    def _own(self, number: int, node: FlatNode, maker: Make, specs: list[TensorSpec], label: str) -> str:
        """The key of the module that computes this node: its own, or that of the node whose weights it uses."""
        owner = self.owner.get(number, number)
        key = key_of(self.flat.nodes[owner].name)
        if owner == number:
            self.makers[key] = maker
            with torch.device("meta"):
                self.modules[key] = maker()
            return key
        other = self.flat.nodes[owner]
        theirs = [self._read(reference, label)[1] for reference in other.inputs]
        if other.block != node.block or _shared_params(other) != _shared_params(node):
            raise BuildError(f'it uses the weights of "{other.name}", a "{other.block}" with other parameters; tie equal blocks.')
        if [s.shape for s in theirs] != [s.shape for s in specs]:
            raise BuildError(f'it uses the weights of "{other.name}", which reads {theirs[0]}, but its own input is {specs[0]}.')
        return key

    def _maker(
        self,
        number: int,
        node: FlatNode,
        entry: Entry,
        specs: list[TensorSpec],
        params: dict[str, Any],
        ports: tuple[str, ...],
        inputs: list[tuple[Any, TensorSpec]],
        label: str,
    ) -> Make:
        if node.block == "open":
            return self._open(number, specs[0], params)
        if node.block in ("layer", "close"):
            return self._on_stream(number, node, params, ports, inputs, label)
        _check_params(entry, params)
        values = filled(params, entry) if not any(True for value in params.values() for _ in cells_of(value)) else params
        if entry.facts.kind == "head":
            values = {**values, "output": self.output_spec}
        plain = specs[: len(specs) - len(ports)]
        return lambda: entry.obj(*plain, **values)

    def _open(self, number: int, spec: TensorSpec, params: dict[str, Any]) -> Make:
        rule = RESIDUALS[str(params.pop("rule", None))]
        _check_params(rule, params)
        values, writes = filled(params, rule), self.streams.writes[number]
        return lambda: Opened(rule.obj(spec, sum(writes.values()), **values), writes)

    def _on_stream(
        self, number: int, node: FlatNode, params: dict[str, Any], ports: tuple[str, ...], inputs: list[tuple[Any, TensorSpec]], label: str
    ) -> Make:
        opened = self.streams.opened_at[number]
        key = key_of(self.flat.nodes[opened].name)
        rule_name = str(self.flat.nodes[opened].params["rule"])
        place = RESIDUALS[rule_name].facts.norm
        stream = inputs[0][0]
        on = self.modules[key]
        assert isinstance(on, Opened)
        layout = self._read(self.flat.nodes[opened].inputs[0], label)[1].layout
        norm, norm_params = params.get("norm"), dict(params.get("norm_params") or {})
        if norm is not None and place == "none":
            raise BuildError(f'it has the norm "{norm}", but the rule "{rule_name}" uses none; leave the norm out.')
        if node.block == "close":
            spec = _spec_of(on.rule.final(stream), layout, label)
            made = _norm_maker(norm, norm_params, spec)
            return lambda: Closed(made() if made is not None else None)
        return self._layer(node.name, on, params["branches"], ports, inputs, layout, place == "after", (norm, norm_params), label)

    def _layer(
        self,
        name: str,
        on: Opened,
        branches: tuple[Architecture, ...],
        ports: tuple[str, ...],
        inputs: list[tuple[Any, TensorSpec]],
        layout: str,
        after: bool,
        norm: tuple[str | None, dict[str, Any]],
        label: str,
    ) -> Make:
        extra = dict(zip(ports, inputs[1:], strict=True))
        plans: list[Plan] = []
        norms: list[Make | None] = []
        stream = inputs[0][0]
        for index, (cell, write) in enumerate(zip(branches, on.writes_of(name), strict=True)):
            x = write.read(stream)
            spec = _spec_of(x, layout, label)
            plan = Plan(inlined(cell), {0: (x, spec), **extra}, self.output_spec, f"{self.where}{name}/")
            y, gives = plan.result
            if gives.layout == "stream" or gives.layout != spec.layout:
                raise BuildError(f"branch {index} gives {gives}, but the stream carries {spec}.")
            normed = _spec_of(stream, layout, label) if after else spec
            try:
                stream = write.write(stream, y)
            except (RuntimeError, ValueError):
                raise BuildError(f"branch {index} gives {gives}, but the stream carries {spec}; their widths must agree.") from None
            plans.append(plan)
            norms.append(_norm_maker(norm[0], norm[1], normed))

        def make() -> nn.Module:
            made = [maker() for maker in norms if maker is not None]
            return Layer([plan.make() for plan in plans], made or None, after)

        return make

    def _run(self, step: Step, module: nn.Module, inputs: list[Any]) -> tuple[Any, dict[str, Tensor]]:
        graph = Graph((), {}, (0, ""), {})
        graph._modules.update({step.key or "": module})
        if step.stream is not None:
            graph._modules[step.stream] = self.modules[step.stream]
        value, given = graph._call(step, inputs, {}, {})
        return value, dict(given)


class _Streams:
    """Which open each layer and close belongs to, and the writes of each layer, counted along the stream."""

    def __init__(self, flat: FlatGraph, where: str) -> None:
        self.flat = flat
        self.opened_at: dict[int, int] = {}
        self.writes: dict[int, dict[str, int]] = {}
        for number, node in enumerate(flat.nodes):
            if node.block == "open":
                self.opened_at[number] = number
                self.writes[number] = {}
            elif node.block in ("layer", "close") and node.inputs:
                source, port = node.inputs[0]
                if source in self.opened_at and not port and flat.nodes[source].block != "close":
                    self.opened_at[number] = self.opened_at[source]
                if node.block == "layer" and number in self.opened_at:
                    self._count(number, node, where)

    def _count(self, number: int, node: FlatNode, where: str) -> None:
        branches = node.params.get("branches")
        if not isinstance(branches, tuple) or not branches or not all(isinstance(cell, Architecture) for cell in branches):
            raise BuildError(f'Node "{where}{node.name}" ("layer") has the branches {branches!r}; give a tuple of architectures.')
        self.writes[self.opened_at[number]][node.name] = len(branches)

    def of(self, number: int) -> str | None:
        opened = self.opened_at.get(number)
        return None if opened is None or opened == number else key_of(self.flat.nodes[opened].name)


class _ShapesOfRecurrences(TorchFunctionMode):
    """Answers PyTorch's GRU and LSTM on the meta device by shape alone: run there step by step they take a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in (torch.gru, torch.lstm) or len(args) != 9 or not args[0].is_meta:
            return func(*args, **(kwargs or {}))
        x, states, both, batch_first = args[0], args[1], args[7], args[8]
        hidden = states if func is torch.gru else states[0]
        steps = x.shape[:2] if batch_first else x.shape[:-1]
        y = x.new_empty(*steps, hidden.shape[-1] * (2 if both else 1))
        return (y, hidden) if func is torch.gru else (y, *states)


def _owners(flat: FlatGraph) -> dict[int, int]:
    """For each node that shares parameters, the first node of its group."""
    owner: dict[int, int] = {}
    root = list(range(len(flat.nodes)))

    def find(number: int) -> int:
        while root[number] != number:
            number = root[number]
        return number

    for one, other in flat.ties:
        first, second = sorted((find(one), find(other)))
        root[second] = first
    for number in range(len(root)):
        if find(number) != number:
            owner[number] = find(number)
    return owner


def _shared_params(node: FlatNode) -> dict[str, Any]:
    return {key: value for key, value in node.params.items() if key != "ports"}


def _check_params(entry: Entry, params: Mapping[str, Any]) -> None:
    signature = inspect.signature(entry.obj)
    accepted = [p.name for p in signature.parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = [name for name in accepted if name not in ("spec", "specs", "stream", "total", "output")]
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for name in params:
        if name not in known:
            raise BuildError(f'"{entry.name}" has no parameter "{name}"; {did_you_mean(name, known)}')
    needed = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name != "output"]
    for name in needed:
        if name not in params and name not in signature_of(entry.obj).defaults:
            raise BuildError(f'"{entry.name}" needs the parameter "{name}".')


def _norm_maker(name: str | None, params: dict[str, Any], spec: TensorSpec) -> Make | None:
    if name is None:
        return None
    entry = BLOCKS[name]
    if spec.layout not in entry.facts.layouts:
        raise BuildError(f'the norm "{name}" reads {" or ".join(entry.facts.layouts)}, but the stream carries {spec}.')
    _check_params(entry, params)
    values = filled(params, entry)
    return lambda: entry.obj(spec, **values)


def _meta(spec: TensorSpec) -> Tensor:
    return torch.empty(META_BATCH, *spec.shape, device="meta")


def _spec_of(value: Any, layout: str, label: str) -> TensorSpec:
    """The spec of a meta value: layout and shape without the batch axis."""
    if layout == "stream":
        return TensorSpec("stream", tuple(value.shape[1:]) if isinstance(value, Tensor) else ())
    if not isinstance(value, Tensor):
        raise BuildError(f"{label} gives {type(value).__name__}; a block returns a tensor, or (y, state, ports).")
    shape = tuple(value.shape[1:])
    if value.dim() == 0 or value.shape[0] != META_BATCH or len(shape) != _RANK[layout]:
        raise BuildError(f"{label} gives a tensor of shape {tuple(value.shape)}, which is no batch of {layout} (batch is {META_BATCH} here).")
    return TensorSpec(layout, shape)  # type: ignore[arg-type]


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
