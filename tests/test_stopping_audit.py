"""A study tells what its stopper saved and risked: in its folder, in ``archwright status``, in MLflow."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from archwright.studies.stopper_audit import in_words, read_audit, write_audit
from archwright.studies.views import status_table


def test_the_audit_of_a_stopper_is_kept_in_the_folder(tmp_path):
    write_audit(tmp_path, SimpleNamespace(audit=lambda: {"saved": 0.5, "audited": 3}))
    assert read_audit(tmp_path) == {"saved": 0.5, "audited": 3.0}
    assert [path.name for path in tmp_path.iterdir()] == ["stopping.json"]


def test_a_stopper_without_an_audit_leaves_no_file(tmp_path):
    write_audit(tmp_path, object())
    write_audit(tmp_path, None)
    assert list(tmp_path.iterdir()) == []
    assert read_audit(tmp_path) == {}


def test_a_damaged_file_counts_as_none(tmp_path):
    (tmp_path / "stopping.json").write_text("{")
    assert read_audit(tmp_path) == {}


def test_the_status_of_one_study_says_it_in_words():
    counts = dict.fromkeys(("completed", "stopped", "failed", "infeasible", "duplicate"), 0)
    audit = {"saved": 0.75, "risk": 0.05, "audited": 4.0, "audit_lost": 1.0}
    row = {"study": "s", "state": "running", "trials": 1, "wanted": 2, **counts, "reason": "", "folder": "f", "stopping": audit}
    assert "steps saved 75%; stated risk 5%; audit: 1 of 4" in str(status_table([row]).caption)
    assert in_words({}) == ""
    assert status_table([{**row, "stopping": {}}]).caption is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_gets_the_audit_with_the_study(tmp_path):
    from archwright.studies.tracking import MlflowTracker, connect, default_uri, runs_of

    folder = tmp_path / "s"
    folder.mkdir()
    write_audit(folder, SimpleNamespace(audit=lambda: {"saved": 0.5, "audited": 3}))
    MlflowTracker("s", "now", folder, default_uri(tmp_path), tmp_path / "artifacts").close()
    client = connect(default_uri(tmp_path))
    experiment = client.get_experiment_by_name("s").experiment_id
    (parent,) = runs_of(client, [experiment], "tags.`archwright.role` = 'study'")
    assert parent.data.metrics == {"stopping.saved": 0.5, "stopping.audited": 3.0}
