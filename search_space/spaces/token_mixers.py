"""Stacks of a token mixer and a channel mixer, for images, sequences and tables alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..architecture import Architecture
from ..choices import Choices
from ..compose import chain, layer, pooled_head, tokens
from ..errors import SpaceError
from ..space import space
from ..specs import TensorSpec

FEWEST_TOKENS, MOST_TOKENS = 4, 64
MIXERS = ("attention", "hopfield", "gru", "rg-lru", "depthwise-conv")
CHANNELS = ("mlp", "swiglu", "gr-kan", "rbf-kan")
RULES = ("pre-norm", "post-norm", "rezero", "hyper-connections", "value-residual")
NORMS = ("layernorm", "rmsnorm", "evonorm-s0")


@space("token-mixers", task=("image", "sequence", "table"))
def token_mixers(
    choose: Choices,
    input: TensorSpec,
    *,
    widths: Sequence[int] = (32, 48, 64),
    depth: Sequence[int] = (1, 6),
    mixers: Sequence[str] = MIXERS,
    channels: Sequence[str] = CHANNELS,
    residuals: Sequence[str] = RULES,
    norms: Sequence[str] = NORMS,
) -> Architecture:
    """1 to 6 layers, each with a token mixer and a channel mixer of its own choice, on one residual stream.

    Chosen once: the width, the side of the patches (images), the residual rule with its knobs, the norm (where the rule has
    one). Value residual is offered where two layers have attention. Mixers read in both directions, since the head pools.

    Args:
        widths, mixers, channels, residuals, norms: the options of each choice.
        depth: fewest and most layers.
    """
    if len(depth) != 2:
        raise SpaceError(f'The "depth" parameter of "token-mixers" must be the fewest and the most layers. Got {depth!r} instead.')
    width = choose.one_of("width", widths)
    patch = choose.one_of("patch", patch_sizes(input)) if input.layout == "image" else None
    parts = [_parts(here, mixers, channels) for here in choose.repeat("layer", depth[0], depth[1])]
    several = [mixer for _, mixer, *_ in parts].count("attention") > 1
    rule = _residual(choose, [name for name in residuals if name != "value-residual" or several])
    norm = choose.one_of("norm", norms) if rule["rule"] != "rezero" else None
    layers = [
        layer(mixer, channel, norm=norm, mixer_params=mixer_params, channel_params=channel_params, at=here)
        for here, mixer, mixer_params, channel, channel_params in parts
    ]
    return chain(tokens(width, patch=patch), layers, pooled_head(), residual=rule)


def patch_sizes(image: TensorSpec) -> list[int]:
    """Sides that divide the image and leave 4 to 64 patches; single pixels only where nothing else does.

    Raises:
        SpaceError: there is none.
    """
    _, height, width = image.shape
    fitting = [side for side in range(1, min(height, width) + 1) if height % side == 0 and width % side == 0]
    sizes = [side for side in fitting if FEWEST_TOKENS * side * side <= height * width <= MOST_TOKENS * side * side]
    if not sizes:
        raise SpaceError(f'The space "token-mixers" cannot cut {image} into 4 to 64 squares; resize or pad the images.')
    return [side for side in sizes if side > 1] or sizes


def _parts(here: Choices, mixers: Sequence[str], channels: Sequence[str]) -> tuple[Choices, str, dict[str, Any], str, dict[str, Any]]:
    mixer = here.one_of("mixer", mixers)
    mixer_params = _mixer_params(here, mixer)
    channel = here.one_of("channel", channels)
    return here, mixer, mixer_params, channel, _channel_params(here, channel)


def _mixer_params(here: Choices, mixer: str) -> dict[str, Any]:
    params: dict[str, Any] = {"causal": False}
    if mixer in ("attention", "hopfield"):
        params["heads"] = here.one_of("heads", (1, 2, 4, 8))
    if mixer == "hopfield":
        params["beta"] = here.one_of("beta", (0.25, 1.0, 4.0))
    if mixer == "depthwise-conv":
        params["kernel_size"] = here.one_of("kernel_size", (3, 5, 7))
    return params


def _channel_params(here: Choices, channel: str) -> dict[str, Any]:
    if channel == "mlp":
        return {"ratio": here.one_of("ratio", (1.0, 2.0, 3.0)), "activation": here.one_of("activation", ("gelu", "silu", "squared-relu"))}
    if channel == "rbf-kan":
        return {"ratio": here.one_of("ratio", (0.5, 1.0)), "centres": here.one_of("centres", (4, 8))}
    if channel == "gr-kan":
        return {"ratio": here.one_of("ratio", (1.0, 2.0)), "groups": here.one_of("groups", (4, 8))}
    return {"ratio": here.one_of("ratio", (1.0, 2.0))}


def _residual(choose: Choices, rules: list[str]) -> dict[str, Any]:
    rule: dict[str, Any] = {"rule": choose.one_of("residual", rules)}
    if rule["rule"] == "hyper-connections":
        rule["n_streams"] = choose.one_of("n_streams", (2, 4))
        rule["dynamic"] = choose.one_of("dynamic", (True, False))
    if rule["rule"] == "value-residual":
        rule["mode"] = choose.one_of("values", ("resformer", "resformer-learned", "svformer"))
    return rule
