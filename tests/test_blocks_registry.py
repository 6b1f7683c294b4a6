"""The laws of blocks: over the whole registry with every knob at its ends, and on blocks that break them."""

from __future__ import annotations

import inspect
import random

import pytest
import torch
from torch import Tensor, nn

from archwright.search_space.choices import Domain, Integer, OneOf, Real
from archwright.search_space.errors import ArchwrightError, BuildError
from archwright.search_space.facts import BLOCKS, BlockFacts
from archwright.search_space.registry import Entry
from archwright.search_space.specs import OutputSpec, TensorSpec
from archwright.testing.blocks import block_names, check_block

MINE = block_names("mixer", "channel", "norm", "activation")
ENDS = [
    ("tokens", {"width": 16}),
    ("patches", {"width": 16, "patch": 2}),
    ("overlap-patches", {"width": 16}),
    ("conv-stem", {"width": 16}),
    ("feature-tokens", {"width": 16}),
    ("pooled-head", {}),
    ("pooled-classifier", {}),
    ("pooled-regressor", {"output": OutputSpec("values", 3)}),
    ("token-head", {}),
    ("node-head", {}),
    ("message-passing-head", {}),
]


def _ends(domain: Domain) -> tuple:
    if isinstance(domain, OneOf):
        return domain.options
    assert isinstance(domain, Integer | Real)
    return (domain.low, domain.high)


VARIANTS = [(name, knob, value) for name in MINE for knob, domain in BLOCKS[name].knobs.items() for value in _ends(domain)]


def test_registry_holds_the_first_set():
    first = {"attention", "hopfield", "gru", "rg-lru", "depthwise-conv", "mlp", "swiglu", "gr-kan", "rbf-kan"}
    assert first | {"layernorm", "rmsnorm", "evonorm-s0", "squared-relu", "gelu", "silu", "relu"} <= set(MINE)


@pytest.mark.parametrize("name", MINE)
def test_laws_hold(name):
    check_block(name)


@pytest.mark.parametrize(("name", "params"), ENDS)
def test_laws_hold_for_stems_and_heads(name, params):
    check_block(name, **params)


def test_every_stem_and_head_is_checked():
    assert {name for name, _ in ENDS} == set(block_names("stem", "head"))


@pytest.mark.parametrize("name", block_names("op"))
def test_laws_hold_for_operations(name):
    check_block(name)


@pytest.mark.parametrize(("name", "knob", "value"), VARIANTS)
def test_laws_hold_at_the_ends_of_every_knob(name, knob, value):
    check_block(name, **{knob: value})


@pytest.mark.parametrize("name", MINE)
def test_laws_hold_at_an_odd_size(name):
    params = {"heads": 1} if "heads" in BLOCKS[name].knobs else {}
    layout = BLOCKS[name].facts.layouts[0]
    check_block(name, TensorSpec(layout, (4, 7)), **params)


@pytest.mark.parametrize("name", MINE)
def test_documented_with_paper_and_knobs_that_the_factory_takes(name):
    entry = BLOCKS[name]
    assert entry.summary.endswith(".")
    assert entry.paper
    assert set(entry.knobs) <= set(inspect.signature(entry.obj).parameters)


@pytest.mark.parametrize("name", [name for name in MINE if BLOCKS[name].facts.kind == "mixer"])
def test_mixers_read_both_ways_only_without_state(name):
    spec = TensorSpec("tokens", (6, 8))
    module = BLOCKS[name].obj(spec, causal=False)
    x = torch.randn(16, 6, 8, requires_grad=True)  # a unit may be dead on a few samples
    y, state, _ = module(x)
    assert state is None
    first = torch.autograd.grad(y[:, 0].sum(), x)[0]
    assert first[:, 1].abs().sum() > 0
    with pytest.raises(BuildError, match="causal=False"):
        module(x, state=torch.zeros(2, 8))


BAD = [
    ("attention", {"heads": 3}, "heads"),
    ("attention", {"heads": 0}, "heads"),
    ("attention", {"values": "resfomer"}, "resfomer"),
    ("hopfield", {"steps": 0}, "steps"),
    ("hopfield", {"beta": 0.0}, "beta"),
    ("gru", {"causal": False}, "odd"),
    ("rg-lru", {"ratio": 0}, "ratio"),
    ("rg-lru", {"gate_blocks": 0}, "gate_blocks"),
    ("rg-lru", {"conv": -1}, "conv"),
    ("rg-lru", {"c": 0}, "c"),
    ("depthwise-conv", {"kernel_size": 2.5}, "kernel_size"),
    ("mlp", {"ratio": -1}, "ratio"),
    ("mlp", {"activation": "layernorm"}, "not an activation"),
    ("gr-kan", {"degree": "5/3"}, "degree"),
    ("gr-kan", {"groups": 0}, "groups"),
    ("rbf-kan", {"centres": 1}, "centres"),
    ("layernorm", {"affine": "both"}, "affine"),
    ("evonorm-s0", {"variant": "b0"}, "variant"),
]


@pytest.mark.parametrize(("name", "params", "word"), BAD)
def test_bad_parameters_are_one_sentence(name, params, word):
    with pytest.raises(ArchwrightError, match=word) as caught:
        BLOCKS[name].obj(TensorSpec("tokens", (4, 7 if name == "gru" else 8)), **params)
    assert "\n" not in str(caught.value)


def test_unknown_activation_suggests_the_nearest():
    with pytest.raises(BuildError, match="squared-relu"):
        BLOCKS["mlp"].obj(TensorSpec("tokens", (4, 8)), activation="square-relu")


# --- blocks that break a law, each caught by its sentence ------------------------------------------------------------


class _Block(nn.Module):
    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(spec.width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class _UnusedParameter(_Block):
    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        self.unused = nn.Parameter(torch.zeros(1))


class _PythonRandomness(_Block):
    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        nn.init.constant_(self.weight, random.random())


class _MixesTheBatch(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight - x.mean(0)


class _InPlace(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2.0) * self.weight if not x.requires_grad else x * 2.0 * self.weight


class _LooksAhead(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + x.flip(1)


class _Explodes(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return x.square().exp() * self.weight


class _LosesPrecision(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return x.float() * self.weight.float()


class _Narrows(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight)[..., :-1]


class _HiddenState(_Block):
    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.weight + self.calls


class _UnsavedConstant(_Block):
    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        self.register_buffer("shift", torch.randn(spec.width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.shift


class _ForgetsItsState(_Block):
    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, dict]:
        return x.cumsum(1) * self.weight, x.sum(1), {}


BROKEN = [
    (_UnusedParameter, "no gradient to its parameter"),
    (_PythonRandomness, "seeded generator"),
    (_MixesTheBatch, "in company"),
    (_InPlace, "in place"),
    (_LooksAhead, "later inputs"),
    (_Explodes, "not finite"),
    (_LosesPrecision, "gives torch.float32"),
    (_Narrows, "keep the shape"),
    (_HiddenState, "two answers"),
    (_UnsavedConstant, "state dict"),
    (_ForgetsItsState, "in chunks"),
]


def _register(monkeypatch, obj, **facts):
    facts = BlockFacts(kind="mixer", layouts=("tokens",), **facts)
    monkeypatch.setitem(BLOCKS._entries, "on-trial", Entry("on-trial", obj, facts=facts))


@pytest.mark.parametrize(("obj", "sentence"), BROKEN)
def test_a_broken_law_is_named(monkeypatch, obj, sentence):
    _register(monkeypatch, obj)
    with pytest.raises(AssertionError, match=sentence):
        check_block("on-trial")


def test_a_sound_block_passes(monkeypatch):
    _register(monkeypatch, _Block, keeps_zero=True)
    check_block("on-trial")


@pytest.mark.parametrize(("facts", "sentence"), [({"parameters": False}, "merged"), ({"keeps_zero": True}, "zeros")])
def test_a_false_fact_is_named(monkeypatch, facts, sentence):
    class Shifted(_Block):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.weight

    _register(monkeypatch, Shifted, **facts)
    with pytest.raises(AssertionError, match=sentence):
        check_block("on-trial")
