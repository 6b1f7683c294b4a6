"""The Elman, GRU and LSTM cells on a CPU: what they do at each step, and their gradients written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .chunk import Chunk
from .slstm import slstm_backward, slstm_forward

_sigmoid_slope: Any = torch.ops.aten.sigmoid_backward
_tanh_slope: Any = torch.ops.aten.tanh_backward

Enter = Callable[[Tensor, Tensor | None], None]
Forward = tuple[Enter, Callable[[int], None]]
Backward = Callable[[int, Sequence[Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class Cell:
    """One cell. The buffers of a chunk are (heads, steps, batch, ...); inside, the gates are rolled by ``roll`` places.

    Args:
        states: how many states there are, ``h`` first.
        kept: how many of those after ``h`` backward wants.
        extra: how many buffers besides the gates forward fills for backward.
        forward: ``forward(chunk, matrix, raw, extra, states) -> (enter, run)``. ``enter(gates, bias)`` brings in the gates of a chunk
            and ``run(steps)`` fills its states; ``matrix`` is (heads, width, gates * width).
        backward: ``backward(chunk, matrix, h, g, carried, bounded) -> run``, where ``run(steps, saved, out)`` stores the gradient of
            the gates and returns that of ``R h + b``. ``g`` holds the cotangents of ``h`` and receives that of the first;
            ``carried[1:]`` are those of the other states; ``bounded``: an initial state or a cotangent of the final ones is given.
            ``matrix`` is (heads, gates * width, width).
    """

    states: int
    kept: int
    extra: int
    forward: Callable[..., Forward]
    backward: Callable[..., Backward]
    roll: int = 0


def elman_forward(chunk: Chunk, matrix: Tensor, raw: Tensor, extra: Sequence[Tensor], states: Sequence[Tensor]) -> Forward:
    views = list(zip(*chunk.through(states[0]), chunk.each(raw.squeeze(3)), strict=True))

    def enter(gates: Tensor, bias: Tensor | None) -> None:
        _enter(raw[:, : gates.shape[1]], gates, bias)

    def run(steps: int) -> None:
        for before, after, u in chunk.forwards(views, steps):
            torch.tanh(chunk.add_product(u, before, matrix, out=u), out=after)

    return enter, run


def elman_backward(chunk: Chunk, matrix: Tensor, h: Tensor, g: Tensor, carried: Sequence[Tensor], bounded: bool) -> Backward:
    factor = chunk.buffer()
    views = list(zip(*chunk.through(g), chunk.each(factor), strict=True))

    def run(steps: int, saved: Sequence[Tensor], out: Tensor) -> Tensor:
        after, used = chunk.after(h[:, : steps + 1]), factor[:, :steps]
        torch.addcmul(after.new_ones(()), after, after, value=-1, out=used)
        for early, late, du in chunk.backwards(views, steps):
            chunk.add_product(early, du.mul_(late), matrix, out=early)
        out.copy_(used.unsqueeze(3))
        return used.unsqueeze(3)

    return run


def gru_forward(chunk: Chunk, matrix: Tensor, raw: Tensor, extra: Sequence[Tensor], states: Sequence[Tensor]) -> Forward:
    """The new state's input comes in after r has scaled the product, so it stands apart and only the bias lies under the product."""
    (new,) = extra
    width, flat = chunk.width, raw.flatten(3)
    parts = (flat, flat[..., : 2 * width], flat[..., :width], flat[..., width : 2 * width], flat[..., 2 * width :], new)
    views = list(zip(*chunk.through(states[0]), *map(chunk.each, parts), strict=True))

    def enter(gates: Tensor, bias: Tensor | None) -> None:
        used = raw[:, : gates.shape[1]]
        new[:, : gates.shape[1]] = gates[..., 2, :]
        used[..., :2, :] = gates[..., :2, :]
        if bias is None:
            used[..., 2, :] = 0
        else:
            used[..., :2, :] += bias[..., :2, :]
            used[..., 2, :] = bias[..., 2, :]

    def run(steps: int) -> None:
        for before, after, u, rz, r, z, product, n in chunk.forwards(views, steps):
            chunk.add_product(u, before, matrix, out=u)
            rz.sigmoid_()
            torch.lerp(n.addcmul_(r, product).tanh_(), before, z, out=after)

    return enter, run


def gru_backward(chunk: Chunk, matrix: Tensor, h: Tensor, g: Tensor, carried: Sequence[Tensor], bounded: bool) -> Backward:
    factor, of_n, work, keep = chunk.buffer(3), chunk.buffer(), chunk.buffer(), chunk.buffer()
    wide = chunk.through(g.unsqueeze(3))[1]
    views = list(zip(*chunk.through(g), wide, *map(chunk.each, (factor, factor.flatten(3), keep)), strict=True))

    def run(steps: int, saved: Sequence[Tensor], out: Tensor) -> Tensor:
        raw, n = saved
        r, z, product = raw.unbind(3)
        used = factor[:, :steps]
        of_r, of_z, of_product = used.unbind(3)
        by_n, scratch = of_n[:, :steps], work[:, :steps]
        keep[:, :steps] = z
        _tanh_slope(torch.sub(scratch.new_ones(()), z, out=scratch), n, grad_input=by_n)
        torch.mul(by_n, r, out=of_product)
        _sigmoid_slope(torch.mul(by_n, product, out=scratch), r, grad_input=of_r)
        _sigmoid_slope(torch.sub(chunk.before(h[:, : steps + 1]), n, out=scratch), z, grad_input=of_z)
        for early, late, broad, du, flat, kept in chunk.backwards(views, steps):
            du.mul_(broad)
            chunk.add_product(early.addcmul_(late, kept), flat, matrix, out=early)
        out[..., :2, :] = used[..., :2, :]
        out[..., 2, :] = by_n.mul_(chunk.after(g[:, : steps + 1]))
        return used

    return run


def lstm_forward(chunk: Chunk, matrix: Tensor, raw: Tensor, extra: Sequence[Tensor], states: Sequence[Tensor]) -> Forward:
    """Rolled, the gates are o, i, f, g: the three sigmoids side by side."""
    width, flat = chunk.width, raw.flatten(3)
    parts = (flat, flat[..., : 3 * width], *(flat[..., k * width : (k + 1) * width] for k in range(4)), extra[0])
    views = list(zip(*chunk.through(states[0]), *chunk.through(states[1]), *map(chunk.each, parts), strict=True))

    def enter(gates: Tensor, bias: Tensor | None) -> None:
        _enter(raw[:, : gates.shape[1]], gates, bias, roll=1)

    def run(steps: int) -> None:
        for before, after, held, holds, u, oif, o, i, f, new, bent in chunk.forwards(views, steps):
            chunk.add_product(u, before, matrix, out=u)
            oif.sigmoid_()
            torch.mul(f, held, out=holds).addcmul_(i, new.tanh_())
            torch.mul(o, torch.tanh(holds, out=bent), out=after)

    return enter, run


def lstm_backward(chunk: Chunk, matrix: Tensor, h: Tensor, g: Tensor, carried: Sequence[Tensor], bounded: bool) -> Backward:
    """One more slot beside i, f, g takes the cotangent of c to the step before."""
    factor, to_c = chunk.buffer(5), chunk.buffer()
    dc = chunk.whole(carried[1])
    total = torch.empty_like(dc)
    wide = total.unsqueeze(-2)
    parts = (factor[..., 0, :], factor[..., 1:, :], factor[..., :4, :].flatten(3), factor[..., 4, :], to_c)
    views = list(zip(*chunk.through(g), *map(chunk.each, parts), strict=True))

    def run(steps: int, saved: Sequence[Tensor], out: Tensor) -> Tensor:
        raw, bent, c = saved
        o, i, f, new = raw.unbind(3)
        used = factor[:, :steps]
        of_o, of_i, of_f, of_new, keep = used.unbind(3)
        keep.copy_(f)
        _sigmoid_slope(bent, o, grad_input=of_o)
        _sigmoid_slope(new, i, grad_input=of_i)
        _sigmoid_slope(chunk.before(c), f, grad_input=of_f)
        _tanh_slope(i, new, grad_input=of_new)
        _tanh_slope(o, bent, grad_input=to_c[:, :steps])
        coming = dc
        for early, late, du_o, du, flat, going, slope in chunk.backwards(views, steps):
            torch.addcmul(coming, late, slope, out=total)
            du_o.mul_(late)
            du.mul_(wide)
            chunk.add_product(early, flat, matrix, out=early)
            coming = going
        dc.copy_(coming)
        out[..., 3, :], out[..., :3, :] = used[..., 0, :], used[..., 1:4, :]
        return used[..., :4, :]

    return run


def _enter(raw: Tensor, gates: Tensor, bias: Tensor | None, roll: int = 0) -> None:
    if roll:
        raw[..., :roll, :] = gates[..., -roll:, :]
        raw[..., roll:, :] = gates[..., :-roll, :]
    else:
        raw.copy_(gates)
    if bias is not None:
        raw += bias


CELLS = {
    "elman": Cell(1, 0, 0, elman_forward, elman_backward),
    "gru": Cell(1, 0, 1, gru_forward, gru_backward),
    "lstm": Cell(2, 1, 1, lstm_forward, lstm_backward, roll=1),
    "slstm": Cell(4, 2, 1, slstm_forward, slstm_backward, roll=1),
}
