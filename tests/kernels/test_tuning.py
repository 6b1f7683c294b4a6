"""Tiles from a GPU's limits: they fit, they are cached, and a file can replace them."""

from __future__ import annotations

import json
from itertools import product

import pytest

from archwright.kernels import tuning
from archwright.kernels.tuning import LIMITS, TuningError, attention_tiles, limits, rnn_tiles

CAPABILITIES = tuple(LIMITS)


@pytest.fixture(autouse=True)
def no_file(monkeypatch):
    monkeypatch.delenv(tuning.VARIABLE, raising=False)


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "tiles.json"
    monkeypatch.setenv(tuning.VARIABLE, str(path))

    def write(entries):
        path.write_text(entries if isinstance(entries, str) else json.dumps(entries))

    return write


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: f"{c[0]}.{c[1]}")
def test_rnn_tiles_keep_to_the_limits(capability):
    limit = LIMITS[capability]
    for width, (gates, states), itemsize in product((5, 16, 32, 64, 128), ((1, 1), (3, 1), (4, 2)), (2, 4)):
        tiles = rnn_tiles(width, gates, states, itemsize, capability)
        padded = max(16, tuning.bucketed(width))
        if tiles is None:
            assert (16 + padded) * padded * gates * itemsize > limit.shared_of_all - tuning.PROGRAM
            continue
        batch, warps = tiles["BLOCK_B"], tiles["num_warps"]
        assert (batch + padded) * padded * gates * itemsize <= limit.shared
        assert batch % 16 == 0
        assert batch * padded % (32 * warps) == 0
        assert batch * padded * (gates + 2 * states + 1) // (32 * warps) <= limit.registers_per_thread


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (12, 0)], ids=lambda c: f"{c[0]}.{c[1]}")
def test_attention_tiles_keep_to_the_limits(capability):
    limit = LIMITS[capability]
    for keys, values, itemsize in product((16, 48, 128), (24, 64), (2, 4)):
        tiles = attention_tiles(keys, values, itemsize, capability)
        padded, chunk, columns = max(16, tuning.bucketed(keys)), tiles["BLOCK_C"], tiles["BLOCK_V"]
        assert (2 * chunk * padded + chunk * columns + padded * columns) * itemsize + 4 * chunk * chunk <= limit.shared
        assert columns <= tuning.bucketed(values)
        assert 2 * padded * columns // (32 * tiles["num_warps"]) <= limit.registers_per_thread


def test_weights_that_do_not_fit_on_chip_have_no_tiles():
    assert rnn_tiles(512, 4, 2, 4, (9, 0)) is None
    assert attention_tiles(4096, 64, 4, (9, 0)) is None


def test_the_choice_is_the_best_there_is():
    """By trying every tile: most resident warps, then the smallest batch tile."""
    limit = LIMITS[(9, 0)]
    width, gates, states, itemsize = 32, 4, 2, 2
    best = {}
    for batch, warps, programs in product((16, 32, 64), (1, 2, 4, 8, 16), tuning.PROGRAMS):
        shared = (batch + width) * width * gates * itemsize
        registers = batch * width * (gates + 2 * states + 1) // (32 * warps) + tuning.ADDRESSES
        fits = shared <= limit.shared and programs * (shared + tuning.PROGRAM) <= limit.shared_of_all
        fits &= registers <= 255 and programs * warps * registers * 32 <= limit.registers and programs * warps <= limit.warps
        if fits and batch * width % (32 * warps) == 0 and warps * tuning.MATRIX <= batch * width:
            best[(programs * warps, -batch)] = batch
    chosen = rnn_tiles(width, gates, states, itemsize, (9, 0))
    assert chosen["BLOCK_B"] == best[max(best)]


def test_sizes_of_one_bucket_share_an_entry_and_a_result_may_be_changed(monkeypatch):
    first = rnn_tiles(33, 3, 1, 2, (9, 0))
    tuning_calls = tuning._rnn.cache_info().misses
    first["BLOCK_B"] = 0
    assert rnn_tiles(64, 3, 1, 2, (9, 0))["BLOCK_B"] > 0
    assert tuning._rnn.cache_info().misses == tuning_calls


def test_an_unknown_gpu_has_the_limits_of_the_newest_that_is_older():
    assert limits((9, 5)) == LIMITS[(9, 0)]
    assert limits((13, 0)) == LIMITS[(12, 0)]
    with pytest.raises(ValueError, match=r"above\. Got 7\.5"):
        rnn_tiles(32, 3, 1, 2, (7, 5))
    with pytest.raises(ValueError, match="head_width"):
        rnn_tiles(0, 3, 1, 2, (9, 0))


def test_a_file_replaces_tiles_where_it_says_so(file):
    file([])
    computed = rnn_tiles(64, 4, 2, 2, (8, 0))
    file([{"kernel": "rnn", "capability": "9.0", "sizes": {"head_width": 64}, "tiles": {"BLOCK_B": 64, "num_warps": 2}}])
    assert rnn_tiles(64, 4, 2, 2, (9, 0)) == {"BLOCK_B": 64, "num_warps": 2}
    assert rnn_tiles(50, 3, 1, 4, (9, 0)) == {"BLOCK_B": 64, "num_warps": 2}  # the same power of two
    assert rnn_tiles(64, 4, 2, 2, (8, 0)) == computed
    assert rnn_tiles(32, 4, 2, 2, (9, 0))["num_warps"] != 2
    file(
        [
            {"kernel": "rnn", "capability": "9.0", "tiles": {"num_warps": 1}},
            {"kernel": "rnn", "capability": "9.0", "tiles": {"num_warps": 2}},
        ]
    )
    assert rnn_tiles(32, 4, 2, 2, (9, 0))["num_warps"] == 1  # the first entry, read anew, merged into what was computed


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not json", "is not JSON"),
        ({"rnn": 1}, "a list of entries. Got dict"),
        ([3], 'Entry 0 .*must hold "kernel"'),
        ([{"kernel": "rnn", "capability": "9.0"}], 'must hold "kernel"'),
        ([{"kernel": "rnn", "capability": "9.0", "tiles": {}, "note": 1}], "nothing else"),
        ([{"kernel": "gemm", "capability": "9.0", "tiles": {}}], 'not "gemm"'),
        ([{"kernel": "rnn", "capability": 9.0, "tiles": {}}], "written as"),
        ([{"kernel": "rnn", "capability": "9", "tiles": {}}], "written as"),
        ([{"kernel": "rnn", "capability": "9.0", "tiles": {"BLOCK_V": 16}}], "tiles of rnn are BLOCK_B"),
        ([{"kernel": "rnn", "capability": "9.0", "tiles": {"BLOCK_B": 24}}], "power of two, not 24"),
        ([{"kernel": "rnn", "capability": "9.0", "tiles": {"BLOCK_B": True}}], "power of two, not true"),
        ([{"kernel": "rnn", "capability": "9.0", "sizes": {"width": 3}, "tiles": {}}], "sizes of rnn are head_width"),
        ([{"kernel": "rnn", "capability": "9.0", "sizes": {"gates": 0}, "tiles": {}}], "positive integer"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(file, content, words):
    file(content)
    with pytest.raises(TuningError, match=words):
        rnn_tiles(32, 3, 1, 2, (9, 0))


def test_a_file_that_is_missing_or_too_short_is_refused(file):
    with pytest.raises(TuningError, match="cannot be read: No such file"):
        rnn_tiles(32, 3, 1, 2, (9, 0))
    file([{"kernel": "rnn", "capability": "9.0", "tiles": {"num_warps": 2}}])
    with pytest.raises(TuningError, match="lacks BLOCK_B"):
        rnn_tiles(512, 4, 2, 4, (9, 0))
