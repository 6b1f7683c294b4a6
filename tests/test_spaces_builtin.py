"""The laws of the spaces that come with Archwright, on every kind of input they serve."""

from __future__ import annotations

import random

import pytest
import torch

from archwright import SPACES, TensorSpec, build
from archwright.search_space.errors import SpaceError
from archwright.search_space.spaces.token_mixers import MIXERS, RULES, patch_sizes
from archwright.testing.spaces import check_space

from .build_toys import CLASSES, IMAGE

TABLE = TensorSpec("table", (5,), (0, 0, 3, 0, 2))
CASES = [
    ("token-mixers", IMAGE),
    ("token-mixers", TABLE),
    ("token-mixers", TensorSpec("sequence", (20, 3))),
    ("conv-cells", IMAGE),
]


@pytest.mark.parametrize(("name", "spec"), CASES, ids=lambda value: str(value))
def test_every_sample_builds_and_trains(name: str, spec: TensorSpec) -> None:
    space, rng = SPACES[name].obj.for_input(spec), random.Random(7)
    x = torch.rand(4, *spec.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(12):
        arch, _ = space.sample(rng)
        net = build(arch, spec, CLASSES)
        y = net(x)
        assert y.shape == (4, 10)
        assert y.isfinite().all()
        y.square().sum().backward()
        unreached = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert name == "conv-cells" or unreached == []


def test_token_mixers_keep_the_laws_without_a_dead_choice() -> None:
    for spec in (IMAGE, TABLE):
        report = check_space(SPACES["token-mixers"].obj, spec, samples=6)
        assert report.dead_share == 0.0


def test_conv_cells_keep_the_laws() -> None:
    """A cell whose edges are ``none`` has edges that do not matter; the published space has 15,625 points and 6,466 networks."""
    assert check_space(SPACES["conv-cells"].obj, IMAGE, samples=6, dead_limit=0.5).dead_share > 0.0


def test_token_mixers_reach_every_option() -> None:
    space, rng = SPACES["token-mixers"].obj.for_input(IMAGE), random.Random(0)
    seen: dict[str, set] = {}
    for _ in range(200):
        for choice in space.sample(rng)[1]:
            seen.setdefault(choice.role, set()).add(choice.value)
    assert seen["layer/*/mixer"] == set(MIXERS)
    assert seen["residual"] == set(RULES)
    assert seen["layer"] == {1, 2, 3, 4, 5, 6}
    assert seen["patch"] == {2, 4}


def test_value_residual_is_offered_where_two_layers_have_attention() -> None:
    space, rng = SPACES["token-mixers"].obj.for_input(TABLE), random.Random(0)
    for _ in range(100):
        _, trace = space.sample(rng)
        domains = {choice.path: choice.domain for choice in trace}
        several = [choice.value for choice in trace if choice.role == "layer/*/mixer"].count("attention") > 1
        assert ("value-residual" in domains["residual"].values()) == several


def test_a_patch_is_asked_for_images_alone() -> None:
    for spec, asked in ((IMAGE, True), (TABLE, False)):
        _, trace = SPACES["token-mixers"].obj.for_input(spec).sample(random.Random(0))
        assert ("patch" in {choice.path for choice in trace}) == asked


@pytest.mark.parametrize(("side", "sizes"), [(8, [2, 4]), (28, [4, 7, 14]), (32, [4, 8, 16]), (5, [1])])
def test_patch_sizes_divide_the_image(side: int, sizes: list[int]) -> None:
    assert patch_sizes(TensorSpec("image", (1, side, side))) == sizes


def test_an_image_without_patches_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"cannot cut image\(1, 37, 37\)"):
        patch_sizes(TensorSpec("image", (1, 37, 37)))


def test_conv_cells_with_fixed_macro_choices_are_the_published_15625() -> None:
    space = SPACES["conv-cells"].obj.with_params(channels=16, stages=3, cells=5).for_input(IMAGE)
    assert space.size().count == 5**6


def test_conv_cells_know_equal_cells() -> None:
    """Two edges of a fixed cell: with three nodes and two operations there are 8 traces, and equal networks share a digest."""
    space = SPACES["conv-cells"].obj.with_params(channels=4, stages=1, cells=1, nodes=3, operations=("none", "conv-1x1"))
    digests = [arch.digest for arch, _ in space.for_input(IMAGE).enumerate()]
    assert len(digests) == 8
    assert len(set(digests)) == 4  # zero; conv; conv of conv; conv + conv of conv
