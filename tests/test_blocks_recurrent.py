"""Recurrent token mixers keep what their papers promise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F

from archwright.kernels.diagonal_rnn import solve_diagonal_rnn
from archwright.kernels.gated_scan import hgrn_scan, lru_scan
from archwright.search_space.blocks.mixers.lru import LinearRecurrentUnit
from archwright.search_space.blocks.mixers.para_rnn import DiagonalRNN
from archwright.search_space.errors import BuildError
from archwright.search_space.facts import BLOCKS
from archwright.search_space.specs import TensorSpec
from archwright.testing.blocks import check_block

TOKENS = TensorSpec("tokens", (7, 16))
MIXERS = ["headwise-rnn", "hgrn", "gateloop", "lru", "min-gru", "para-gru", "para-lstm"]
CELLS = ["elman", "gru", "lstm", "slstm"]


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _make(name, **params):
    return BLOCKS[name].obj(TOKENS, **params).double()


def _draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def _step_by_step(module, x):
    state, parts = None, []
    for t in range(x.shape[1]):
        y, state, _ = module(x[:, t : t + 1], state)
        parts.append(y)
    return torch.cat(parts, 1)


def _gradients(module, x):
    """The outputs, and the gradients of x and of every parameter under one fixed cotangent."""
    x = x.clone().requires_grad_()
    y = module(x)[0]
    cotangent = _draw(*y.shape, seed=9)
    return [y, *torch.autograd.grad(y, [x, *module.parameters()], cotangent)]


# --- all of them ------------------------------------------------------------------------------------------------------


FURTHER = [
    *(("headwise-rnn", {"cell": cell, "heads": 2, "head_norm": True}) for cell in CELLS),
    *(("headwise-rnn", {"cell": cell, "heads": 1, "causal": False}) for cell in CELLS),
    ("hgrn", {"layer": 2, "layers": 3}),
    ("hgrn", {"layer": 3, "layers": 3, "floor": "fixed", "complex": False, "causal": False}),
    ("gateloop", {"heads": 4, "phase": "fixed", "magnitude": "fixed", "causal": False}),
    ("lru", {"rmin": 0.99, "rmax": 0.9}),
    ("para-gru", {"solver": "newton", "heads": 4}),
    ("para-lstm", {"solver": "newton", "expand": 2, "peephole": False, "causal": False}),
]


@pytest.mark.parametrize(("name", "params"), FURTHER)
def test_laws_hold_for_parameters_taken_together(name, params):
    check_block(name, **params)


@pytest.mark.parametrize(("name", "params"), [*((name, {}) for name in MIXERS), ("headwise-rnn", {"cell": "slstm", "head_norm": True})])
@pytest.mark.parametrize("causal", [True, False])
def test_outputs_start_at_a_sensible_scale(name, params, causal):
    module = BLOCKS[name].obj(TensorSpec("tokens", (64, 32)), causal=causal, **params).double()
    y = module(_draw(16, 64, 32))[0]
    assert 0.25 < y.std() < 1.25
    assert y[:, [0, -1]].std(dim=(0, 2)).min() > 0.15


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("steps", [1, 40])
def test_steps_equal_the_whole_sequence(name, steps):
    module, x = _make(name), _draw(2, steps, 16)
    torch.testing.assert_close(_step_by_step(module, x), module(x)[0], atol=1e-11, rtol=1e-10)


SIZES = [
    ("headwise-rnn", {"cell": "elman", "heads": 4}, 16 * 16 * 5 // 4 + 16),
    ("headwise-rnn", {"cell": "gru", "heads": 2}, 3 * 16 * 16 * 3 // 2 + 4 * 16),
    ("headwise-rnn", {"cell": "lstm", "heads": 1}, 8 * 16 * 16 + 4 * 16),
    ("hgrn", {}, 7 * 256 + 11 * 16),
    ("hgrn", {"complex": False, "expand": 2}, 8 * 256 + 3 * 32 + 16 + 2 * 32),
    ("gateloop", {}, 7 * 256 + 3 * 16),
    ("gateloop", {"phase": "none", "magnitude": "fixed"}, 5 * 256 + 3 * 16),
    ("lru", {"states": 24}, 4 * 24 * 16 + 2 * 256 + 3 * 24 + 3 * 16),
    ("min-gru", {}, 3 * 256 + 3 * 16),
    ("min-gru", {"expand": 2}, 6 * 256 + 5 * 16),
    ("para-gru", {"heads": 4}, 3 * 256 // 4 + 256 + 7 * 16),
    ("para-lstm", {"heads": 2, "expand": 2}, 3 * 256 + 2 * 256 + 8 * 32 + 16),
    ("para-lstm", {"peephole": False}, 4 * 256 + 7 * 16),
]


@pytest.mark.parametrize(("name", "params", "size"), SIZES)
def test_parameters_are_as_many_as_the_documentation_counts(name, params, size):
    assert _count(_make(name, **params)) == size


BAD = [
    ("headwise-rnn", {"cell": "rnn"}, "cell"),
    ("headwise-rnn", {"heads": 3}, "heads"),
    ("headwise-rnn", {"heads": 16, "head_norm": True}, "fewer heads"),
    ("hgrn", {"floor": "cumsum"}, "floor"),
    ("hgrn", {"layer": 3, "layers": 2}, "layer"),
    ("hgrn", {"expand": 0}, "expand"),
    ("gateloop", {"heads": 3}, "heads"),
    ("gateloop", {"heads": "min"}, "heads"),
    ("gateloop", {"phase": "learned"}, "phase"),
    ("gateloop", {"magnitude": "none"}, "magnitude"),
    ("lru", {"states": 0}, "states"),
    ("lru", {"rmin": -0.1}, "rmin"),
    ("lru", {"rmax": 1.1}, "rmax"),
    ("lru", {"phase_max": 0.0}, "phase_max"),
    ("min-gru", {"expand": 1.5}, "expand"),
    ("para-gru", {"heads": 3}, "heads"),
    ("para-gru", {"solver": "euler"}, "solver"),
    ("para-lstm", {"expand": 0}, "expand"),
]


@pytest.mark.parametrize(("name", "params", "word"), BAD)
def test_bad_parameters_are_one_sentence(name, params, word):
    with pytest.raises(BuildError, match=word) as caught:
        _make(name, **params)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


# --- headwise-rnn -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "peer"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_one_head_is_the_classic_recurrence(cell, peer):
    module, x = _make("headwise-rnn", cell=cell, heads=1), _draw(2, 7, 16)
    other = peer(16, 16, batch_first=True).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        other.weight_ih_l0.copy_(module.enter.weight)
        other.bias_ih_l0.copy_(module.enter.bias)
        other.weight_hh_l0.copy_(module.recurrent.flatten(0, 2))
        other.bias_hh_l0.zero_()
        if module.bias is not None:
            other.bias_hh_l0[32:] = module.bias[0]
    torch.testing.assert_close(module(x)[0], other(x)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_heads_do_not_hear_each_other(cell):
    module, x = _make("headwise-rnn", cell=cell), _draw(2, 7, 16)
    with torch.no_grad():
        module.recurrent.normal_()
    state = module(x)[1]
    moved = state.clone()
    moved[:, 0, 1] += 0.5
    change = (module(x, moved)[0] - module(x, state)[0]).abs().sum((0, 1)).view(4, 4).sum(-1)
    assert (change > 0).tolist() == [False, True, False, False]


def _unstabilised(module, x):
    gates = module.enter(x).unflatten(-1, (4, module.heads, module.size))
    h = c = n = torch.zeros_like(gates[:, 0, 0])
    outputs = []
    for t in range(x.shape[1]):
        i, f, g, o = (gates[:, t] + torch.einsum("bhi,ghoi->bgho", h, module.recurrent)).unbind(1)
        c = torch.sigmoid(f) * c + i.exp() * torch.tanh(g)
        n = torch.sigmoid(f) * n + i.exp()
        h = torch.sigmoid(o) * c / n
        outputs.append(h.flatten(1))
    return torch.stack(outputs, 1)


def test_slstm_equals_its_formula_without_a_stabiliser():
    module, x = _make("headwise-rnn", cell="slstm"), _draw(2, 30, 16)
    with torch.no_grad():
        module.recurrent.normal_(std=0.5)
    torch.testing.assert_close(module(x)[0], _unstabilised(module, x), atol=1e-10, rtol=0)


def test_slstm_is_finite_for_extreme_gates():
    module = _make("headwise-rnn", cell="slstm").float()
    with torch.no_grad():
        module.enter.weight.zero_()
        module.enter.bias.copy_(100.0 * torch.randn(64).sign())
    x = torch.randn(2, 50, 16, requires_grad=True)
    y = module(x)[0]
    y.square().sum().backward()
    assert y.isfinite().all()
    assert y.abs().max() <= 1
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("cell", ["lstm", "slstm"])
def test_forget_gates_start_open(cell):
    module = _make("headwise-rnn", cell=cell)
    expected = torch.linspace(3, 6, 4, dtype=torch.float64).repeat(4)
    torch.testing.assert_close(module.enter.bias.view(4, 16)[1].detach(), expected, atol=1e-6, rtol=0)


def test_head_norm_normalises_each_head():
    y = _make("headwise-rnn", cell="gru", head_norm=True)(_draw(2, 7, 16))[0].view(2, 7, 4, 4)
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 7, 4, dtype=torch.float64))
    torch.testing.assert_close(y.var(-1, correction=0), torch.ones(2, 7, 4, dtype=torch.float64), atol=1e-2, rtol=0)


# --- half of the channels backwards -----------------------------------------------------------------------------------


def _states_of(name, **params):
    """The states of a mixer that reads in both directions, as a function of x."""
    module = _make(name, causal=False, **params)
    if name == "headwise-rnn":
        return lambda x: module(x)[0]
    if name == "hgrn":
        return lambda x: module.states(x)[0].real
    if name == "gateloop":
        return lambda x: module.retrieve(x)[0]
    module.out = nn.Identity()
    return lambda x: module(x)[0]


@pytest.mark.parametrize("name", ["headwise-rnn", "hgrn", "gateloop", "min-gru", "para-gru", "para-lstm"])
def test_one_half_reads_the_past_and_the_other_the_future(name):
    states, x = _states_of(name), _draw(2, 7, 16).requires_grad_()
    forwards, backwards = states(x)[:, 3].chunk(2, -1)
    past = torch.autograd.grad(forwards.sum(), x, retain_graph=True)[0].abs().sum((0, 2))
    future = torch.autograd.grad(backwards.sum(), x)[0].abs().sum((0, 2))
    assert (past > 0).tolist() == [True] * 4 + [False] * 3
    assert (future > 0).tolist() == [False] * 3 + [True] * 4


@pytest.mark.parametrize("name", ["min-gru", "para-gru"])
def test_equal_directions_mirror_each_other(name):
    """With the weights of both halves equal, the backward half on reversed inputs gives the forward half's states, reversed."""
    module = _make(name, causal=False)
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if key.startswith(("update", "candidate")):
                parameter[8:] = parameter[:8]
            elif key.startswith("recurrence"):
                parameter[..., 8:] = parameter[..., :8]
    module.out = nn.Identity()
    x = _draw(2, 7, 16)
    forwards, backwards = module(x)[0].chunk(2, -1)
    torch.testing.assert_close(backwards, module(x.flip(1))[0].chunk(2, -1)[0].flip(1))


def test_one_half_of_the_states_of_an_lru_reads_the_future():
    module, x = _make("lru", states=8, causal=False), _draw(2, 7, 16).requires_grad_()
    with torch.no_grad():
        module.recurrence.leave.weight.view(16, 2, 8)[:, :, :4] = 0
    future = torch.autograd.grad(module(x)[0][:, 3].sum(), x)[0].abs().sum((0, 2))
    assert (future > 0).tolist() == [False] * 3 + [True] * 4


# --- hgrn -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("complex_", [True, False])
def test_hgrn_equals_its_equations(complex_):
    module, x = _make("hgrn", complex=complex_, layer=2, layers=3), _draw(2, 40, 16)
    with torch.no_grad():
        module.shift.normal_()
    floor = (1 + torch.sigmoid(module.shift) - 0.5) / 3
    forget = floor + (1 - floor) * torch.sigmoid(module.forget(x))
    value = F.silu(module.candidate(x))
    turn = torch.exp(1j * module.theta) if complex_ else 1.0
    if complex_:
        value = value[..., :16] + 1j * value[..., 16:]
    h, expected = torch.zeros(2, 16, dtype=value.dtype), []
    for t in range(40):
        h = forget[:, t] * turn * h + (1 - forget[:, t]) * value[:, t]
        expected.append(torch.cat([h.real, h.imag], -1) if complex_ else h)
    y = module.out(module.norm(torch.sigmoid(module.gate(x)) * torch.stack(expected, 1)))
    torch.testing.assert_close(module(x)[0], y, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("floor", ["learned", "fixed"])
def test_floors_are_zero_at_first_and_rise_with_depth(floor):
    layers = [_make("hgrn", floor=floor, layer=k, layers=5) for k in range(1, 6)]
    assert layers[0].floors() is None
    with torch.no_grad():
        floors = torch.stack([torch.zeros(16, dtype=torch.float64), *(layer.floors() for layer in layers[1:])])
        torch.testing.assert_close(floors, (torch.arange(5.0, dtype=torch.float64) / 5)[:, None].expand(5, 16))
        for layer in layers[1:]:
            if layer.shift is not None:
                layer.shift.copy_(20 * torch.randn(16).sign())
        floors = torch.stack([torch.zeros(16, dtype=torch.float64), *(layer.floors() for layer in layers[1:])])
    assert (floors.diff(dim=0) > 0).all()
    assert (floors < 1).all()


def test_no_floor_is_no_floor_in_any_layer():
    assert _make("hgrn", floor="none", layer=4, layers=4).floors() is None


def test_without_turns_and_imaginary_inputs_hgrn_is_the_real_recurrence_with_a_tied_gate():
    full, real, x = _make("hgrn"), _make("hgrn", complex=False), _draw(2, 40, 16)
    with torch.no_grad():
        full.theta.zero_()
        full.candidate.weight[16:].zero_()
        full.forget.load_state_dict(real.forget.state_dict())
        full.candidate.weight[:16] = real.candidate.weight
    h = full.states(x)[0]
    assert not h.imag.any()
    torch.testing.assert_close(h.real, real.states(x)[0])
    forget, tied = torch.sigmoid(real.forget(x)), torch.sigmoid(-real.forget(x))
    torch.testing.assert_close(forget + tied, torch.ones_like(forget))


def test_states_of_hgrn_never_outgrow_its_inputs():
    module, x = _make("hgrn", layer=2, layers=2), 5.0 * _draw(2, 100, 16)
    value = F.silu(module.candidate(x))
    largest = torch.complex(value[..., :16], value[..., 16:]).abs().cummax(1)[0]
    assert (module.states(x)[0].abs() <= largest + 1e-12).all()


def test_a_floor_keeps_memory_that_an_open_gate_would_lose():
    low, high = (_make("hgrn", layer=layer, layers=10, floor="fixed") for layer in (1, 10))
    high.load_state_dict(low.state_dict())
    x, start = _draw(2, 20, 16), torch.ones(2, 16, dtype=torch.complex128)
    left = [(module.states(x, start)[1] - module.states(x)[1]).abs() for module in (low, high)]
    assert (left[1] > 0.9**20).all()
    assert left[0].max() < 1e-2


# --- gateloop ---------------------------------------------------------------------------------------------------------


def _attention_form(module, x):
    """``r_t = Re sum_s (q_t prod_{s < u <= t} a_u k_s) v_s`` per head, with all weights in one table."""
    magnitude, phase = module.gates(x)
    log_gate = torch.complex(F.logsigmoid(magnitude), phase).cumsum(1)
    steps = x.shape[1]
    decay = torch.exp(log_gate[:, :, None] - log_gate[:, None]).masked_fill(torch.ones(steps, steps).triu(1).bool()[..., None], 0)
    key = module.key(x) * (torch.sigmoid(-magnitude) if module.input_gate else 1)
    scores = (module.query(x)[:, :, None] * decay.real * key[:, None]).unflatten(-1, (module.heads, -1)).sum(-1)
    return torch.einsum("btsh,bshv->bthv", scores, module.value(x).unflatten(-1, (module.heads, -1))).flatten(2)


@pytest.mark.parametrize("phase", ["data", "fixed", "none"])
@pytest.mark.parametrize(
    ("heads", "magnitude", "input_gate"), [("max", "data", False), ("max", "fixed", True), (4, "data", True), (1, "fixed", False)]
)
def test_scan_attention_and_steps_agree(heads, phase, magnitude, input_gate):
    module, x = _make("gateloop", heads=heads, phase=phase, magnitude=magnitude, input_gate=input_gate), _draw(2, 64, 16)
    r = module.retrieve(x)[0]
    torch.testing.assert_close(_attention_form(module, x), r, atol=1e-6, rtol=1e-6)
    y = module.out(module.norm(r) * F.silu(module.gate(x)))
    torch.testing.assert_close(_step_by_step(module, x), y, atol=1e-9, rtol=1e-9)


def test_fixed_gates_of_one_strength_are_retention():
    module, x = _make("gateloop", heads=4, phase="none", magnitude="fixed"), _draw(2, 20, 16)
    keep = torch.tensor([0.9, 0.95, 0.97, 0.99], dtype=torch.float64)
    with torch.no_grad():
        module.logit.copy_(torch.logit(keep).repeat_interleave(4))
    q, k, v = (part(x).unflatten(-1, (4, 4)).transpose(1, 2) for part in (module.query, module.key, module.value))
    distance = torch.arange(20)[:, None] - torch.arange(20)
    decay = (keep[:, None, None] ** distance.clamp(min=0)).tril()
    expected = ((q @ k.mT) * decay @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(module.retrieve(x)[0], expected, atol=1e-10, rtol=1e-10)


def test_fixed_gates_are_the_linear_recurrent_unit():
    module, x = _make("gateloop", phase="fixed", magnitude="fixed"), _draw(2, 20, 16)
    nu = torch.log(-F.logsigmoid(module.logit))
    h = lru_scan(module.key(x) * module.value(x), nu, module.angle, torch.zeros_like(nu))[0]
    torch.testing.assert_close(module.retrieve(x)[0], (module.query(x) * h).real, atol=1e-10, rtol=1e-10)


def test_gates_of_gateloop_fade():
    module = _make("gateloop")
    assert torch.sigmoid(module.logit).min().item() == pytest.approx(0.9, abs=1e-6)
    assert torch.sigmoid(module.logit).max().item() == pytest.approx(0.999, abs=1e-6)
    magnitude = torch.sigmoid(module.gates(20.0 * _draw(8, 100, 16))[0])
    assert 0 <= magnitude.min() < 0.1
    assert magnitude.max() < 1


def test_phases_from_data_count_modulo_three():
    """Tokens are start, quarter turn, A and B: A turns the memory by a third, B holds it; two channels read cosine and sine."""
    module = BLOCKS["gateloop"].obj(TensorSpec("tokens", (42, 4)), heads="max").double()
    third = 2 * math.pi / 3
    with torch.no_grad():
        for parameter in (module.fade.weight, module.turn.weight, module.key.weight, module.value.weight):
            parameter.zero_()
        module.logit.fill_(40.0)
        module.key.weight[:, 0] = module.value.weight[:, 0] = 1.0
        module.turn.weight[1, 1] = -math.pi / 2
        module.turn.weight[:, 2] = third
        module.query.weight.fill_(1.0)
    turns = _draw(8, 40) > 0
    tokens = torch.cat([torch.tensor([0, 1]).expand(8, 2), torch.where(turns, 2, 3)], 1)
    cosine, sine = module.retrieve(F.one_hot(tokens, 4).double())[0][:, 2:, :2].unbind(-1)
    counted = torch.round(torch.atan2(sine, cosine) / third).long() % 3
    assert torch.equal(counted, turns.cumsum(1) % 3)


# --- lru --------------------------------------------------------------------------------------------------------------


def _unit(states=12, width=5, rmin=0.5, rmax=0.9, phase_max=6.28):
    return LinearRecurrentUnit(width, states, rmin=rmin, rmax=rmax, phase_max=phase_max).double()


def _maps(unit):
    """B, C and lam as the equations have them."""
    states = len(unit.nu)
    into, out = unit.enter.weight, unit.leave.weight
    lam = torch.exp(torch.complex(-unit.nu.exp(), unit.log_theta.exp()))
    return torch.complex(into[:states], into[states:]), torch.complex(out[:, :states], -out[:, states:]), lam


@pytest.mark.parametrize(("rmin", "rmax", "phase_max"), [(0.0, 1.0, 6.28), (0.9, 0.999, 0.3), (0.99, 0.9999, 0.03)])
def test_lru_starts_on_the_ring(rmin, rmax, phase_max):
    unit = _unit(4096, 1, rmin, rmax, phase_max)
    radius, angle = _maps(unit)[2].abs(), unit.log_theta.exp()
    assert rmin - 1e-6 <= radius.min()
    assert radius.max() <= rmax + 1e-6
    assert radius.square().mean().item() == pytest.approx((rmin**2 + rmax**2) / 2, rel=0.05)
    assert angle.min() > 0
    assert 0.95 * phase_max < angle.max() <= phase_max
    torch.testing.assert_close(unit.log_gamma.exp() ** 2, 1 - radius**2, atol=1e-6, rtol=1e-4)


def test_lru_is_stable_whatever_is_learned():
    unit = _unit(61)
    with torch.no_grad():
        unit.nu.copy_(torch.linspace(-30, 30, 61))
        unit.log_theta.normal_(std=10)
    assert (_maps(unit)[2].abs() < 1).all()


def test_loop_scan_and_convolution_agree():
    unit, u = _unit(), _draw(2, 50, 5)
    into, out, lam = _maps(unit)
    h, looped = torch.zeros(2, 12, dtype=torch.complex128), []
    for t in range(50):
        h = lam * h + unit.log_gamma.exp() * (u[:, t].to(into.dtype) @ into.T)
        looped.append((h @ out.T).real + unit.skip * u[:, t])
    kernel = torch.einsum("on,nt,ni->toi", out, lam[:, None] ** torch.arange(50) * unit.log_gamma.exp()[:, None], into).real
    spectrum = torch.einsum("foi,bfi->bfo", torch.fft.rfft(kernel, 100, dim=0), torch.fft.rfft(u, 100, dim=1))
    convolved = torch.fft.irfft(spectrum, 100, dim=1)[:, :50] + unit.skip * u
    y = unit(u)[0]
    torch.testing.assert_close(y, torch.stack(looped, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(y, convolved, atol=1e-6, rtol=0)


def test_white_inputs_give_states_of_the_variance_of_what_enters():
    unit, u = _unit(16, 4), _draw(256, 500, 4)
    into, _, _ = _maps(unit)
    entering = u.to(into.dtype) @ into.T
    h = lru_scan(entering, unit.nu, unit.log_theta.exp(), unit.log_gamma)[0][:, 50:]
    ratio = h.abs().square().mean((0, 1)) / entering.abs().square().mean((0, 1))
    assert ((ratio - 1).abs() < 0.05).all()


def test_lru_is_linear_and_the_same_at_every_time():
    unit, u, v = _unit(), _draw(2, 20, 5), _draw(2, 20, 5, seed=1)
    torch.testing.assert_close(unit(2.0 * u - 3.0 * v)[0], 2.0 * unit(u)[0] - 3.0 * unit(v)[0])
    late = unit(F.pad(u, (0, 0, 6, 0)))[0]
    assert not late[:, :6].any()
    torch.testing.assert_close(late[:, 6:], unit(u)[0])


def test_lru_gradients():
    unit = _unit(4, 3)
    names = [name for name, _ in unit.named_parameters()]

    def run(u, *values):
        return torch.func.functional_call(unit, dict(zip(names, values, strict=True)), (u,))[0]

    assert gradcheck(run, (_draw(1, 4, 3).requires_grad_(), *(p.detach().requires_grad_() for p in unit.parameters())))


# --- min-gru ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positive", [True, False])
def test_min_gru_equals_its_equations(positive):
    module, x = _make("min-gru", positive=positive, expand=2), _draw(2, 40, 16)
    update, candidate = torch.sigmoid(module.update(x)), module.candidate(x)
    if positive:
        candidate = torch.where(candidate >= 0, candidate + 0.5, torch.sigmoid(candidate))
    h, expected = torch.zeros(2, 32, dtype=torch.float64), []
    for t in range(40):
        h = (1 - update[:, t]) * h + update[:, t] * candidate[:, t]
        expected.append(h)
    y, last, _ = module(x)
    torch.testing.assert_close(y, module.out(torch.stack(expected, 1)), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(last, h, atol=1e-10, rtol=1e-10)
    assert (candidate > 0).all() == positive


# --- para-gru, para-lstm ----------------------------------------------------------------------------------------------


PARALLEL = [("para-gru", {}), ("para-gru", {"heads": 4, "expand": 2}), ("para-lstm", {}), ("para-lstm", {"peephole": False})]


@pytest.mark.parametrize(("name", "params"), PARALLEL)
def test_newton_finds_the_states_and_gradients_of_the_loop(name, params):
    serial, newton, x = _make(name, **params), _make(name, solver="newton", **params), _draw(2, 256, 16)
    newton.load_state_dict(serial.state_dict())
    for parallel, sequential in zip(_gradients(newton, x), _gradients(serial, x), strict=True):
        torch.testing.assert_close(parallel, sequential, atol=1e-9, rtol=1e-9)
    recurrence = serial.recurrence
    heads = recurrence.enter.shape[0]
    gates = torch.einsum("bthi,higo->btgho", x.unflatten(-1, (heads, -1)), recurrence.enter).flatten(3) + recurrence.bias
    report = solve_diagonal_rnn(gates, recurrence.recurrent, None, recurrence.peephole, cell=recurrence.cell)[2]
    assert not report.fell_back


def test_para_gru_equals_its_equations():
    module, x = _make("para-gru", heads=4), _draw(2, 40, 16)
    run = module.recurrence
    blocks = x.view(2, 40, 4, 4)
    entering = [torch.cat([blocks[:, :, n] @ run.enter[n, :, g] for n in range(4)], -1) + run.bias[g] for g in range(3)]
    (a_z, a_r, a_c), h, expected = run.recurrent, torch.zeros(2, 16, dtype=torch.float64), []
    for t in range(40):
        z, r = torch.sigmoid(a_z * h + entering[0][:, t]), torch.sigmoid(a_r * h + entering[1][:, t])
        h = (1 - z) * h + z * torch.tanh(a_c * (h * r) + entering[2][:, t])
        expected.append(h)
    torch.testing.assert_close(module(x)[0], module.out(torch.stack(expected, 1)), atol=1e-11, rtol=1e-10)


def test_para_lstm_equals_its_equations():
    module, x = _make("para-lstm"), _draw(2, 40, 16)
    run = module.recurrence
    f_in, c_in, o_in = (x @ run.enter[0, :, g] + run.bias[g] for g in range(3))
    (a_f, a_c, a_o), (p_f, p_o), expected = run.recurrent, run.peephole, []
    c = h = torch.zeros(2, 16, dtype=torch.float64)
    for t in range(40):
        f = torch.sigmoid(a_f * h + p_f * c + f_in[:, t])
        c = f * c + (1 - f) * torch.tanh(a_c * h + c_in[:, t])
        h = torch.sigmoid(a_o * h + p_o * c + o_in[:, t]) * torch.tanh(c)
        expected.append(h)
    torch.testing.assert_close(module(x)[0], module.out(torch.stack(expected, 1)), atol=1e-11, rtol=1e-10)


def test_a_para_gru_computes_parity_at_every_length():
    """Inputs are a bit and a mark of the start: the start sets the state to 1, a one flips its sign, a zero keeps it."""
    unit = DiagonalRNN(2, 1, cell="gru").double()
    with torch.no_grad():
        unit.enter.copy_(torch.tensor([[40.0, 0.0, 0.0], [40.0, 0.0, 20.0]]).view(1, 2, 3, 1))
        unit.bias.copy_(torch.tensor([[-20.0], [40.0], [0.0]]))
        unit.recurrent.copy_(torch.tensor([[0.0], [0.0], [-5.0]]))
    bits = (_draw(8, 256) > 0).double()
    marks = F.one_hot(torch.zeros(8, dtype=torch.long), 257).double()
    h = unit(torch.stack([F.pad(bits, (1, 0)), marks], -1))[0][:, 1:, 0]
    odd = bits.cumsum(1) % 2 == 1
    assert torch.equal(h < 0, odd)
    assert h.abs().min() > 0.9


def test_without_recurrent_weights_a_para_lstm_is_a_linear_recurrence_that_newton_solves_in_one_step():
    module, x = _make("para-lstm", peephole=False), _draw(2, 64, 16)
    run = module.recurrence
    with torch.no_grad():
        run.recurrent.zero_()
    forget, candidate, output = (x @ run.enter[0, :, gate] + run.bias[gate] for gate in range(3))
    c, last = hgrn_scan(forget, torch.tanh(candidate))
    h, state = run(x)
    torch.testing.assert_close(h, torch.sigmoid(output) * torch.tanh(c), atol=1e-12, rtol=0)
    torch.testing.assert_close(state[:, 0], last, atol=1e-12, rtol=0)
    report = solve_diagonal_rnn(torch.stack([forget, candidate, output], 2), run.recurrent, cell="lstm", max_steps=2)[2]
    assert not report.fell_back  # one step for c, one for h, which is not linear in c


def test_gates_of_para_cells_start_slow():
    for name, sign in (("para-gru", -1), ("para-lstm", 1)):
        kept = torch.sigmoid(sign * _make(name).recurrence.bias[0])
        assert kept.min().item() == pytest.approx(0.5)
        assert kept.max().item() == pytest.approx(1 / (1 + math.exp(-3.5)))
