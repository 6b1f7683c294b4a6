"""The mistakes a new user makes: each gets one sentence that names the cure, and exit status 2; nothing is left behind."""

import re
import sys
from pathlib import Path

import pytest

from archwright.studies.command_line import main

SPACE = """
from archwright import Architecture, Node, space

@space
def fine(choose):
    return Architecture((Node("input", "input"), Node("op", choose.one_of("op", ["gelu", "silu"]), ("input",))), "op")

@space
def empty(choose):
    return Architecture((Node("input", "input"),), "input", training={"learning_rate": choose.one_of("rate", [])})

@space
def choiceless(choose):
    return Architecture((Node("input", "input"),), "input")

@space
def wrong_type(choose):
    return choose.one_of("op", ["gelu", "silu"])

@space
def twice(choose):
    return choose.one_of("op", ["gelu", "silu"]), choose.one_of("op", ["gelu", "silu"])

@space
def unknown_block(choose):
    return Architecture((Node("input", "input"), Node("op", "atention", ("input",), {"k": choose.integer("k", 1, 2)})), "op")

def clumsy(choose):
    return 1 / 0
"""

FILES = {
    "space.py": SPACE,
    "import_error.py": "import a_module_that_nobody_has\n",
    "syntax_error.py": "def f(:\n",
    "table.csv": "a,b,price\n" + "".join(f"{i},{i % 3},{i * 1.5}\n" for i in range(60)),
    "one_class.csv": "a,b,kind\n" + "".join(f"{i},{i % 3},cat\n" for i in range(60)),
    "empty.csv": "",
    "header_only.csv": "a,b,price\n",
    "bad.npz": "this is no archive",
    "broken.yaml": "space: [token-mixers\ntask: digits\n",
    "list.yaml": "- space\n- task\n",
    "misspelt.yaml": "space: token-mixers\ntask: digits\ntrails: 3\n",
    "unknown_space.yaml": "space: token-mixer\ntask: digits\n",
    "text_for_number.yaml": "space: token-mixers\ntask: digits\ntrials: many\n",
    "no_space.yaml": "task: digits\n",
    "two_objectives.yaml": "space: token-mixers\ntask: digits\nobjectives: [val_accuracy, -params]\nstopper: predictive-termination\n",
    "bad_constraint.yaml": "space: token-mixers\ntask: digits\nconstraints: {parameters: {max: 5}}\n",
    "bad_knob.yaml": "space: token-mixers\ntask: digits\ncontroller: {name: evolution, populatoin: 5}\n",
}

MISTAKES = {
    "unknown command": ("rnu digits", r'no command "rnu".*did you mean "run"'),
    "unknown preset or space": ("run digit", r'"digit" is no preset.*did you mean "digits"'),
    "unknown space in a file": ("run unknown_space.yaml", r'No space is called "token-mixer"; did you mean "token-mixers"'),
    "misspelt field": ("run misspelt.yaml", r'"trails".*"trials"'),
    "text for a number": ("run text_for_number.yaml", r"trials.*many"),
    "missing field": ("run no_space.yaml", r"space"),
    "broken YAML": ("run broken.yaml", r"broken\.yaml.*line"),
    "YAML that is a list": ("run list.yaml", r"must be fields"),
    "missing YAML file": ("run absent.yaml", r"absent\.yaml"),
    "space function that is not there": ("run space.py:fin", r'has no "fin"; did you mean "fine"'),
    "space file that is not there": ("run absent.py:space", r"absent\.py.*cannot be read"),
    "choice without options": ("run space.py:empty", r"no options"),
    "space without a choice": ("run space.py:choiceless", r"asks no question"),
    "space that returns no architecture": ("run space.py:wrong_type", r"must return an Architecture"),
    "path asked twice": ("run space.py:twice", r"asked twice"),
    "space that raises": ("run space.py:clumsy", r"ZeroDivisionError"),
    "unknown block": ("run space.py:unknown_block", r'No block is called "atention"; did you mean "attention"'),
    "plug-in that fails to import": ("run digits --plugin import_error.py", r"a_module_that_nobody_has"),
    "plug-in with a syntax error": ("run digits --plugin syntax_error.py", r"SyntaxError.*line 1"),
    "unknown task": ("run token-mixers --task digitz", r'No task is called "digitz"; did you mean "digits"'),
    "unknown controller": ("run digits --controller evolve", r'No controller is called "evolve"'),
    "unknown knob of a controller": ("run bad_knob.yaml", r"populatoin.*population"),
    "CSV without the target": ("run token-mixers --data table.csv --target prize", r'"prize".*"price"'),
    "data without a target": ("run token-mixers --data table.csv", r"--target"),
    "one-class target": ("run token-mixers --data one_class.csv --target kind", r"one class|single class|only one"),
    "empty CSV": ("run token-mixers --data empty.csv --target price", r"empty\.csv"),
    "CSV without rows": ("run token-mixers --data header_only.csv --target price", r"row"),
    "data file that is not there": ("run token-mixers --data absent.csv --target price", r"absent\.csv"),
    "npz that is none": ("run token-mixers --data bad.npz", r"bad\.npz"),
    "GPU on a machine without one": ("run digits --gpus 1 --engine ray", r"no CUDA device|GPU"),
    "unwritable folder": ("run digits --runs /proc/runs", r"/proc/runs"),
    "stopper with several objectives": ("run two_objectives.yaml", r"objective"),
    "constraint on an unknown metric": ("run bad_constraint.yaml", r"parameters"),
    "setting without a value": ("run digits --set trials", r"--set trials=VALUE"),
    "unknown setting": ("run digits --set trails=3", r'"trails".*"trials"'),
    "no study to resume": ("resume", r"no study"),
    "unknown study": ("status absent", r'no study "absent"'),
    "best of nothing": ("best", r"no study"),
    "loading nothing": ("export absent", r'no study "absent"'),
    "unknown kind to list": ("list block", r'no kind "block".*"blocks"'),
    "wrong option": ("run digits --trails 3", r"--trails"),
    "no trials at all": ("run digits --trials 0", r"trials"),
}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["archwright", *command.split()])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().err.strip()


@pytest.mark.parametrize("name", MISTAKES)
def test_one_sentence_and_status_2(name, desk, monkeypatch, capsys):
    command, words = MISTAKES[name]
    code, sentence = said(command, monkeypatch, capsys)
    assert code == 2, sentence
    assert re.search(words, sentence), sentence
    assert sentence.startswith("archwright: ")
    assert len(sentence.splitlines()) == 1
    assert "Traceback" not in sentence
    assert not list(Path(desk).glob("runs/*/journal.jsonl")), "a study was left behind"


def test_a_name_that_is_taken(desk, monkeypatch, capsys):
    (desk / "runs" / "mine").mkdir(parents=True)
    code, sentence = said("run digits --name mine", monkeypatch, capsys)
    assert code == 2
    assert re.search(r'"mine" is taken', sentence)
