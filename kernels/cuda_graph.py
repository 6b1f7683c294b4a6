"""A whole training step as one CUDA graph: at search sizes a step is a hundred launches of a few microseconds of work each.

A replay launches all of them at once. The step must launch the same kernels on the same memory every time: no read of a GPU value
on the host, no change of shapes, counters and rates in tensors. Calls of another shape (the last, smaller batch of an epoch) run
as they are, and a step that cannot be recorded goes on without a graph after one warning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

VARIABLE = "ARCHWRIGHT_CUDA_GRAPHS"

Step = Callable[..., Tensor]
Replay = Callable[[], None]
Recorder = Callable[[Step, tuple[Tensor, ...]], tuple[Replay, Tensor]]

_log = logging.getLogger(__name__)


def enabled(device: torch.device) -> bool:
    """Whether steps on ``device`` are recorded: on CUDA, unless ``ARCHWRIGHT_CUDA_GRAPHS=off``."""
    return device.type == "cuda" and os.environ.get(VARIABLE, "auto") != "off"


class GraphedStep:
    """``step(*batch) -> loss``, recorded as a CUDA graph after a few plain calls and replayed from then on.

    Every call is one real step: the plain ones warm up (they let the optimizer make its state and cuBLAS its workspaces), the
    recording executes nothing by itself and is replayed at once. The result may be overwritten by the next call.

    Args:
        step: forward, backward and optimizer step on one batch of tensors; must leave gradients unset before backward
            (``zero_grad(set_to_none=True)``) and use a capturable optimizer whose rate is a tensor.
        warmup: plain calls of the first batch's shape before the recording.
        record: makes the graph; another one serves tests.
    """

    def __init__(self, step: Step, *, warmup: int = 3, record: Recorder | None = None) -> None:
        self._step, self._warmup = step, warmup
        self._record = record or record_cuda
        self._shapes: list[tuple[torch.Size, torch.dtype]] | None = None
        self._plain_calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._replay: Replay | None = None
        self._result: Tensor | None = None
        self.refusal: str | None = None

    def __call__(self, *batch: Tensor) -> Tensor:
        shapes = [(tensor.shape, tensor.dtype) for tensor in batch]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes or self.refusal is not None:
            return self._step(*batch)
        if self._replay is None and self._plain_calls < self._warmup:
            self._plain_calls += 1
            return _aside(self._step, batch)
        if self._replay is None and not self._recorded(batch):
            return self._step(*batch)
        for static, tensor in zip(self._inputs, batch, strict=True):
            static.copy_(tensor)
        assert self._replay is not None
        assert self._result is not None
        self._replay()
        return self._result

    @property
    def recorded(self) -> bool:
        return self._replay is not None

    def _recorded(self, batch: tuple[Tensor, ...]) -> bool:
        inputs = tuple(tensor.clone() for tensor in batch)
        try:
            self._replay, self._result = self._record(self._step, inputs)
        except RuntimeError as error:
            self.refusal = str(error).splitlines()[0]
            _log.warning("This network's training step cannot be recorded as a CUDA graph and runs without one: %s", self.refusal)
            return False
        self._inputs = inputs
        return True


def _aside(step: Step, batch: tuple[Tensor, ...]) -> Tensor:
    """A plain call; on CUDA on another stream, as a capture will be, so that nothing it leaves is tied to the default stream."""
    if not batch[0].is_cuda:
        return step(*batch)
    here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        result = step(*batch)
    here.wait_stream(aside)
    return result


def record_cuda(step: Step, inputs: tuple[Tensor, ...]) -> tuple[Replay, Tensor]:
    """Capture ``step(*inputs)`` on a stream of its own; gives the replay and the tensor it writes the result to.

    Raises:
        RuntimeError: something in the step cannot be captured.
    """
    torch.cuda.synchronize()
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step(*inputs)
    return graph.replay, result
