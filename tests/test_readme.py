"""The README's examples run as they stand: a user's space and block, task, and training choices, under every controller and engine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from archwright.controllers.registry import CONTROLLERS
from archwright.search_space.plugins import load_file
from archwright.studies import launch

README = Path(__file__).parent.parent / "README.md"

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with every file that the README shows."""
    folder = tmp_path_factory.mktemp("readme")
    for name, body in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README.read_text(), re.DOTALL):
        (folder / name).write_text(body)
    return folder


def study(desk, tmp_path, **fields):
    base = {
        "space": f"{desk}/my_space.py:small",
        "task": "digits",
        "trials": 2,
        "epochs": 1,
        "tracking": "off",
        "folder": str(tmp_path),
        "top": 1,
    }
    return launch.run({**base, **fields})


def test_the_example_is_short_enough_to_be_read(desk):
    assert len((desk / "my_space.py").read_text().strip().splitlines()) <= 25


@pytest.mark.parametrize("controller", list(CONTROLLERS))
def test_a_users_space_under_every_controller(desk, tmp_path, controller):
    result = study(desk, tmp_path, controller=controller)
    assert result.counts["completed"] == 2
    assert 0 < result.best()[0]["test_accuracy"] <= 1


@pytest.mark.parametrize(
    "controller", ["random", pytest.param("evolution", marks=pytest.mark.slow), pytest.param("optuna", marks=pytest.mark.slow)]
)
def test_a_users_space_on_ray(desk, tmp_path, controller):
    result = study(desk, tmp_path, controller=controller, engine="ray", workers=2)
    assert result.counts["completed"] == 2
    assert "test_accuracy" in result.best()[0]


def test_a_users_task_with_a_metric_of_their_own(desk, tmp_path):
    result = study(desk, tmp_path, task=f"{desk}/my_task.py:waves")
    assert result.objectives[0].metric == "val_worst_class"
    assert "test_worst_class" in result.best()[0]


def test_a_space_that_chooses_rate_and_optimiser(desk, tmp_path):
    result = study(desk, tmp_path, space=f"{desk}/tuned.py:tuned")
    training = [result.architecture(row["trial"]).training for row in result.leaderboard()]
    assert all(set(fields) == {"learning_rate", "optimizer"} for fields in training)


def test_a_csv_regression_study(tmp_path):
    rows = ["size,kind,age,price"]
    rows += [
        f"{50 + i % 97},{'flat' if i % 3 else 'house'},{'' if i % 11 == 0 else i % 40},{(50 + i % 97) * (2 + (i % 3 == 0)) - i % 40}"
        for i in range(200)
    ]
    (tmp_path / "houses.csv").write_text("\n".join(rows))
    task = {"name": "table", "path": str(tmp_path / "houses.csv"), "target": "price"}
    fields = {"space": "token-mixers", "task": task, "trials": 2, "epochs": 3, "tracking": "off", "folder": str(tmp_path / "runs")}
    result = launch.run(fields)
    assert result.objectives[0].direction == "min"
    assert result.best()[0]["test_rmse"] > 0


def test_the_results_shown_are_a_table_that_controllers_race_on(desk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, str(desk / "my_results.py")], check=True)
    shown = re.search(r"`archwright (compare .* --table my_results\.parquet [^`]*)`", README.read_text())[1]
    archwright = [sys.executable, "-m", "archwright"]
    done = subprocess.run([*archwright, *shown.split(), "--seeds", "2", "--jobs", "1"], capture_output=True, text=True)
    assert (done.returncode, "hypervolume" in done.stdout) == (0, True), done.stderr
    fields = {"evaluator": {"name": "table", "table": "my_results.parquet"}, "objectives": "accuracy", "trials": 5, "tracking": "off"}
    assert launch.run(fields).counts["completed"] == 5


def test_the_configuration_shown_is_valid(tmp_path):
    import yaml

    from archwright.studies.config import make_config

    shown = re.search(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)[1]
    config = make_config(yaml.safe_load(shown))
    assert config.trials == 40


def test_the_contract_tests_shown_are_shipped():
    for name in re.findall(r"from archwright.testing import (.*)", README.read_text())[0].split(", "):
        __import__("archwright.testing", fromlist=[name])
        assert callable(getattr(sys.modules["archwright.testing"], name))


def test_the_python_shown_names_what_exists():
    import archwright

    for name in set(re.findall(r"archwright\.(\w+)\(", README.read_text())):
        assert callable(getattr(archwright, name)), name


def test_every_command_shown_exists():
    commands = set(re.findall(r"^\$ archwright (\w+)", README.read_text(), re.MULTILINE))
    listing = subprocess.run([sys.executable, "-m", "archwright", "--help"], capture_output=True, text=True).stdout
    assert {command for command in commands if f"\n  {command} " not in listing} == set()


def test_plugins_are_given_by_text(desk):
    module = load_file(desk / "my_space.py")
    assert module.small.name == "small"


def test_the_kernel_example_prints_what_it_says(tmp_path):
    (example,) = re.findall(r"```python\n(import torch\nfrom archwright\.kernels.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run([sys.executable, "-P", str(tmp_path / "example.py")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in example
    assert "fast" in done.stdout
