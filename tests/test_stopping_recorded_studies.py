"""The learning curves of studies, replayed like those of a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archwright.search_space.errors import ConfigError, StudyError
from archwright.studies import launch
from archwright.studies.result import StudyResult
from archwright.studies.stopping.api import study_stopping
from archwright.studies.stopping.recorded_studies import curves_of_studies
from archwright.studies.stopping.sources import found_sources, recorded_curves

STEPS, TRIALS = 5, 8


def _study(folder: Path, name: str, **fields: object) -> Path:
    given = {"space": "token-mixers", "task": "digits", "controller": "random", "evaluator": "instant", "objectives": ["score"]}
    given |= {"stopper": None, "trials": TRIALS, "epochs": STEPS, "top": 0, "tracking": "off", "folder": str(folder), "name": name}
    launch.run({**given, **fields})
    return folder / name


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [_study(folder, f"s{seed}", seed=seed) for seed in range(2)]


def test_every_trained_candidate_is_a_row_with_what_a_stopper_knows_of_it(studies: list[Path]) -> None:
    found = curves_of_studies(studies[:1])
    assert (found.name, found.metric, found.direction, found.budget, len(found)) == ("s0", "score", "max", STEPS, TRIALS)
    trained = [trial for trial in StudyResult.read(studies[0]).ledger.trials.values() if trial.outcome and trial.outcome.steps]
    assert np.array_equal(found.finals, [trial.metrics["score"] for trial in trained])
    assert np.allclose(found.values, found.finals[:, None] * np.arange(1, STEPS + 1) / STEPS)
    assert [row["architecture/params"] for row in found.features] == pytest.approx([np.log1p(t.known["params"]) for t in trained])


def test_an_option_never_chosen_counts_as_0_and_what_is_the_same_for_all_is_left_out(studies: list[Path]) -> None:
    features = curves_of_studies(studies).features
    mixers = [name for name in features[0] if "mixer=" in name]
    assert len(mixers) == 5
    assert all(name in row for row in features for name in mixers)
    assert min(row[name] for row in features for name in mixers) == 0
    assert all(len({row.get(name) for row in features}) > 1 for name in features[0])


def test_studies_are_put_together_and_found_by_name(studies: list[Path]) -> None:
    sources = found_sources(["s0", str(studies[1])], studies[0].parent)
    assert sources == tuple(studies)
    both = recorded_curves(sources)
    assert (both.name, len(both)) == ("s0 and 1 more", 2 * TRIALS)
    assert np.array_equal(both.values[:TRIALS], curves_of_studies(studies[:1]).values)


def test_a_study_that_left_its_objective_to_the_task_has_curves_too(studies: list[Path], tmp_path: Path) -> None:
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    first, *others = (studies[0] / "journal.jsonl").read_text().splitlines()
    head = json.loads(first)
    head["config"]["objectives"] = []
    (quiet / "journal.jsonl").write_text("\n".join([json.dumps(head), *others]) + "\n")
    assert np.array_equal(curves_of_studies([quiet]).values, curves_of_studies(studies[:1]).values)


def test_a_failed_candidate_has_a_curve_that_ends_early(studies: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    lines = [json.loads(line) for line in (studies[0] / "journal.jsonl").read_text().splitlines()]
    first = next(line["n"] for line in lines if line["event"] == "report")
    kept = [line for line in lines if not (line["event"] == "report" and line["n"] == first and line["step"] > 2)]
    for line in kept:
        if line["event"] == "report" and line["n"] == first:
            line["metrics"]["score"] = 0.5 if line["step"] == 1 else None  # as JSON has a value that is not finite
        if line["event"] == "told" and line["n"] == first:
            line["outcome"] |= {"status": "failed", "reason": "it broke"}
    (broken / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    found = curves_of_studies([broken])
    assert len(found) == TRIALS
    assert found.values[0, 0] == 0.5
    assert np.isnan(found.values[0, 1:]).all()
    assert np.isfinite(found.finals[1:]).all()


def test_other_metrics_are_named_and_their_direction_is_told_by_the_name(studies: list[Path]) -> None:
    with pytest.raises(ConfigError, match='reported a metric "scor"; did you mean "score"'):
        curves_of_studies(studies, "scor")
    assert curves_of_studies(studies, direction="min").direction == "min"


def test_curves_that_a_stopper_cut_short_are_refused(tmp_path: Path) -> None:
    stopped = _study(tmp_path, "stopped", stopper={"name": "asha", "min_steps": 1, "eta": 2})
    with pytest.raises(ConfigError, match=r"stopped \d+ of its candidates.*--set stopper=null"):
        curves_of_studies([stopped])


def test_studies_of_different_budgets_are_refused(studies: list[Path], tmp_path: Path) -> None:
    short = _study(tmp_path, "short", epochs=4, trials=2)
    with pytest.raises(ConfigError, match="trained for 4 epochs, those of .*s0.* for 5"):
        curves_of_studies([studies[0], short])


def test_sources_that_are_none_get_one_sentence(studies: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match='There is no study "s9"'):
        found_sources("s9", studies[0].parent)
    with pytest.raises(ConfigError, match=r"file, and 2 sources were given"):
        found_sources(["a.parquet", "s0"], studies[0].parent)
    with pytest.raises(ConfigError, match="needs recorded curves"):
        found_sources([])
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        recorded_curves(found_sources(tmp_path / "no.parquet"))


def test_a_study_is_replayed_like_a_file(studies: list[Path], tmp_path: Path) -> None:
    options = {"stoppers": ["asha:eta=2", "median"], "studies": 3, "jobs": 1, "progress": False, "out": tmp_path}
    found = study_stopping(["s0", "s1"], runs=studies[0].parent, **options)
    assert found.curves.name == "s0 and 1 more"
    assert all(one.studies == 3 and one.saving > 1 for one in found.summaries)
    again = study_stopping(studies, **options)
    assert again.to_json() == found.to_json()
    assert "sources" not in found.to_json()


def test_a_study_draws_the_share_that_was_asked_for(studies: list[Path], tmp_path: Path) -> None:
    options = {"stoppers": ["median"], "studies": 2, "jobs": 1, "progress": False, "out": tmp_path}
    whole, half = (study_stopping(studies, share=share, **options) for share in (1.0, 0.5))
    assert (whole.to_json()["share"], half.to_json()["share"]) == (1.0, 0.5)
    assert whole.folder != half.folder
    assert half.summaries[0].completed < whole.summaries[0].completed
    with pytest.raises(ConfigError, match=r"study of 0.01 of 16 trainings was asked for; it needs 2"):
        study_stopping(studies, share=0.01, **options)
