"""Journals: every line parsed once, whatever is read how often; every change of the file noticed."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from click.testing import CliRunner

from sg_local import journals
from sg_local.cli.app import app
from sg_local.journals import JournalFile
from sg_local.records import Candidate, InputRow, Pair, SgError, TestRow, Verdict, to_json
from sg_local.run import CANDIDATES, INPUTS, VERDICTS, Run

ROWS = [Pair(f"in {i}", "out") for i in range(6)]


def text(rows) -> str:
    return "".join(f"{to_json(row)}\n" for row in rows)


@pytest.fixture
def parses(monkeypatch) -> Counter[type]:
    """How many rows of each record class were parsed so far."""
    counts: Counter[type] = Counter()
    as_record = journals.as_record

    def counting(cls, *how):
        counts[cls] += 1
        return as_record(cls, *how)

    monkeypatch.setattr(journals, "as_record", counting)
    return counts


@pytest.fixture
def journal(tmp_path) -> JournalFile:
    """A journal of four rows."""
    (tmp_path / "rows.jsonl").write_text(text(ROWS[:4]))
    return JournalFile(tmp_path / "rows.jsonl")


def test_a_whole_run_parses_every_row_of_its_journals_once(own_folder, parses):
    line = "run support_routing --yes --backend scripted --name trial --set synth.n_inputs=40 --set eval.resamples=50"
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0, done.output
    run = Run(own_folder / "runs" / "trial")
    for name, cls in ((INPUTS, InputRow), (CANDIDATES, Candidate), (VERDICTS, Verdict)):
        assert parses[cls] == sum(1 for _ in run.lines(name)), name


def test_reading_again_parses_nothing_and_an_append_only_its_own_rows(journal, parses):
    assert journal.read(Pair) == journal.read(Pair) == ROWS[:4] and parses[Pair] == 4
    journal.append(text(ROWS[4:]))
    assert journal.read(Pair) == ROWS and parses[Pair] == 6


def test_the_list_is_the_callers_own(journal):
    journal.read(Pair).clear()
    assert journal.read(Pair) == ROWS[:4]


def test_a_torn_line_behind_parsed_rows_is_cut_by_the_next_append(journal, parses):
    with open(journal.path, "a") as file:
        file.write('{"input": "tor')
    assert journal.read(Pair) == ROWS[:4]
    journal.append(text(ROWS[4:]))
    assert journal.read(Pair) == ROWS and parses[Pair] == 6


def _by_another(path):
    with open(path, "a") as file:
        file.write(text(ROWS[4:5]))


def _in_place(path):
    path.write_text(text(ROWS[2:5]))


def _by_another_file(path):
    path.with_name("new").write_text(text(ROWS[2:]))
    os.replace(path.with_name("new"), path)


CHANGES = [
    (_by_another, ROWS[:5]),
    (_in_place, ROWS[2:5]),
    (_by_another_file, ROWS[2:]),
    (lambda path: os.truncate(path, len(text(ROWS[:2]))), ROWS[:2]),
    (lambda path: path.unlink(), []),
]


@pytest.mark.parametrize(
    ("change", "rows"), CHANGES, ids=["appended by another", "in place", "replaced", "cut", "removed"]
)
def test_what_another_program_did_to_the_file_is_noticed(journal, change, rows):
    assert journal.read(Pair) == ROWS[:4]
    change(journal.path)
    assert journal.read(Pair) == rows
    journal.append(text(ROWS[5:]))
    assert journal.read(Pair) == [*rows, ROWS[5]]


def test_a_change_by_another_between_two_appends_is_noticed(journal):
    journal.read(Pair)
    _in_place(journal.path)
    journal.append(text(ROWS[5:]))
    assert journal.read(Pair) == [*ROWS[2:5], ROWS[5]]


@pytest.mark.parametrize("line", ["not json", '{"input": "a", "other": 1}'])
def test_a_wrong_line_is_refused_every_time_until_it_is_fixed(journal, line):
    journal.append(f"{line}\n{text(ROWS[5:])}")
    for _ in range(2):
        with pytest.raises(SgError):
            journal.read(Pair)
    journal.path.write_text(text(ROWS))
    assert journal.read(Pair) == ROWS


def test_a_broken_line_behind_parsed_rows_has_its_number(journal):
    journal.read(Pair)
    journal.append("not json\n")
    with pytest.raises(SgError, match=r"rows.jsonl:5"):
        journal.read(Pair)


def test_one_file_is_read_as_two_kinds_of_record(tmp_path):
    journal = JournalFile(tmp_path / "tests.jsonl")
    journal.append(text([TestRow("a", ("b",))]))
    assert journal.read(TestRow) == [TestRow("a", ("b",))]
    assert list(journal.lines()) == [{"input": "a", "outputs": ["b"]}]
    with pytest.raises(SgError, match="unknown key"):
        journal.read(Pair)
