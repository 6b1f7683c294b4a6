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

from .architecture import Architecture, cells_of
from .errors import ArchwrightError, BuildError, did_you_mean
from .facts import BLOCKS, RESIDUALS
from .inlining import FlatGraph, FlatNode, inlined, input_key
from .network import Closed, Graph, Layer, Network, Opened, Reference, Step, key_of
from .registry import Entry
from .shapes import META_BATCH, ShapesOfRecurrences, inputs_of, on_meta, spec_of, zeros_of
from .signatures import filled, signature_of
from .specs import OutputSpec, TensorSpec
from .streams import Streams, owners

Make = Callable[[], nn.Module]


def build(architecture: Architecture, input: TensorSpec, output: OutputSpec, *, seed: int = 0) -> Network:
    """The architecture as a module for samples of ``input``; parameters are drawn from ``seed`` alone.

    No global random state is read or changed. Parameter names follow node names (``layer/0.branch0.mixer.query.weight``).

    Raises:
        BuildError: a node cannot read what it is given; names the node, its block and the shapes.
        RegistryError: a block or rule is unknown.
    """
    return drawn(plan_network(architecture, input, output), seed)


def drawn(plan: Plan, seed: int = 0) -> Network:
    """The module of a plan, its parameters drawn from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return plan.make(Network)


def plan_network(architecture: Architecture, input: TensorSpec, output: OutputSpec) -> Plan:
    """The checked plan of a network: shapes known, nothing of size allocated.

    Raises:
        BuildError: as :func:`build`.
    """
    arguments = {key: (zeros_of(spec), spec) for key, spec in inputs_of(input).items()}
    plan = Plan(inlined(architecture), arguments, output)
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
        self.foreseen: dict[int, tuple[nn.Module, Any, dict[str, Any]]] = {}  # layers: module and results, known from the branches
        self.owner = owners(flat)
        self.streams = Streams(flat, where)
        with torch.no_grad(), ShapesOfRecurrences():
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
            value, given = self._run(number, step, module, [value for value, _ in inputs])
        except BuildError as error:
            raise BuildError(str(error) if str(error).startswith("Node ") else f"{label}: {error}") from None
        except ArchwrightError:
            raise
        except Exception as error:
            reads = " and ".join(map(str, specs))
            raise BuildError(f"{label} cannot read {reads}: {_first_line(error)}") from error
        self.steps.append(step)
        layout = "stream" if node.block in ("open", "layer") else entry.facts.gives or self._closed_layout(number, node, specs)
        outputs = {"": (value, spec_of(value, layout, label))}
        outputs |= {port: (held, spec_of(held, "tokens" if held.dim() == 3 else "vector", label)) for port, held in given.items()}
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
            self.modules[key] = self.foreseen[number][0] if number in self.foreseen else on_meta(maker)
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
            spec = spec_of(on.rule.final(stream), layout, label)
            made = _norm_maker(norm, norm_params, spec)
            return lambda: Closed(made() if made is not None else None)
        return self._layer(number, on, params["branches"], ports, inputs, layout, place == "after", (norm, norm_params), label)

    def _layer(
        self,
        number: int,
        on: Opened,
        branches: tuple[Architecture, ...],
        ports: tuple[str, ...],
        inputs: list[tuple[Any, TensorSpec]],
        layout: str,
        after: bool,
        norm: tuple[str | None, dict[str, Any]],
        label: str,
    ) -> Make:
        name = self.flat.nodes[number].name
        extra: dict[int | str, tuple[Any, TensorSpec]] = dict(zip(ports, inputs[1:], strict=True))
        plans: list[Plan] = []
        norms: list[Make] = []
        metas: list[nn.Module] = []
        stream = inputs[0][0]
        given: dict[str, Any] = {}
        for index, (cell, write) in enumerate(zip(branches, on.writes_of(name), strict=True)):
            x = write.read(stream)
            spec = spec_of(x, layout, label)
            normed = spec_of(stream, layout, label) if after else spec
            made = _norm_maker(*norm, normed)
            if made is not None:
                norms.append(made)
                metas.append(on_meta(made))
                x = x if after else metas[-1](x)
            arguments: dict[int | str, tuple[Any, TensorSpec]] = {0: (x, spec)}
            plan = Plan(inlined(cell), arguments | extra, self.output_spec, f"{self.where}{name}/")
            y, gives = plan.result
            clash = f"branch {index} gives {gives}, but the stream carries {spec}; a branch keeps layout and width."
            if gives.layout != spec.layout:
                raise BuildError(clash)
            try:
                stream = write.write(stream, y)
            except (RuntimeError, ValueError):
                raise BuildError(clash) from None
            stream = metas[-1](stream) if after and metas else stream
            plans.append(plan)
            given |= {port: value for port, (value, _) in plan.ports.items()}
        module = Layer([plan.meta() for plan in plans], metas or None, after)
        self.foreseen[number] = (module, stream, given)
        return lambda: Layer([plan.make() for plan in plans], [make() for make in norms] or None, after)

    def _run(self, number: int, step: Step, module: nn.Module, inputs: list[Any]) -> tuple[Any, dict[str, Tensor]]:
        if number in self.foreseen:
            return self.foreseen[number][1:]
        graph = Graph((), {}, (0, ""), {})
        graph._modules.update({step.key or "": module})
        if step.stream is not None:
            graph._modules[step.stream] = self.modules[step.stream]
        value, given = graph._call(step, inputs, {}, {})
        return value, dict(given)


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


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
