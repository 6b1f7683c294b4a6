"""Hopfield retrieval and local attention beyond the spec: fixed points, temperatures, windows against full masks, refusals."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import explain, hopfield, local_attention
from archwright.kernels.hopfield import SPEC, reference


def _draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _patterns(count=8, width=16):
    return torch.nn.functional.normalize(_draw(1, 1, count, width), dim=-1) * 4


def test_one_step_is_attention():
    q, k, v = (_draw(2, 3, 5, 4, seed=seed) for seed in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(hopfield(q, k, v, 0.5), expected)


def test_stored_patterns_come_back_from_noisy_ones_and_stay():
    patterns = _patterns()
    noisy = patterns + 0.3 * _draw(*patterns.shape, seed=1)
    settled = hopfield(noisy, patterns, None, 4.0, steps=5)
    assert (settled - patterns).norm(dim=-1).max() < 1e-3 < (noisy - patterns).norm(dim=-1).min()
    torch.testing.assert_close(hopfield(settled, patterns, None, 4.0), settled, atol=1e-6, rtol=0)


def test_a_cold_state_reads_one_pattern_and_a_hot_one_their_mean():
    patterns, values = _patterns(), _draw(1, 1, 8, 3, seed=2)
    torch.testing.assert_close(hopfield(patterns, patterns, values, 1e3), values)
    torch.testing.assert_close(hopfield(patterns, patterns, values, 1e-9), values.mean(2, keepdim=True).expand(1, 1, 8, 3))


def test_a_beta_per_head_equals_a_number_for_each_head():
    q, k, v = (_draw(2, 3, 5, 4, seed=seed) for seed in range(3))
    beta = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    found = hopfield(q, k, v, beta, steps=3)
    for head, one in enumerate(beta.tolist()):
        alone = slice(head, head + 1)
        torch.testing.assert_close(found[:, alone], hopfield(q[:, alone], k[:, alone], v[:, alone], one, steps=3))


def test_the_newest_states_read_what_the_whole_sequence_read():
    q, k, v = (_draw(2, 2, 9, 4, seed=seed) for seed in range(3))
    whole = hopfield(q, k, v, 0.7, steps=2, causal=True)
    torch.testing.assert_close(hopfield(q[:, :, 6:], k, v, 0.7, steps=2, causal=True), whole[:, :, 6:])
    torch.testing.assert_close(hopfield(q[:, :, :4], k[:, :, :4], v[:, :, :4], 0.7, steps=2, causal=True), whole[:, :, :4])


def test_gradients_of_gradients_through_a_causal_chain():
    q, k, v = (_draw(1, 2, 3, 2, seed=seed).requires_grad_() for seed in range(3))
    beta = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *args: hopfield(*args, steps=2, causal=True), (q, k, v, beta), fast_mode=True)


def test_pytorch_serves_everywhere():
    q = _draw(1, 1, 2, 2)
    options = {"scale": 1.0, "steps": 1, "causal": False, "mask": None}
    assert explain("hopfield", q, q, q, None, **options).backend == "fast"
    assert "PyTorch" in SPEC.supports(q, q, q, None, **options)
    torch.testing.assert_close(SPEC.triton(q, q, q, None, **options), reference(q, q, q, None, **options))


def test_wrong_arguments_are_refused_in_one_sentence():
    x = torch.zeros(2, 3, 4, 5)
    for args, options, words in (
        ((x, x, x, 1.0), {"steps": 0}, "at least once"),
        ((x[0], x, x, 1.0), {}, "of shape"),
        ((x, x[..., :3], x, 1.0), {}, "of shape"),
        ((x, x, x[:, :, :2], 1.0), {}, "as many values"),
        ((x, x.double(), x, 1.0), {}, "one real dtype"),
        ((x, x[:, :, :2], None, 1.0), {"causal": True}, "no more states"),
        ((x, x, x, 1.0), {"causal": True, "mask": torch.ones(4, 4, dtype=torch.bool)}, "takes no mask"),
    ):
        with pytest.raises(ValueError, match=words):
            hopfield(*args, **options)


def _dense(q, k, v, window, causal, decay):
    steps = q.shape[2]
    distance = torch.arange(steps)[:, None] - torch.arange(steps)
    inside = (distance < window) & (distance >= (0 if causal else 1 - window))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if decay is not None:
        scores = scores - decay[:, None, None] * distance.abs()
    return scores.masked_fill(~inside, -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("steps", [1, 5, 32, 33, 100])
@pytest.mark.parametrize("window", [1, 2, 7, 32, 40, 1000])
def test_local_attention_is_attention_under_a_band(causal, steps, window):
    q, k, v = (_draw(2, 3, steps, 4, seed=seed).requires_grad_() for seed in range(3))
    decay = torch.tensor([0.0, 0.1, 1.0], dtype=torch.float64, requires_grad=True)
    for faded in (None, decay):
        leaves = (q, k, v) if faded is None else (q, k, v, decay)
        outputs = [function(q, k, v) for function in _pair(window, causal, faded)]
        torch.testing.assert_close(*outputs)
        cotangent = _draw(*outputs[0].shape, seed=9)
        gradients = [torch.autograd.grad(out, leaves, cotangent, allow_unused=True) for out in outputs]
        for left, right in zip(*gradients, strict=True):
            torch.testing.assert_close(left, right)


def _pair(window, causal, decay):
    yield lambda q, k, v: local_attention(q, k, v, window=window, causal=causal, decay=decay)
    yield lambda q, k, v: _dense(q, k, v, window, causal, decay)


def test_local_attention_forms_only_blocks_along_the_diagonal():
    q = _draw(1, 1, 4096, 8, dtype=torch.float32)
    sizes = []

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in (out if isinstance(out, tuple) else (out,)) if isinstance(t, torch.Tensor))
            return out

    with Largest():
        local_attention(q, q, q, window=16)
    assert max(sizes) < 4096 * 64


def test_local_attention_refuses_in_one_sentence():
    x = torch.zeros(2, 3, 4, 5)
    for args, options, words in (
        ((x, x, x), {"window": 0}, "at least 1"),
        ((x, x[:, :, :2], x), {"window": 2}, "of shape"),
        ((x, x, x), {"window": 2, "decay": torch.ones(2)}, "one decay per head"),
    ):
        with pytest.raises(ValueError, match=words):
            local_attention(*args, **options)
    assert local_attention(x[:, :, :0], x[:, :, :0], x[:, :, :0], window=3).shape == (2, 3, 0, 5)
