"""The promises of every residual rule, and those of each one's paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archwright import Architecture, Node, TensorSpec, build, chain, layer, tokens
from archwright.search_space.compose import token_head
from archwright.search_space.facts import RESIDUALS
from archwright.search_space.residual import Rule

from .build_toys import TOKENS, VALUES, batch, body, graph, toys

RULES = ["pre-norm", "post-norm", "rezero", "hyper-connections", "value-residual", "test-growing"]
BUILT_IN = RULES[:-1]


@pytest.fixture(autouse=True)
def _toys() -> Iterator[None]:
    with toys():
        yield


def make(name: str, total: int = 4, spec: TensorSpec = TOKENS, **knobs: Any) -> Rule:
    return RESIDUALS[name].obj(spec, total, **knobs).double()


def stack(rule: str | dict[str, Any], depth: int, norm: str | None = None, branches: int = 1) -> Architecture:
    """``depth`` layers of tanh-linear branches on one stream."""
    knobs = {"rule": rule} if isinstance(rule, str) else rule
    nodes: list[tuple[Any, ...]] = [("s", "open", "input", knobs)]
    for index in range(depth):
        nodes.append((f"l{index}", "layer", nodes[-1][0], {"branches": [body()] * branches, "norm": norm}))
    return graph(*nodes, ("z", "close", nodes[-1][0]))


def built(rule: str | dict[str, Any], depth: int, **params: Any) -> Any:
    return build(stack(rule, depth, **params), TOKENS, VALUES, seed=1).double()


def scaled(net: nn.Module, factor: float) -> None:
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "branch" in name:
                parameter.mul_(factor)


# --- every rule


@pytest.mark.parametrize("name", RULES)
def test_shapes_and_gradients_go_through(name: str) -> None:
    net = built(name, 3)
    x = batch().double().requires_grad_()
    y = net(x)
    assert y.shape[:-1] == x.shape[:-1]
    y.square().sum().backward()
    assert x.grad is not None
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", RULES)
def test_skip_keeps_the_shape_of_a_write(name: str) -> None:
    rule = make(name)
    write = rule.write_at(1, rule.layer(0)).double()
    stream = rule.write_at(0, rule.layer(0)).double().write(rule.init(batch().double()), batch(seed=1).double())
    assert write.skip(stream).shape == write.write(stream, write.read(stream)).shape


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_position_depends_on_itself_alone(name: str) -> None:
    rule = make(name)
    write = rule.write_at(1, rule.layer(0)).double()
    x, y = batch().double(), batch(seed=1).double()
    moved = x.clone()
    moved[:, 3] += 1.0
    one, other = (rule.final(write.write(rule.init(a), y + write.read(rule.init(a)))) for a in (x, moved))
    same = [t for t in range(6) if torch.equal(one[:, t], other[:, t])]
    assert same == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("spec", [TensorSpec("image", (8, 4, 4)), TensorSpec("vector", (8,)), TOKENS])
def test_every_layout_has_the_same_rule(name: str, spec: TensorSpec) -> None:
    x = batch(spec).double()
    rule, plain = make(name, spec=spec), make(name)
    _perturb(rule_writes := rule.write_at(1, rule.layer(0)).double())
    _perturb(plain_writes := plain.write_at(1, plain.layer(0)).double())
    tokens_of = (lambda a: a.flatten(2).transpose(1, 2)) if spec.layout == "image" else (lambda a: a.reshape(3, -1, 8))
    stream = rule_writes.write(rule.init(x), 2.0 * x)
    expected = plain_writes.write(plain.init(tokens_of(x)), 2.0 * tokens_of(x))
    torch.testing.assert_close(tokens_of(rule.final(stream)), plain.final(expected), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tokens_of(rule_writes.read(stream)), plain_writes.read(expected), rtol=1e-12, atol=1e-12)


def test_final_announces_its_width() -> None:
    arch = stack("test-growing", 3, branches=2)
    nodes = (*arch.nodes, Node("head", "token-head", ("z",)))
    net = build(Architecture(nodes, "head"), TOKENS, VALUES)
    assert net.head.out.in_features == 8 + 6
    assert net(batch()).shape == (3, 6, 4)


def test_the_builder_counts_writes_along_the_stream() -> None:
    seen: list[tuple[int, int]] = []

    class Counting(Rule):
        def write_at(self, k: int, shared: nn.Module | None) -> Any:
            seen.append((k, self.total))
            return super().write_at(k, shared)

    from archwright.search_space.facts import residual

    residual("test-counting", norm="none")(Counting)
    try:
        build(stack("test-counting", 3, branches=2), TOKENS, VALUES)
    finally:
        del RESIDUALS._entries["test-counting"]
    assert seen[-6:] == [(k, 6) for k in range(6)]


def test_a_change_of_rule_closes_one_stream_and_opens_another() -> None:
    spec = TensorSpec("sequence", (6, 3))
    layers = [layer("gru", residual="rezero"), layer("gru"), layer("attention")]
    mixed = chain(tokens(8), layers, token_head(), residual="hyper-connections")
    assert [n.block for n in mixed.nodes] == ["input", "tokens", "open", "layer", "close", "open", "layer", "layer", "close", "token-head"]
    assert build(mixed, spec, VALUES)(batch(spec)).shape == (3, 6, 4)


# --- pre-norm (row pre-act)


def test_pre_norm_with_zero_branches_is_the_identity_path() -> None:
    net = built("pre-norm", 20, norm="layernorm")
    scaled(net, 0.0)
    x = batch().double()
    assert torch.equal(net(x), x)


def test_pre_norm_gradient_is_identity_plus_branch_gradients() -> None:
    net = built("pre-norm", 2)
    x = batch().double().requires_grad_()
    first, second = net.l0.branch0.op, net.l1.branch0.op
    middle = (x + first(x)).detach().requires_grad_()
    cotangent = batch(seed=2).double()
    (whole,) = torch.autograd.grad(net(x), x, cotangent)
    (late,) = torch.autograd.grad(second(middle), middle, cotangent)
    (early,) = torch.autograd.grad(first(x), x, cotangent + late)
    torch.testing.assert_close(whole - cotangent, late + early, rtol=0, atol=1e-10)


def test_pre_norm_norms_before_the_branch_and_once_at_the_end() -> None:
    arch = chain(tokens(8), [layer("gru", "mlp")], token_head())
    net = build(arch, TensorSpec("sequence", (6, 3)), VALUES)
    order: list[str] = []
    watched = {f"layer-0.{part}": part for part in ("norm0", "branch0.mixer", "norm1", "branch1.channel")} | {"close.norm": "final"}
    for path, part in watched.items():
        net.get_submodule(path).register_forward_hook(lambda *_, part=part: order.append(part))
    net(batch(TensorSpec("sequence", (6, 3))))
    assert order == ["norm0", "branch0.mixer", "norm1", "branch1.channel", "final"]


# --- post-norm (row post-act, mode norm)


def test_post_norm_with_a_zero_branch_norms_once_and_is_idempotent() -> None:
    net = built("post-norm", 1, norm="layernorm")
    scaled(net, 0.0)
    x = batch().double()
    once = nn.functional.layer_norm(x, (8,), eps=1e-5)
    torch.testing.assert_close(net(x), once, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net(once), once, rtol=0, atol=1e-4)


# --- ReZero


def test_rezero_starts_as_the_identity_with_identity_jacobian() -> None:
    net = built("rezero", 12, branches=2)
    x = batch(size=1).double()
    assert torch.equal(net(x), x)
    jacobian = torch.autograd.functional.jacobian(net, x).reshape(48, 48)
    torch.testing.assert_close(torch.linalg.svdvals(jacobian), torch.ones(48, dtype=torch.float64), rtol=0, atol=1e-12)


def test_rezero_first_step_changes_the_scalars_alone() -> None:
    net = built("rezero", 3, branches=2)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    net(batch().double()).square().sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {f"s.shared.l{index}.alpha" for index in range(3)}


def test_rezero_chain_of_scalars_is_a_power() -> None:
    net = built({"rule": "rezero", "init_alpha": 0.1}, 5)
    for index in range(5):
        net.get_submodule(f"l{index}.branch0")._modules["op"] = _Times(0.7)
    x = batch().double()
    torch.testing.assert_close(net(x), (1 + 0.1 * 0.7) ** 5 * x, rtol=1e-7, atol=0)  # 0.1 was float32 first


@pytest.mark.parametrize(("granularity", "count"), [("layer", 3), ("sublayer", 6), ("channel", 6 * 8)])
def test_rezero_granularity_sets_the_number_of_scalars(granularity: str, count: int) -> None:
    net = built({"rule": "rezero", "granularity": granularity}, 3, branches=2)
    scalars = [p for name, p in net.named_parameters() if name.endswith("alpha")]
    assert sum(p.numel() for p in scalars) == count
    assert all(p.no_weight_decay for p in scalars)


def test_rezero_fits_where_a_plain_deep_residual_does_not() -> None:
    assert _loss_after_training("rezero") < 0.1 * _loss_after_training("pre-norm")


def _loss_after_training(rule: str) -> float:
    """Loss of 120 fully connected ReLU layers of width 16 on a small regression, against the loss of the mean (1 is chance)."""
    spec = TensorSpec("vector", (16,))
    nodes: list[tuple[Any, ...]] = [("s", "open", "input", {"rule": rule})]
    cell = Architecture((Node("x", "input", (), {"index": 0}), Node("a", "relu", ("x",)), Node("op", "test-free", ("a",))), "op")
    from archwright.search_space.facts import BLOCKS, block

    block("test-free", "op", ("vector",))(_Free)
    try:
        for index in range(120):
            nodes.append((f"l{index}", "layer", nodes[-1][0], {"branches": [cell]}))
        arch = graph(*nodes, ("z", "close", nodes[-1][0]), ("head", "pooled-head", "z"))
        net = build(arch, spec, VALUES, seed=0)
    finally:
        del BLOCKS._entries["test-free"]
    x = batch(spec, 64)
    target = torch.sin(x[:, :4] * 2.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss = (net(x) - target).square().mean()
        if not loss.isfinite():
            return float("inf")
        loss.backward()
        optimizer.step()
    return float((loss / target.var()).detach())


class _Free(nn.Module):
    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.map = nn.Linear(spec.width, spec.width)
        nn.init.kaiming_normal_(self.map.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x)


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


# --- hyper-connections


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_hyper_connections_start_as_pre_norm(dynamic: bool, n: int) -> None:
    hyper = built({"rule": "hyper-connections", "n_streams": n, "dynamic": dynamic}, 5, norm="layernorm")
    plain = built("pre-norm", 5, norm="layernorm")
    plain.load_state_dict({key: value for key, value in hyper.state_dict().items() if not key.startswith("s.")})
    x = batch().double()
    torch.testing.assert_close(hyper(x), n * plain(x), rtol=1e-12, atol=1e-12)


def test_hyper_connections_copies_stay_equal_at_the_start() -> None:
    rule = make("hyper-connections")
    stream = rule.init(batch().double())
    for k in range(3):
        write = rule.write_at(k, None).double()
        stream = write.write(stream, torch.tanh(write.read(stream)))
    assert all(torch.equal(stream[..., 0, :], stream[..., i, :]) for i in range(1, 4))


def test_hyper_connections_read_stream_k_mod_n_at_the_start() -> None:
    rule = make("hyper-connections", n_streams=3, dynamic=False)
    stream = torch.stack([batch(seed=s).double() for s in range(3)], -2)
    for k in range(6):
        assert torch.equal(rule.write_at(k, None).double().read(stream), stream[..., k % 3, :])


def test_hyper_connections_express_a_parallel_block() -> None:
    """Two copies, both branches reading x before either writes: x + f(x) + g(x)."""
    net = built({"rule": "hyper-connections", "n_streams": 2, "dynamic": False}, 2)
    f, g = net.l0.branch0.op, net.l1.branch0.op
    first, second = (net.s.writes[name][0].mixing for name in ("l0", "l1"))
    with torch.no_grad():
        first.read.copy_(torch.tensor([1.0, 0.0]))
        first.give.copy_(torch.tensor([1.0, 0.0]))  # f is written to copy 0, copy 1 keeps x
        second.read.copy_(torch.tensor([0.0, 1.0]))
        second.keep.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))  # copy 1 is dropped
        second.give.copy_(torch.tensor([1.0, 0.0]))
    x = batch().double()
    torch.testing.assert_close(net(x), x + f(x) + g(x), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("dynamic", "count"), [(False, 4 * 4 + 2 * 4), (True, 4 * 4 + 2 * 4 + 8 * (4 + 2) + 2 + 8)])
def test_hyper_connections_parameter_formula(dynamic: bool, count: int) -> None:
    write = make("hyper-connections", dynamic=dynamic).write_at(0, None)
    assert sum(p.numel() for p in write.parameters()) == count
    assert {n for n, p in write.named_parameters() if hasattr(p, "no_weight_decay")} == {f"mixing.{n}" for n in ("read", "keep", "give")}


def test_hyper_connections_skip_still_mixes_the_copies() -> None:
    write = make("hyper-connections", n_streams=2, dynamic=False).write_at(0, None).double()
    with torch.no_grad():
        write.mixing.keep.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    stream = torch.stack([batch(seed=s).double() for s in range(2)], -2)
    assert torch.equal(write.skip(stream), stream.flip(-2))


@pytest.mark.parametrize("tanh", [True, False])
def test_hyper_connections_dynamic_gradients(tanh: bool) -> None:
    spec = TensorSpec("tokens", (2, 3))
    rule = make("hyper-connections", spec=spec, n_streams=2, tanh=tanh)
    write = rule.write_at(1, None).double()
    _perturb(write)
    stream, y = torch.stack([batch(spec, 1, s).double() for s in range(2)], -2), batch(spec, 1, 3).double()
    names = [name for name, _ in write.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        params = dict(zip(names, values[2:], strict=True))
        return torch.func.functional_call(_Both(write), {f"write.{n}": p for n, p in params.items()}, values[:2])

    inputs = [value.detach().requires_grad_() for value in (stream, y, *write.parameters())]
    assert torch.autograd.gradcheck(run, inputs)


class _Both(nn.Module):
    def __init__(self, write: Any) -> None:
        super().__init__()
        self.write = write

    def forward(self, stream: Tensor, y: Tensor) -> Tensor:
        return self.write.write(stream, y * self.write.read(stream))


def _perturb(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise)
