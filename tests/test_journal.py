"""The journal: append-only, torn at the end at worst, damaged in the middle never unnoticed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archwright.search_space.errors import StudyError
from archwright.studies.journal import Journal, encode, read_journal


def write(path: Path, count: int) -> list[dict]:
    journal = Journal(path)
    written = [journal.append({"event": "asked", "n": n, "note": {"rate": 0.1 * n, "word": "ü"}}) for n in range(count)]
    journal.close()
    return written


def test_events_come_back_as_they_were_returned(tmp_path):
    path = tmp_path / "journal.jsonl"
    first = write(path, 20)
    second = write(path, 3)
    assert list(read_journal(path)) == [*first, *second]


def test_an_event_can_be_read_before_the_journal_is_closed(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"event": "asked", "n": 0})
    assert [event["n"] for event in read_journal(journal.path)] == [0]
    journal.close()


def test_appending_returns_what_a_reader_sees(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    returned = journal.append({"event": "asked", "note": {"pair": (1, 2)}, 3: "key"})
    journal.close()
    assert returned["note"] == {"pair": [1, 2]}
    assert returned["3"] == "key"


def test_values_that_are_not_finite_become_null():
    line = encode({"event": "report", "metrics": {"a": math.nan, "b": [math.inf, 1.0]}})
    assert json.loads(line) == {"event": "report", "metrics": {"a": None, "b": [None, 1.0]}}


def test_cut_at_every_byte_of_the_last_two_lines_opens_and_goes_on(tmp_path):
    path = tmp_path / "journal.jsonl"
    whole = write(path, 5)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    begin = sum(map(len, lines[:3]))
    for cut in range(begin, len(data) + 1):
        path.write_bytes(data[:cut])
        left = 3 + (cut >= begin + len(lines[3])) + (cut >= len(data))
        assert list(read_journal(path)) == whole[:left]
        journal = Journal(path)
        new = journal.append({"event": "resumed"})
        journal.close()
        assert list(read_journal(path)) == [*whole[:left], new]


def test_a_torn_line_longer_than_the_block_read_is_cut(tmp_path):
    path = tmp_path / "journal.jsonl"
    whole = write(path, 2)
    with path.open("ab") as file:
        file.write(b"x" * 200_000)
    Journal(path).close()
    assert list(read_journal(path)) == whole


def test_a_journal_of_one_torn_line_is_empty_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event": "stu')
    Journal(path).close()
    assert path.read_bytes() == b""


def test_reading_does_not_cut(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, 1)
    torn = path.read_bytes() + b'{"event"'
    path.write_bytes(torn)
    list(read_journal(path))
    assert path.read_bytes() == torn


@pytest.mark.parametrize("damage", [b"{]\n", b"[1]\n", b'{"n": 1}\n', b"\xff\xfe\n", b"7\n"])
def test_damage_in_the_middle_is_an_error_that_names_the_line(tmp_path, damage):
    path = tmp_path / "journal.jsonl"
    write(path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], damage, *lines[2:]]))
    with pytest.raises(StudyError, match=r"Line 3 of .* is damaged"):
        list(read_journal(path))


def test_a_missing_journal_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="There is no journal"):
        list(read_journal(tmp_path / "none.jsonl"))


def test_a_journal_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="cannot be written"):
        Journal(tmp_path / "missing" / "journal.jsonl")


def test_a_killed_process_loses_nothing_it_wrote(tmp_path):
    path = tmp_path / "journal.jsonl"
    code = (
        "import os, signal, sys, pathlib\n"
        "from archwright.studies.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]))\n"
        "for n in range(100): journal.append({'event': 'asked', 'n': n})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=os.getcwd())
    assert ended.returncode == -9
    assert [event["n"] for event in read_journal(path)] == list(range(100))
