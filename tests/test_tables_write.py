"""What is written is read again as it was, cell by cell, and never by halves."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sg_local.records import SgError
from sg_local.tables import FORMS, read_grid, read_table, write_table

NAMES = [f"a.{form}" for form in FORMS] + ["a.csv.gz"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_every_text_comes_back(tmp_path, name, texts):
    written = [{"id": f"row {i}", "input": a, "output": b} for i, (a, b) in enumerate(texts)]
    write_table(tmp_path / name, ("id", "input", "output"), written)
    found = read_grid(tmp_path / name)
    assert [row.cells for row in found.rows] == written and not any(row.error for row in found.rows)


HARD = [
    "=1+1",
    "'=1",
    "''=1",
    "'tis",
    "''twas",
    "+a",
    "-b",
    "@c",
    "\td",
    "\re",
    "a\r\nb",
    "a\rb",
    "a\u2028\x85b",
    '"',
    '""',
    "sep=;",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", HARD)
def test_hard_texts_come_back(tmp_path, name, text):
    write_table(tmp_path / name, ("input", "output"), [{"input": text, "output": "x"}, {"input": "y", "output": text}])
    found = read_table(tmp_path / name, needs_output=True)
    assert [(row.input, row.outputs) for row in found.rows] == [(text, ("x",)), ("y", (text,))]


def test_no_cell_leaves_as_a_formula(tmp_path):
    write_table(
        tmp_path / "a.csv", ("input",), [{"input": text} for text in ("=HYPERLINK(1)", "@x", "-1", "'=1", "a=b")]
    )
    assert (tmp_path / "a.csv").read_text() == "input\n'=HYPERLINK(1)\n'@x\n'-1\n''=1\na=b\n"


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "new" / "a.jsonl"
    write_table(path, ("a",), [{"a": "1"}])

    def broken():
        yield {"a": "2"}
        raise SgError("no more")

    with pytest.raises(SgError, match="no more"):
        write_table(path, ("a",), broken())
    assert path.read_text() == '{"a": "1"}\n' and list(path.parent.iterdir()) == [path]


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(SgError, match="not written to such a file") as caught:
        write_table(tmp_path / "a.doc", ("a",), [])
    assert caught.value.exit_code == 2 and not list(tmp_path.iterdir())


def test_values_of_json_stay_what_they_are_and_become_text_elsewhere(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 7, "input": "x", "tags": ["a"], "score": -0.5, "none": null}\n')
    row = read_table(tmp_path / "a.jsonl").rows[0]
    for name in ("b.jsonl", "b.csv"):
        write_table(tmp_path / name, tuple(row.cells), [{**row.cells, **row.values}])
    assert (tmp_path / "b.jsonl").read_text() == (tmp_path / "a.jsonl").read_text()
    assert (tmp_path / "b.csv").read_text() == 'id,input,tags,score,none\n7,x,"[""a""]",-0.5,\n'
