"""Channel mixers: each token on its own, [..., width] -> [..., width]."""

from . import gr_kan, mlp, rbf_kan, swiglu

__all__ = ["gr_kan", "mlp", "rbf_kan", "swiglu"]
