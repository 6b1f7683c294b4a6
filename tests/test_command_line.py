"""The command line from end to end: a small real study is run, looked at, exported, loaded, extended."""

import csv
import io
import json
import re
import subprocess
import sys

import pytest

from archwright.studies.command_line import main

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

STUDY = """
space: token-mixers
task: digits
controller: random
trials: 3
epochs: 2
stopper: null
name: small
top: 1
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder in which a study of three trials has run."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "small.yaml").write_text(STUDY)
    code, out, err = call(folder, "run", "small.yaml")
    assert code == 0, err
    return folder, out


def call(folder, *words):
    """Run the command in this process; exit status, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["archwright", *words])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setenv("COLUMNS", "160")
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return code, out.getvalue(), err.getvalue()


def test_run_prints_a_leaderboard_and_how_to_look_further(desk):
    _, out = desk
    assert "val_accuracy" in out
    assert "test_accuracy" in out
    assert "archwright best" in out
    assert "archwright export" in out


def test_status(desk):
    code, out, _ = call(desk[0], "status", "--format", "json")
    assert code == 0
    row = json.loads(out)[0]
    assert (row["study"], row["state"], row["trials"], row["wanted"]) == ("small", "finished", 3, 3)
    assert "3/3" in call(desk[0], "status", "small")[1]


def test_best_in_three_forms(desk):
    rows = json.loads(call(desk[0], "best", "small", "--format", "json")[1])
    accuracies = [row["metrics"]["val_accuracy"] for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(rows) == 3
    assert "test_accuracy" in rows[0]["metrics"]
    table = list(csv.DictReader(io.StringIO(call(desk[0], "best", "--format", "csv", "--top", "2")[1])))
    assert [int(row["trial"]) for row in table] == [row["trial"] for row in rows[:2]]
    assert float(table[0]["val_accuracy"]) == accuracies[0]
    assert str(rows[0]["trial"]) in call(desk[0], "best")[1]


def test_best_where(desk):
    rows = json.loads(call(desk[0], "best", "--format", "json")[1])
    middle = sorted(row["metrics"]["params"] for row in rows)[1]
    found = json.loads(call(desk[0], "best", "--format", "json", "--where", f"params <= {middle}")[1])
    assert {row["trial"] for row in found} == {row["trial"] for row in rows if row["metrics"]["params"] <= middle}
    assert json.loads(call(desk[0], "best", "--format", "json", "--where", "val_accuracy > 2")[1]) == []


def test_show(desk, tmp_path):
    code, out, err = call(desk[0], "show", "small", "--svg", str(tmp_path / "net.svg"))
    assert code == 0, err
    assert "learning curves" in out
    assert "val_accuracy" in out
    assert (tmp_path / "net.svg").read_text().startswith(("<svg", "<?xml"))
    facts = json.loads(call(desk[0], "show", "small", "--format", "json")[1])
    assert len(facts["curves"]["val_accuracy"]) == 2
    assert facts["metrics"]["params"] > 0


def test_export_gives_the_same_logits_in_a_fresh_process(desk, tmp_path):
    code, out, err = call(desk[0], "export", "small", "--to", str(tmp_path / "net"))
    assert code == 0, err
    assert "archwright.load" in out
    done = subprocess.run([sys.executable, str(tmp_path / "net" / "example.py")], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    difference = float(re.search(r"exported outputs: (\S+)", done.stdout)[1])
    assert difference == 0.0
    code, _, err = call(desk[0], "export", "small", "--to", str(tmp_path / "net"))
    assert code == 2
    assert "not empty" in err


def test_export_onnx_agrees(desk, tmp_path):
    code, _, err = call(desk[0], "export", "small", "--to", str(tmp_path / "net"), "--onnx")
    assert code == 0, err
    from onnx.reference import ReferenceEvaluator
    from safetensors.numpy import load_file

    example = load_file(tmp_path / "net" / "example.safetensors")
    (outputs,) = ReferenceEvaluator(str(tmp_path / "net" / "model.onnx")).run(None, {"input": example["input"]})
    assert abs(outputs - example["output"]).max() < 1e-4


def test_a_finished_study_is_extended(desk):
    code, out, err = call(desk[0], "resume", "small", "--trials", "+1")
    assert code == 0, err
    assert json.loads(call(desk[0], "status", "--format", "json")[1])[0]["trials"] == 4
    assert len(json.loads(call(desk[0], "best", "--format", "json")[1])) == 4


def test_list_names_everything_with_knobs_and_papers():
    # In a process of its own: other tests register plug-ins.
    done = subprocess.run([sys.executable, "-m", "archwright", "list", "--format", "json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {"spaces", "blocks", "residual-rules", "tasks", "controllers", "evaluators", "predictors", "stoppers", "kernels"} <= set(found)
    by_name = {row["name"]: row for rows in found.values() for row in rows}
    assert "heads" in by_name["attention"]["knobs"]
    assert "2402.19427" in by_name["rg-lru"]["paper"] or "Griffin" in by_name["rg-lru"]["paper"]
    assert all(row["summary"] for row in by_name.values())
    assert "rg-lru" in call(".", "list", "blocks")[1]


@pytest.mark.parametrize("words", [[], ["run"], ["resume"], ["status"], ["best"], ["show"], ["export"], ["list"]])
def test_help_of_every_command(words):
    code, out, _ = call(".", *words, "--help")
    assert code == 0
    assert "Usage" in out


def test_the_package_and_the_help_import_nothing_heavy():
    code = (
        "import sys, archwright, archwright.studies.command_line; "
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'sklearn', 'pandas', 'numpy', 'pydantic'} & set(sys.modules); "
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_m_archwright():
    done = subprocess.run([sys.executable, "-m", "archwright", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "0.1.0" in done.stdout
