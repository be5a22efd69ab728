"""Files of rows, in every form that people keep them in: what is read, and what is refused with its place."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import tracemalloc
from pathlib import Path

import pytest

from sg_local.records import SgError
from sg_local.tables import Columns, parse_columns, read_table
from sg_local.tables.grid import KNOWN


@pytest.fixture
def table(tmp_path):
    """Write a file and read it as a table."""

    def read(name: str, data: str | bytes, **how):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return read_table(path, **how)

    return read


def rows(found) -> list[tuple[int, str, tuple[str, ...]]]:
    return [(row.line, row.input, row.outputs) for row in found.rows]


def said(work) -> str:
    """The message and the hint of the usage error that work ends in."""
    with pytest.raises(SgError) as caught:
        work()
    assert caught.value.exit_code == 2 and caught.value.hint
    return f"{caught.value.message} / {caught.value.hint}"


ONE = [(2, "Where is it?\nI wait", ("late",)), (4, "a,b", ("x;y",))]
READ = {
    "commas": ('text,label\n"Where is it?\nI wait",late\n"a,b",x;y\n', "CSV with commas, 2 rows"),
    "semicolons": ('text;label\n"Where is it?\nI wait";late\na,b;"x;y"\n', "CSV with semicolons"),
    "tabs": ('text\tlabel\n"Where is it?\nI wait"\tlate\na,b\tx;y\n', "CSV with tabs"),
    "bars": ('text|label\n"Where is it?\nI wait"|late\na,b|x;y\n', "CSV with bars"),
    "windows": ('text;label\r\n"Where is it?\r\nI wait";late\r\na,b;"x;y"\r\n', "CSV with semicolons"),
    "mark": ('\ufefftext,label\n"Where is it?\nI wait",late\n"a,b",x;y', "CSV with commas"),
}


@pytest.mark.parametrize("name", READ)
def test_csv_is_read_as_spreadsheets_write_it(table, name):
    text, told = READ[name]
    found = table("mails.csv", text, needs_output=True)
    assert rows(found) == ONE and told in found.told
    assert found.told.startswith("mails.csv: ") and found.told.endswith("; input = text, output = label")
    assert found.place(found.rows[1]).endswith("mails.csv:4")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_utf_16_is_read(table, encoding, mark):
    found = table("mails.tsv", f"{mark}text\tlabel\nGrüße\tok\n".encode(encoding))
    assert (found.form, rows(found)) == ("tsv", [(2, "Grüße", ("ok",))])


def test_excels_own_line_says_the_separator(table):
    assert rows(table("a.csv", "sep=;\r\ntext;label\r\nx;y\r\n")) == [(3, "x", ("y",))]


def test_other_columns_are_kept_in_order(table):
    found = table("a.csv", "id,Body,Team,,\n1,x,y,7,\n2,z\n", columns=Columns("body", "Team"))
    assert found.columns == ("id", "Body", "Team", "column 4") and found.input_column == "Body"
    assert found.rows[1].cells == {"id": "2", "Body": "z", "Team": "", "column 4": ""}


def test_lines_of_one_column_need_no_name(table):
    assert rows(table("a.csv", "hello there\nmy, oh my\n,\n")) == [
        (1, "hello there", ()),
        (2, "my, oh my", ()),
        (3, ",", ()),
    ]
    assert rows(table("a.csv", "Question\nhello there\n")) == [(2, "hello there", ())]
    assert rows(table("a.csv", "Mail text\nhello there\n", columns=Columns("mail text"))) == [(2, "hello there", ())]
    assert rows(table("a.txt", "\ufeffone\r\n\r\ntwo\u2028\x85three\n")) == [
        (1, "one", ()),
        (3, "two\u2028\x85three", ()),
    ]


JSON = {
    "lines.jsonl": '{"input": "x\u2028y", "output": "z"}\r\n\n{"input": "a", "outputs": ["b", "c"]}\n',
    "list.json": '[{"question": "x\u2028y", "label": "z"},\n{"question": "a", "label": ["b", "c"]}]',
    "lines.json": '{"prompt": "x\u2028y", "completion": "z"}\n{"prompt": "a", "completion": ["b", "c"]}\n',
}


@pytest.mark.parametrize("name", JSON)
def test_json_rows_are_read(table, name):
    found = table(name, JSON[name], needs_output=True)
    assert [row[1:] for row in rows(found)] == [("x\u2028y", ("z",)), ("a", ("b", "c"))]


@pytest.mark.parametrize("indent", [None, 1])
def test_the_instances_of_super_ni_are_rows(table, indent):
    task = {
        "Definition": ["Say."],
        "Positive Examples": [],
        "Instances": [{"id": "1", "input": "a", "output": ["b", "c"]}],
    }
    found = table("task1.json", json.dumps(task, indent=indent), needs_output=True)
    assert (found.form, rows(found)) == ("superni", [(1, "a", ("b", "c"))])


def turns(*said: tuple[str, object]) -> str:
    return json.dumps({"id": 7, "messages": [{"role": role, "content": text} for role, text in said]}) + "\n"


def test_messages_are_a_question_and_its_answer(table):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    text = turns(("system", "s"), ("user", "q"), ("assistant", "a")) + turns(("user", parts))
    found = table("chat.jsonl", text)
    assert (found.form, rows(found)) == ("messages", [(1, "q", ("a",)), (2, "ab", ())])
    assert "system messages are left out" in found.told and found.rows[0].cells["id"] == "7"
    long = turns(*[("user", "q"), ("assistant", "a")] * 2)
    assert "chat.jsonl:1: a conversation of 4 messages" in said(lambda: table("chat.jsonl", long))


def test_other_tools_messages_are_read(table):
    shared = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    prompt = {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}
    for data in (shared, prompt):
        found = table("chat.json", json.dumps([data]), needs_output=True)
        assert (found.columns, rows(found)) == (("input", "output"), [(1, "q", ("a",))])
    turn = {"role": "user", "content": [{"type": "image_url"}]}
    assert "chat.json:1: a message has no text" in said(lambda: table("chat.json", json.dumps([{"messages": [turn]}])))
    found = table("chat.jsonl", turns(("user", "q")) + '{"n": 1}\n', lenient=True)
    assert found.rows[1].error == "this row has no messages"


def test_an_instruction_belongs_to_the_input_where_it_differs(table):
    def read(*told: tuple[str, str]):
        data = [{"instruction": instruction, "input": text, "output": "a"} for instruction, text in told]
        found = table("alpaca.json", json.dumps(data), needs_output=True)
        return [row.input for row in found.rows], "part of each input" in found.told

    assert read(("Do.", "x"), ("Do.", "y")) == (["x", "y"], False)
    assert read(("Do.", "x"), ("Say.", "")) == (["Do.\n\nx", "Say."], True)
    found = table("a.jsonl", '{"instruction": "Do.", "output": "a"}')
    assert (found.input_column, rows(found)) == ("instruction", [(1, "Do.", ("a",))])


def test_gzip_is_unpacked(table, monkeypatch):
    packed = gzip.compress(b"text,label\na,b\n")
    assert rows(table("a.csv.gz", packed)) == rows(table("a.csv", packed)) == [(2, "a", ("b",))]
    assert "not whole gzip" in said(lambda: table("a.csv.gz", packed[:-9]))
    monkeypatch.setattr("sg_local.tables.encoding.MAX_TABLE_BYTES", 1000)
    assert "unfolds to more than" in said(lambda: table("a.csv.gz", gzip.compress(b"text\n" + b"a" * 10_000)))


# Columns


def test_what_the_user_says_is_parsed():
    assert parse_columns("input=Body, output=Team") == Columns("Body", "Team")
    assert parse_columns("output=a, b") == Columns(None, "a, b") and parse_columns("") == Columns()
    for text, words in (
        ("Body", "names no column"),
        ("input=a,outpt=b", "Did you mean output?"),
        ("input=a,input=b", "twice"),
    ):
        assert words in said(lambda text=text: parse_columns(text))
    assert "names no column" in said(lambda: parse_columns("input= ,output=a"))


def test_columns_that_cannot_be_told_are_asked_for(table):
    several = said(lambda: table("a.csv", "text,body,label\na,b,c\n"))
    assert "its input may be text or body." in several and "`columns=input=text`" in several
    assert "`columns=input=Request text`" in said(lambda: table("a.csv", "Nr,Request text\n1,Where is it?\n"))
    none = said(lambda: table("a.csv", "Nr,Body,Team\n1,a,b\n", needs_output=True))
    assert "Its columns are: Nr, Body, Team." in none and "`columns=input=Body,output=Team`" in none
    wrong = said(lambda: table("a.csv", "Body,Team\na,b\n", columns=Columns("Bdy")))
    assert "no column 'Bdy' for the input. Did you mean Body?" in wrong and "Body, Team" in wrong
    assert "cannot be both" in said(lambda: table("a.csv", "Body,Team\na,b\n", columns=Columns("Body", "body")))


def test_our_own_names_stand_above_others(table):
    found = table("a.csv", "text,input,label,output\na,b,c,d\n", needs_output=True)
    assert rows(found) == [(2, "b", ("d",))]


def test_outputs_are_not_asked_of_inputs(table):
    found = table("a.csv", "text,label,tag\na,b,c\n")
    assert found.output_column is None and rows(found) == [(2, "a", ())]


# What is refused

REFUSED = {
    "not utf-8": (
        "a.csv",
        "text,label\nGr\xfc\xdfe,b\n".encode("cp1252"),
        "a.csv:2: this is not UTF-8 text (the byte 0xfc)",
    ),
    "broken utf-16": ("a.csv", codecs.BOM_UTF16_LE + "text\n".encode("utf-16-le") + b"\x00\xd8", "broken UTF-16"),
    "open quote": ("a.csv", 'text,label\n"a,b\nc,d\n', "a.csv:2: this row is not CSV (a quote opens"),
    "after quote": ("a.csv", 'text,label\na,b\n"a" c,b\n', "a.csv:3: this row is not CSV (text follows"),
    "cells": (
        "a.csv",
        "text,label\na,b\na, b,c\nd,e,f\n",
        "a.csv:3: this row has 3 cells and the first one 2. So 1 other row is.",
    ),
    "macintosh": ("a.csv", "text,label\ra,b\r", "carriage returns alone"),
    "carriage return": ("a.csv", "text,label\na\rc,b\n", "a.csv:2: this row is not CSV (there is a carriage return"),
    "twice": ("a.csv", "text,label,text\na,b,c\n", "a.csv:1: there are two columns 'text'"),
    "nul": ("a.csv", "text,label\na\0c,b\n", "a.csv:2: the column 'text' holds the control character U+0000"),
    "control": (
        "a.jsonl",
        '{"text": "a", "label": "\\u001b[1m"}',
        "a.jsonl:1: the column 'label' holds the control character U+001B",
    ),
    "no input": ("a.csv", "text,label\na,b\n ,b\n", "a.csv:3: the column 'text' is empty"),
    "no output": ("a.csv", "text,label\na,b\nb,\n", "a.csv:3: the column 'label' is empty"),
    "surrogate": (
        "a.jsonl",
        '{"input": "x", "output": "\\ud83d"}',
        "a.jsonl:1: this is not JSON (half of a surrogate pair",
    ),
    "number": ("a.jsonl", '{"input": 1, "output": "b"}', "a.jsonl:1: the 'input' is a number, not a text"),
    "null": ("a.jsonl", '{"input": "x", "output": null}', "a.jsonl:1: the column 'output' is empty"),
    "depth": ("a.jsonl", "[" * 100_000, "not JSON"),
    "not an object": ("a.jsonl", '{"input": "x", "output": "y"}\n7\n', "a.jsonl:2: this row is not an object"),
    "no rows": ("a.json", '{\n"rows": 7}', "holds no rows"),
    "empty": ("a.csv", "", "holds no rows"),
    "header": ("a.csv", "text,label\n", "holds no rows"),
    "old excel": ("a.xls", b"\xd0\xcf\x11\xe0" + b"\0" * 99, "an old or locked Excel file"),
    "ending": ("a.parquet", b"PAR1", "not read from .parquet files"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_where_it_stands(table, name):
    file, data, words = REFUSED[name]
    assert words in said(lambda: table(file, data, needs_output=True))


def test_files_of_too_many_rows_or_cells_are_refused(table, monkeypatch):
    assert "a.csv:1: 5,001 columns are too many" in said(lambda: table("a.csv", "," * 5000 + "\na,b\n"))
    monkeypatch.setattr("sg_local.tables.separated.MAX_CELLS", 4000)
    assert "5,000 columns are too many" in said(lambda: table("a.csv", "," * 5000 + "\na,b\n"))
    monkeypatch.setattr("sg_local.tables.extent.MAX_ROWS", 3)
    for name, line in (("a.csv", "text,label\n"), ("a.txt", "text\n"), ("a.jsonl", '{"input": "a"}\n')):
        table(name, line * 2)
        assert "holds too many rows" in said(lambda name=name, line=line: table(name, line * 4))
    monkeypatch.setattr("sg_local.tables.extent.MAX_CELLS", 7)
    assert "holds too many rows" in said(lambda: table("a.csv", "text,label,n\n" * 3))
    assert "holds too many rows" in said(lambda: table("a.jsonl", '{"input": "a", "b": 1}\n{"c": 1, "d": 1}\n'))
    monkeypatch.setattr("sg_local.tables.extent.MAX_MARKS", 7)
    assert "holds too many values" in said(lambda: table("a.jsonl", '{"input": "a", "b": [1,2,3,4,5]}'))


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for name, words in (("pipe.csv", "not a regular file"), (".", "not a regular file"), ("none.csv", "no file at")):
        assert words in said(lambda name=name: read_table(tmp_path / name))


def test_a_lenient_reader_leaves_the_row_in_and_says_why(table):
    found = table("a.jsonl", '{"input": "x"}\noops\n{"input": " "}\n{"input": "y"}\n', lenient=True)
    assert [(row.line, row.input) for row in found.rows if not row.error] == [(1, "x"), (4, "y")]
    assert "not JSON" in found.rows[1].error and found.rows[2].error == "the column 'input' is empty"
    found = table("a.jsonl", '{"input": "x", "out\n{"input": "y"}\n', lenient=True)
    assert [bool(row.error) for row in found.rows] == [True, False]
    found = table("a.csv", "text,label\na,b,c\nd,e\n", lenient=True)
    assert [bool(row.error) for row in found.rows] == [True, False] and found.rows[0].cells == {
        "text": "a",
        "label": "b",
    }


def test_the_papers_name_columns_that_are_known():
    text = (Path(__file__).parent.parent / "docs" / "tasks.md").read_text(encoding="utf-8")
    lists = re.findall(r"^- ((?:\w+, ){5,}\w+)$", text, re.MULTILINE)
    assert [
        set(found.split(", ")) - {*KNOWN[role]} for found, role in zip(lists, ("input", "output"), strict=True)
    ] == [set()] * 2


def test_a_small_file_that_was_packed_takes_little_room(table):
    data = gzip.compress(b"input,output\n" + b"a,b\n" * 1000)
    table("first.csv.gz", data)
    tracemalloc.start()
    try:
        assert len(table("rows.csv.gz", data).rows) == 1000
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("line", ["{}", "7"])
def test_rows_without_a_column_are_refused_with_what_to_do(table, line):
    assert "rows.jsonl:1: this row is" in said(lambda: table("rows.jsonl", f"{line}\n"))
