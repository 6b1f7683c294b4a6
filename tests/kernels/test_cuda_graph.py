"""A training step as a CUDA graph: when it is recorded, replayed, and left alone. The recorder is a double where there is no GPU."""

from __future__ import annotations

import logging

import pytest
import torch

from archwright.kernels.cuda_graph import VARIABLE, GraphedStep, enabled


class Recorder:
    """Records like CUDA: nothing runs at first, each replay runs the step on the same input tensors into the same result."""

    def __init__(self, error: str | None = None) -> None:
        self.error, self.recordings, self.replays = error, 0, 0

    def __call__(self, step, inputs):
        self.recordings += 1
        if self.error:
            raise RuntimeError(self.error)
        result = torch.full((), float("nan"))

        def replay():
            self.replays += 1
            result.copy_(step(*inputs))

        return replay, result


def training(recorder):
    weight = torch.zeros(2)

    def step(x, y):
        gradient = 2 * x.T @ (x @ weight - y) / len(x)
        loss = (x @ weight - y).square().mean()
        weight.sub_(0.1 * gradient)
        return loss

    return weight, step, GraphedStep(step, record=recorder) if recorder else step


def batches(sizes):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 2, generator=generator), torch.randn(n, generator=generator)) for n in sizes]


def test_every_call_is_one_step_however_it_runs():
    sizes = [4] * 8 + [3] + [4] * 3
    recorder = Recorder()
    weight, _, graphed = training(recorder)
    plain_weight, _, plain = training(None)
    for x, y in batches(sizes):
        assert torch.equal(graphed(x, y), plain(x, y))
        assert torch.equal(weight, plain_weight)
    assert graphed.recorded
    assert recorder.recordings == 1
    assert recorder.replays == len(sizes) - 3 - 1  # three to warm up, one of another shape


def test_a_batch_of_the_caller_is_never_kept():
    recorder = Recorder()
    _, _, graphed = training(recorder)
    for x, y in batches([4] * 4):
        graphed(x, y)
        before = x.clone()
        graphed(torch.zeros(4, 2), y)
        assert torch.equal(x, before)


def test_a_step_that_cannot_be_recorded_goes_on_with_one_warning(caplog):
    recorder = Recorder("operation not permitted when stream is capturing\nmore")
    weight, _, graphed = training(recorder)
    plain_weight, _, plain = training(None)
    with caplog.at_level(logging.WARNING):
        for x, y in batches([4] * 8):
            assert torch.equal(graphed(x, y), plain(x, y))
    assert torch.equal(weight, plain_weight)
    assert recorder.recordings == 1
    assert len(caplog.records) == 1
    assert "not permitted" in caplog.text
    assert not graphed.recorded


def test_only_cuda_steps_are_recorded_and_the_user_can_say_no(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not enabled(torch.device("cpu"))
    assert enabled(torch.device("cuda"))
    monkeypatch.setenv(VARIABLE, "off")
    assert not enabled(torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_recorded_step_trains_like_a_plain_one():
    torch.manual_seed(0)
    networks = [torch.nn.Linear(3, 1).cuda() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    losses = []
    for network, graph in zip(networks, (False, True), strict=True):
        optimizer = torch.optim.AdamW(network.parameters(), lr=torch.tensor(1e-2, device="cuda"), capturable=True)

        def step(x, y, network=network, optimizer=optimizer):
            optimizer.zero_grad(set_to_none=True)
            loss = (network(x)[:, 0] - y).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = GraphedStep(step) if graph else step
        generator = torch.Generator().manual_seed(1)
        data = [(torch.randn(4, 3, generator=generator).cuda(), torch.randn(4, generator=generator).cuda()) for _ in range(10)]
        losses.append([float(run(x, y)) for x, y in data])
        assert not graph or run.recorded
    torch.testing.assert_close(*map(torch.tensor, losses))
