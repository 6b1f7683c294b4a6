"""A user's own table: its space, its records, and what is said when it cannot serve."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pandas
import pytest

from archwright import OutputSpec, TensorSpec, build
from archwright.evaluators.tables.prefixes import path_names
from archwright.evaluators.tables.registry import load_table
from archwright.search_space.architecture import Architecture
from archwright.search_space.errors import BuildError, ConfigError
from archwright.search_space.outcomes import Objective
from archwright.testing.spaces import check_space

FRAME = pandas.DataFrame(
    [
        (op, width, skip, width / 100 + len(op) + skip, 0.5 * width)
        for op, width, skip in product(["mlp", "attention"], [8, 16, 32], [False, True])
    ],
    columns=["op", "width", "skip", "accuracy", "latency"],
)


@pytest.fixture
def made(tmp_path):
    """``made(frame, **params)``: the table of a frame written to a file of its own."""
    count = iter(range(100))

    def make(frame, **params):
        path = tmp_path / f"own-{next(count)}.parquet"
        frame.to_parquet(path)
        return load_table(str(path), params)

    return make


def points(table):
    return [(trace.values_by_path(), architecture) for architecture, trace in table.space.enumerate()]


def test_a_complete_table_gives_the_plain_product(made):
    table = made(FRAME, objectives="accuracy:max latency:min")
    assert table.objectives == (Objective("accuracy"), Objective("latency", "min"))
    assert table.space.size().count == 12
    _, trace = table.space.sample(random.Random(0))
    assert [(choice.path, list(choice.domain.options)) for choice in trace] == [
        ("op", ["attention", "mlp"]),
        ("width", [8, 16, 32]),
        ("skip", [False, True]),
    ]
    assert check_space(table.space, samples=8).dead_share == 0.0


def test_every_point_is_found_with_its_own_record(made):
    table = made(FRAME, objectives=["accuracy"], known="latency")
    assert len({architecture.digest for _, architecture in points(table)}) == 12
    for values, architecture in points(table):
        back = Architecture.from_json(architecture.to_text())
        (report,) = table.reports(back)
        assert report.metrics == {"accuracy": values["width"] / 100 + len(values["op"]) + values["skip"]}
        assert table.known_of(back) == {"latency": 0.5 * values["width"]}
        assert report.last


def test_an_incomplete_table_never_leads_off_the_record(made):
    kept = FRAME.drop(index=[0, 1, 2, 3, 7, 9])
    table = made(kept, objectives="accuracy", known=["latency"])
    found = [tuple(values.values()) for values, _ in points(table)]
    assert sorted(found) == sorted(kept[["op", "width", "skip"]].itertuples(index=False, name=None))
    rng = random.Random(0)
    _, trace = table.space.sample(rng)
    for _ in range(50):
        child, trace = table.space.mutate(trace, rng)
        assert 0 <= table.row(child) < len(kept)
    check_space(table.space, samples=6)


def test_a_choice_that_no_row_has_is_not_asked(made):
    frame = pandas.DataFrame({"mixer": ["gru", "mlp", "mlp"], "ratio": [None, "two", "four"], "score": [1.0, 2.0, 3.0]})
    asked = sorted(tuple(values.items()) for values, _ in points(made(frame)))
    assert asked == [(("mixer", "gru"),), (("mixer", "mlp"), ("ratio", "four")), (("mixer", "mlp"), ("ratio", "two"))]


def test_rows_recorded_twice_are_one_network_with_their_mean(made):
    again = FRAME.assign(accuracy=FRAME.accuracy + 2.0)
    again.loc[3, "accuracy"] = float("nan")
    table = made(pandas.concat([FRAME, again]), objectives="accuracy", known="latency")
    assert len(table.rows) == 12
    wanted = FRAME.accuracy + 1.0
    wanted[3] -= 1.0
    np.testing.assert_allclose(sorted(table.metrics["accuracy"]), sorted(wanted))


CURVES = np.array([[0.1, 0.2, 0.3], [0.4, np.nan, 0.9], [0.2, 0.5, np.nan], [np.nan, 0.1, 0.2]])
NUMBERED = pandas.DataFrame({"net": list("abcd"), **{f"acc_{step + 1}": CURVES[:, step] for step in range(3)}})
LISTED = pandas.DataFrame({"net": list("abcd"), "acc": [[0.1, 0.2, 0.3], [0.4], [0.2, 0.5], []]})


@pytest.mark.parametrize("frame", [NUMBERED, NUMBERED.rename(columns={f"acc_{i}": f"acc_{i - 1}" for i in (1, 2, 3)}), LISTED])
def test_learning_curves_end_at_their_first_missing_value(made, frame):
    table = made(frame, objectives="acc")
    assert table.steps() == 3
    found = {values["net"]: list(table.reports(architecture)) for values, architecture in points(table)}
    assert [[report.metrics.get("acc") for report in found[net]] for net in "abcd"] == [[0.1, 0.2, 0.3], [0.4], [0.2, 0.5], [None]]
    assert all([report.last for report in reports] == [False] * (len(reports) - 1) + [True] for reports in found.values())
    np.testing.assert_array_equal(table.metrics["acc"], [0.3, 0.4, 0.5, np.nan])


def test_numbered_columns_do_not_become_choices(made):
    table = made(NUMBERED.fillna(0.0).round().astype({"acc_1": int}), objectives="acc")
    assert {path for values, _ in points(table) for path in values} == {"net"}


def test_the_only_column_of_real_numbers_is_the_objective(made):
    assert made(FRAME, known="latency").objectives == (Objective("accuracy"),)
    assert made(LISTED).objectives == (Objective("acc"),)
    assert made(FRAME, objectives="latency", known="latency").objectives == (Objective("latency", "min"),)


def test_seconds_and_the_test_split(made):
    frame = FRAME.assign(hours=2.0, test=FRAME.accuracy - 0.5)
    table = made(frame, objectives="accuracy", seconds="hours", test="test", choices=["op", "width", "skip"])
    values, architecture = points(table)[0]
    (report,) = table.reports(architecture)
    assert report.seconds == 2.0
    assert table.tested(architecture) == {"test": report.metrics["accuracy"] - 0.5}
    assert "test" not in report.metrics


def test_real_numbers_are_choices_where_they_are_named(made):
    frame = pandas.DataFrame({"rate": [0.1, 0.01, 0.1], "score": [1.0, 2.0, 3.0]})
    table = made(frame, objectives="score", choices="rate")
    assert {values["rate"]: next(table.reports(a)).metrics["score"] for values, a in points(table)} == {0.1: 2.0, 0.01: 2.0}


def test_of_several_results_a_search_names_its_own(made):
    table = made(FRAME)
    assert table.objectives == ()
    assert table.searched(["latency:min"]) == (Objective("latency", "min"),)
    assert table.searched(["accuracy", "latency:min"]) == (Objective("accuracy"), Objective("latency", "min"))
    with pytest.raises(ConfigError, match="records accuracy, latency; name the objectives of this search"):
        table.searched([])


def test_a_single_result_is_searched_for(made):
    assert made(FRAME.drop(columns="latency")).searched([]) == (Objective("accuracy"),)


def test_columns_of_any_name_can_be_asked():
    assert list(path_names(["kernel size", "kernel_size", "3rd", "größe", "."]).values()) == [
        "kernel_size",
        "kernel_size_2",
        "_3rd",
        "gr__e",
        "_.",
    ]


def test_building_a_recorded_network_says_what_to_do(made):
    _, architecture = points(made(FRAME, objectives="accuracy", known="latency"))[0]
    with pytest.raises(BuildError, match='cannot be built, only looked up.*evaluator "table"'):
        build(architecture, TensorSpec("vector", (4,)), OutputSpec("classes", 2))


BAD = {
    "unknown objective": (FRAME, {"objectives": "acuracy"}, 'no column "acuracy"; did you mean "accuracy"'),
    "unknown choice": (FRAME, {"objectives": "accuracy", "choices": ["oop"]}, 'no column "oop"'),
    "unknown test": (FRAME, {"objectives": "accuracy", "test": "tset"}, 'no column "tset"'),
    "direction": (FRAME, {"objectives": "accuracy:up"}, 'direction "up"'),
    "no objective": (FRAME[["op", "width"]], {}, "no column of real numbers left to search for"),
    "no choice": (FRAME[["accuracy"]], {}, "no column of texts"),
    "objective of texts": (FRAME, {"objectives": "op"}, '"op".*is not numeric'),
    "curve of texts": (LISTED.assign(acc=[["x"]] * 4), {}, '"acc".*is not numeric'),
    "no rows": (FRAME.head(0), {"objectives": "accuracy"}, "has no rows"),
    "missing time": (FRAME.assign(t=[1.0, None] * 6), {"objectives": "accuracy", "seconds": "t", "known": "latency"}, "missing or below 0"),
    "lists as choices": (LISTED, {"objectives": "net", "choices": "acc"}, "which is no choice"),
    "parameter": (FRAME, {"objective": "accuracy"}, 'no parameter "objective"; did you mean "objectives"'),
    "list of mappings": (FRAME, {"objectives": [{"accuracy": "max"}]}, "write a value, or a list of values"),
    "mapping": (FRAME, {"objectives": {"accuracy": "max"}}, "write a value, or a list of values"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_serve_is_said_in_one_sentence(made, case):
    frame, params, words = BAD[case]
    with pytest.raises(ConfigError, match=words) as caught:
        made(frame, **params)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_no_parquet_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match='"none.parquet" is not in'):
        load_table("none.parquet")
    (tmp_path / "text.parquet").write_text("op,accuracy\nmlp,0.5\n")
    with pytest.raises(ConfigError, match="cannot be read as Parquet") as caught:
        load_table(str(tmp_path / "text.parquet"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match='"file" needs "path"'):
        load_table("file")


def test_a_table_is_read_once_until_its_file_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAME.to_parquet("own.parquet")
    params = {"objectives": "accuracy", "known": "latency"}
    first = load_table("own.parquet", params)
    assert load_table("own.parquet", params) is first
    FRAME.head(5).to_parquet("own.parquet")
    assert len(load_table("own.parquet", params).rows) == 5
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(ConfigError, match='"own.parquet" is not in'):
        load_table("own.parquet", params)
