"""The sLSTM cell on a CPU.

With ``a = m_{t-1} - softplus(-f)``, ``m = max(a, i)``, ``keep = exp(a - m)``, ``enter = exp(i - m)`` and ``z = tanh(g)``:
``c = keep c + enter z``, ``n = keep n + enter``, ``h = sigmoid(o) c / max(n, 1)``. Only ``(c, n) exp(m)`` matters to ``h``, so the
gradient through ``m`` cancels, except where it does not: at cotangents of the final ``c, n, m``, and where a given state makes ``n``
less than 1. What is left there, ``rest = dm - dc c - dn n``, goes back step by step to ``a`` as long as ``a`` is the larger one, and
into ``i`` at the first step where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .chunk import Chunk

_log_sigmoid: Any = torch.ops.aten.log_sigmoid
_sigmoid_slope: Any = torch.ops.aten.sigmoid_backward
_tanh_slope: Any = torch.ops.aten.tanh_backward


def slstm_forward(
    chunk: Chunk, matrix: Tensor, raw: Tensor, extra: Sequence[Tensor], states: Sequence[Tensor]
) -> tuple[Callable[[Tensor, Tensor | None], None], Callable[[int], None]]:
    """Rolled, the gates are o, i, f, g; i and f become enter and keep, ``extra`` holds log sigmoid(f)."""
    (log_f,) = extra
    width, flat = chunk.width, raw.flatten(3)
    parts = (flat, *(flat[..., k * width : (k + 1) * width] for k in range(4)), raw[..., 1:3, :], log_f)
    through = [views for buffer in states for views in chunk.through(buffer)]
    views = list(zip(*through, chunk.through(states[3].unsqueeze(3))[1], *map(chunk.each, parts), strict=True))

    def enter(gates: Tensor, bias: Tensor | None) -> None:
        used = raw[:, : gates.shape[1]]
        used[..., :1, :], used[..., 1:, :] = gates[..., 3:, :], gates[..., :3, :]
        if bias is not None:
            used += bias

    def run(steps: int) -> None:
        for h, h_new, c, c_new, n, n_new, m, m_new, m_wide, u, o, i, f, g, both, held in chunk.forwards(views, steps):
            chunk.add_product(u, h, matrix, out=u)
            torch.add(m, _log_sigmoid(f, out=held), out=f)
            torch.maximum(f, i, out=m_new)
            both.sub_(m_wide).exp_()
            torch.mul(f, c, out=c_new).addcmul_(i, g.tanh_())
            torch.addcmul(i, f, n, out=n_new)
            torch.div(torch.mul(o.sigmoid_(), c_new, out=h_new), n_new.clamp(min=1), out=h_new)

    return enter, run


def slstm_backward(
    chunk: Chunk, matrix: Tensor, h: Tensor, g: Tensor, carried: Sequence[Tensor], bounded: bool
) -> Callable[[int, Sequence[Tensor], Tensor], Tensor]:
    """The gates' gradients are ``factor dc + more dn``, o's is ``factor dh``; ``rest`` is followed only where it can be other than 0."""
    factor, more, to_cn, keep = chunk.buffer(4), chunk.buffer(2), chunk.buffer(2), chunk.buffer()
    dcn = torch.stack([chunk.whole(carried[1]), chunk.whole(carried[2])], -2)
    dc, dn = dcn[..., :1, :], dcn[..., 1:, :]
    by_rest, from_h, larger = (chunk.buffer(2), chunk.buffer(), chunk.buffer()) if bounded else (more, keep, keep)
    rest = torch.empty_like(carried[3])
    rest_here = chunk.whole(rest)
    broad = chunk.through(g.unsqueeze(3))[1]
    parts = (factor[..., 0, :], factor[..., 1:, :], factor[..., 1:3, :], factor.flatten(3), more, to_cn, keep.unsqueeze(3))
    views = list(zip(*chunk.through(g), broad, *map(chunk.each, (*parts, by_rest, from_h, larger)), strict=True))
    started = False

    def prepare(steps: int, saved: Sequence[Tensor]) -> None:
        raw, log_f, c, n = saved
        o, enter, kept, new = raw.unbind(3)
        c_before, c_after, n_before, n_after = chunk.before(c), chunk.after(c), chunk.before(n), chunk.after(n)
        of_o, of_i, of_f, of_g = factor[:, :steps].unbind(3)
        divisor, h_here = n_after.clamp(min=1), chunk.after(h[:, : steps + 1])
        f_slope = -torch.expm1(log_f)
        kept_f = kept * f_slope
        keep[:, :steps] = kept
        _sigmoid_slope(c_after / divisor, o, grad_input=of_o)
        torch.mul(enter, new, out=of_i)
        torch.mul(kept_f, c_before, out=of_f)
        _tanh_slope(enter, new, grad_input=of_g)
        more[:, :steps, ..., 0, :] = enter
        torch.mul(kept_f, n_before, out=more[:, :steps, ..., 1, :])
        torch.div(o, divisor, out=to_cn[:, :steps, ..., 0, :])
        to_cn[:, :steps, ..., 1, :] = torch.where(n_after < 1, 0.0, -h_here / divisor)
        if bounded:
            first = (kept == 1).to(h.dtype)
            larger[:, :steps] = first
            by_rest[:, :steps, ..., 0, :] = 1 - first
            torch.mul(first, f_slope, out=by_rest[:, :steps, ..., 1, :])
            from_h[:, :steps] = torch.where(n_after < 1, -h_here, 0.0)

    def run(steps: int, saved: Sequence[Tensor], out: Tensor) -> Tensor:
        nonlocal started
        prepare(steps, saved)
        _, _, c, n = saved
        if bounded and not started:
            torch.addcmul(carried[3], carried[1], chunk.last(c), value=-1, out=rest).addcmul_(carried[2], chunk.last(n), value=-1)
        started = True
        for early, late, wide, du_o, du, du_if, flat, dn_part, slope, kept, rest_part, h_part, first in chunk.backwards(views, steps):
            dcn.addcmul_(slope, wide)
            du.mul_(dc)
            du_if.addcmul_(dn_part, dn)
            if bounded:
                rest_here.addcmul_(h_part, late)
                du_if.addcmul_(rest_part, rest_here.unsqueeze(-2))
                rest_here.mul_(first)
            du_o.mul_(late)
            dcn.mul_(kept)
            chunk.add_product(early, flat, matrix, out=early)
        if bounded:
            chunk.whole(carried[1]).copy_(dc.squeeze(-2))
            chunk.whole(carried[2]).copy_(dn.squeeze(-2))
            torch.addcmul(rest, carried[1], chunk.first(c), out=carried[3]).addcmul_(carried[2], chunk.first(n))
        used = factor[:, :steps]
        out[..., 3:, :], out[..., :3, :] = used[..., :1, :], used[..., 1:, :]
        return used

    return run
