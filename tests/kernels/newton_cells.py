"""Cells for the tests of Newton's method: a cell, its state's shape and its parameters."""

from __future__ import annotations

import torch


def linear_diagonal(h, x, a):
    return a * h + x


def linear_block(h, x, a):
    return torch.einsum("ijd,njd->nid", a, h) + x


def linear_dense(h, x, a):
    return h @ a.mT + x


def tanh(h, x, w, u):
    return torch.tanh(h @ w + x @ u)


def gru(h, x, w, u):
    """A GRU whose three recurrent matrices are dense."""
    z_in, r_in, n_in = (x @ u).chunk(3, -1)
    w_z, w_r, w_n = w.chunk(3, -1)
    z, r = torch.sigmoid(z_in + h @ w_z), torch.sigmoid(r_in + h @ w_r)
    return (1 - z) * h + z * torch.tanh(n_in + (r * h) @ w_n)


def ltc(h, x, w, u):
    """One fused Euler step of a liquid time-constant cell."""
    f = torch.sigmoid(h @ w + x @ u)
    return (h + 0.2 * f) / (1 + 0.2 * (1 + f))


def diagonal_gru(h, x, a):
    x_z, x_r, x_c = x.unbind(-2)
    z, r = torch.sigmoid(a[0] * h + x_z), torch.sigmoid(a[1] * h + x_r)
    return (1 - z) * h + z * torch.tanh(a[2] * (h * r) + x_c)


def diagonal_lstm(state, x, a):
    c, h = state.unbind(-2)
    f = torch.sigmoid(a[0] * h + a[3] * c + x[:, 0])
    c = f * c + (1 - f) * torch.tanh(a[1] * h + x[:, 1])
    o = torch.sigmoid(a[2] * h + a[4] * c + x[:, 2])
    return torch.stack([c, o * torch.tanh(c)], -2)


def drawn(name, steps=60, batch=2, width=4, scale=0.4, seed=0):
    """(cell, h0, inputs, parameters, jacobian) of a cell by name, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    flat, pair, features = (batch, width), (batch, 2, width), normal(batch, steps, 3)
    return {
        "linear_diagonal": lambda: (linear_diagonal, normal(*flat), normal(batch, steps, width), [normal(width)], "diagonal"),
        "linear_block": lambda: (linear_block, normal(*pair), normal(batch, steps, 2, width), [normal(2, 2, width, scale=0.6)], "block2"),
        "linear_dense": lambda: (linear_dense, normal(*flat), normal(batch, steps, width), [normal(width, width, scale=0.4)], "dense"),
        "tanh": lambda: (tanh, normal(*flat), features, [normal(width, width, scale=scale), normal(3, width)], "dense"),
        "gru": lambda: (gru, normal(*flat), features, [normal(width, 3 * width, scale=scale), normal(3, 3 * width)], "dense"),
        "ltc": lambda: (ltc, normal(*flat), features, [normal(width, width, scale=scale), normal(3, width)], "dense"),
        "diagonal_gru": lambda: (
            diagonal_gru,
            normal(*flat),
            normal(batch, steps, 3, width),
            [normal(3, width, scale=1.5 * scale)],
            "diagonal",
        ),
        "diagonal_lstm": lambda: (
            diagonal_lstm,
            normal(*pair),
            normal(batch, steps, 3, width),
            [normal(5, width, scale=1.5 * scale)],
            "block2",
        ),
    }[name]()
