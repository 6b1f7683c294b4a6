"""Value residual: the pre-norm stream, with the first layer's attention values travelling along it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..choices import Integer, OneOf, Real
from ..errors import BuildError
from ..facts import residual
from ..specs import TensorSpec
from .rule import Rule

MODES = ("resformer", "resformer-learned", "sparse", "svformer")


@residual(
    "value-residual",
    norm="branch",
    ports=("values",),
    knobs={"mode": OneOf(MODES), "lambda1": Real(0.0, 1.0), "first_layer": Integer(0, 24)},
    paper="Value Residual Learning For Alleviating Attention Concentration In Transformers (2024, 2410.17897)",
)
class ValueResidual(Rule):
    """x <- x + f(norm(x)), and later mixers read the values V_1 of the first that has some.

    The values travel on edges that ``chain`` wires, and the mixers combine them: ``resformer`` V' = lambda1 V_1 + (1 - lambda1) V,
    ``resformer-learned`` with both factors learned, ``svformer`` V' = V_1, ``sparse`` is ``resformer`` from layer ``first_layer``
    on alone. The stream itself is the pre-norm one.
    """

    unwired = "pre-norm"

    def __init__(self, spec: TensorSpec, total: int, *, mode: str = "resformer", lambda1: float = 0.5, first_layer: int = 0) -> None:
        super().__init__(spec, total)
        if mode not in MODES:
            raise BuildError(f'The "mode" parameter of "value-residual" must be one of {", ".join(MODES)}. Got {mode!r} instead.')

    @classmethod
    def taking(cls, index: int, knobs: Mapping[str, Any]) -> dict[str, Any] | None:
        if index < knobs.get("first_layer", 0):
            return None
        mode = knobs.get("mode", "resformer")
        params = {"values": "resformer" if mode == "sparse" else mode}
        return params | ({"lambda1": knobs["lambda1"]} if params["values"] == "resformer" and "lambda1" in knobs else {})
