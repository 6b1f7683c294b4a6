"""A sparse Gaussian process in function space, kept as sums over the data: what it has seen can be added to at any time."""

from __future__ import annotations

from typing import Any

import numpy as np

JITTER = 1e-10
"""Added to the diagonal of the inducing covariance, as a share of its mean."""

Array = Any


class DualProcess:
    r"""The dual parameterisation of a Gaussian process around a function f, on m inducing inputs Z.

    Function-space Parameterization of Neural Networks for Sequential Learning (2024, 2403.10929). Datum i, with the covariances
    :math:`k_{zi} \in R^m` between Z and its input, adds its slope :math:`a_i = \partial \log p(y_i | f_i) / \partial f` and curvature
    :math:`b_i = -\partial^2 \log p(y_i | f_i) / \partial f^2` at :math:`f_i = f(x_i)`:

    .. math:: \alpha = \sum_i k_{zi} a_i, \qquad B = \sum_i k_{zi} b_i k_{zi}^T

    .. math:: E[y(x)] = f(x) + k_{zx}^T (K_{zz} + B)^{-1} \alpha, \qquad
              V[f(x)] = k_{xx} - k_{zx}^T [K_{zz}^{-1} - (K_{zz} + B)^{-1}] k_{zx}

    With Gaussian noise and Z the inputs of all data this is Gaussian process regression on the residuals y - f, exactly.

    Args:
        inducing: :math:`K_{zz}` [m, m].
    """

    def __init__(self, inducing: Array) -> None:
        from scipy.linalg import cholesky

        count = len(inducing)
        jitter = JITTER * max(float(np.trace(inducing)) / count, np.finfo(float).tiny)
        self._root = cholesky(inducing + jitter * np.eye(count), lower=True)
        self._slopes = np.zeros(count)
        self._curvatures = np.eye(count)
        self._factor: Array | None = None

    def add(self, cross: Array, slopes: Array, curvatures: Array) -> None:
        """Take n further data in.

        Args:
            cross: :math:`k_{zi}` as columns, [m, n].
            slopes, curvatures: [n]; see :func:`gaussian_terms`.
        """
        white = self.features(cross)
        self._slopes = self._slopes + white @ slopes
        self._curvatures = self._curvatures + (white * curvatures) @ white.T
        self._factor = None

    def correction(self, cross: Array) -> Array:
        """What the data add to f at q inputs, [q], from their covariances with Z [m, q]."""
        from scipy.linalg import cho_solve

        return self.features(cross).T @ cho_solve((self._solved(), True), self._slopes)

    def variance(self, cross: Array, own: Array) -> Array:
        """The variance of the function at q inputs, [q], from ``cross`` [m, q] and their own prior variances ``own`` [q]."""
        from scipy.linalg import solve_triangular

        white = self.features(cross)
        left = solve_triangular(self._solved(), white, lower=True)
        return np.maximum(own - (white**2).sum(axis=0) + (left**2).sum(axis=0), 0.0)

    def features(self, cross: Array) -> Array:
        """``L^-1 k_zx`` with ``L L^T = K_zz``, [m, q]: inner products of columns are the prior covariances as far as Z tells them."""
        from scipy.linalg import solve_triangular

        return solve_triangular(self._root, cross, lower=True)

    def penalty(self) -> Array:
        r"""The matrix P [m, m] that holds a later function to this one: :math:`P = K_{zz}^{-1} B K_{zz}^{-1}`.

        Continual learning adds :math:`(\tau / 2) (f_w(Z) - f(Z))^T P (f_w(Z) - f(Z))` to the loss on new data.
        """
        from scipy.linalg import solve_triangular

        left = solve_triangular(self._root, self._curvatures - np.eye(len(self._root)), lower=True, trans="T")
        return solve_triangular(self._root, left.T, lower=True, trans="T")

    def _solved(self) -> Array:
        """Cholesky factor of ``I + L^-1 B L^-T``, in whose terms nothing need be inverted twice."""
        from scipy.linalg import cholesky

        if self._factor is None:
            self._factor = cholesky(self._curvatures, lower=True)
        return self._factor


def gaussian_terms(residuals: Array, noise: float) -> tuple[Array, Array]:
    """Slopes and curvatures [n] of data with Gaussian noise: ``a = (y - f) / noise``, ``b = 1 / noise``, ``noise`` a variance."""
    return residuals / noise, np.full(len(residuals), 1.0 / noise)


def softmax_terms(targets: Array, probabilities: Array) -> tuple[Array, Array]:
    """Slopes and curvatures [n, classes] of class labels, each class with a process of its own: ``a = onehot - p``, ``b = p (1 - p)``."""
    return np.eye(probabilities.shape[1])[targets] - probabilities, probabilities * (1.0 - probabilities)
