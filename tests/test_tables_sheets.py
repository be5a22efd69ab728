"""Spreadsheets: cells as people see them, and files that mean harm."""

from __future__ import annotations

import contextlib
import datetime
import io
import random
import re
import zipfile

import pytest
from bounds import soon

from sg_local.records import SgError
from sg_local.tables import Columns, read_table, write_table

openpyxl = pytest.importorskip("openpyxl")


def book(path, *rows, title="Mails", more=()):
    """A workbook with these rows on its first sheet, and empty sheets after it."""
    found = openpyxl.Workbook()
    found.active.title = title
    for row in rows:
        found.active.append(row)
    for name in more:
        found.create_sheet(name)
    found.save(path)
    return path


def said(work) -> str:
    with pytest.raises(SgError) as caught:
        work()
    assert caught.value.exit_code == 2 and caught.value.hint
    return caught.value.message


def test_the_first_sheet_is_read_and_told(tmp_path):
    path = book(tmp_path / "a.xlsx", ["Body", "Team"], [None, None], ["Hello\nyou", "Sales"], more=["Old", "Older"])
    found = read_table(path, Columns("Body", "Team"), needs_output=True)
    assert found.told == "a.xlsx: XLSX, sheet Mails (the first of 3), 1 row; input = Body, output = Team"
    assert [(found.place(row), row.input, row.outputs) for row in found.rows] == [
        (f"{path}:3", "Hello\nyou", ("Sales",))
    ]


def test_a_hidden_sheet_is_passed_over(tmp_path):
    found = openpyxl.Workbook()
    found.active.sheet_state = "hidden"
    shown = found.create_sheet("Shown")
    shown.append(["text"])
    shown.append(["a"])
    found.save(tmp_path / "a.xlsx")
    assert [row.input for row in read_table(tmp_path / "a.xlsx").rows] == ["a"]


def test_cells_are_read_as_people_see_them(tmp_path):
    values = [
        1.0,
        0.1 + 0.2,
        12345678901234,
        True,
        datetime.date(2026, 5, 4),
        datetime.datetime(2026, 5, 4, 9, 30),
        None,
    ]
    seen = ["1", "0.3", "12345678901234", "TRUE", "2026-05-04", "2026-05-04T09:30:00", ""]
    path = book(tmp_path / "a.xlsx", ["text", *(f"c{i}" for i in range(len(values)))], ["x", *values])
    assert [*read_table(path).rows[0].cells.values()] == ["x", *seen]


def test_a_formula_gives_what_it_last_gave(tmp_path):
    path = changed(book(tmp_path / "a.xlsx", ["text"], ["=1+1"]), "<v />", "<v>2</v>")
    assert read_table(path).rows[0].input == "2"
    with pytest.raises(SgError, match="holds no rows"):
        read_table(book(tmp_path / "b.xlsx", ["text"], ["=1+1"]))


def changed(path, old: str, new: str):
    """The workbook with another text in the XML of its sheet."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in parts if name.endswith("sheet1.xml"))
    assert old.encode() in parts[name]
    return zipped(path, **{**parts, name: parts[name].replace(old.encode(), new.encode())})


def test_lines_of_one_column_need_no_name(tmp_path):
    found = read_table(book(tmp_path / "a.xlsx", ["one thing"], ["another"]))
    assert [(row.line, row.input) for row in found.rows] == [(1, "one thing"), (2, "another")]


def test_a_workbook_that_is_called_csv_is_read(tmp_path):
    path = book(tmp_path / "a.xlsx", ["text"], ["a"]).rename(tmp_path / "a.csv")
    assert read_table(path).form == "xlsx"


def test_what_excel_cannot_hold_is_not_cut(tmp_path):
    message = said(lambda: write_table(tmp_path / "a.xlsx", ("text",), [{"text": "a" * 40_000}]))
    assert "a text of 40,000 characters (row 2)" in message and not list(tmp_path.iterdir())


# Harm


def zipped(path, **parts: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def test_a_bomb_is_refused(tmp_path):
    path = zipped(tmp_path / "a.xlsx", sheet=b"0" * (100 << 20))
    with soon():
        assert "unfolds to 104.9 MB" in said(lambda: read_table(path))


@pytest.mark.parametrize(
    "row", ['<row r="99999999999"><c r="A1"><v>1</v></c></row>', '<row r="3"><c r="XFD3"><v>1</v></c></row>']
)
def test_a_sheet_that_claims_endless_cells_is_refused(tmp_path, row):
    path = changed(book(tmp_path / "a.xlsx", ["text"], ["a"]), "</sheetData>", f"{row}</sheetData>")
    assert "too many rows" in (message := said(lambda: read_table(path))) or "columns" in message


def test_entities_are_not_unfolded(tmp_path):
    doc = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><worksheet'
    path = changed(book(tmp_path / "a.xlsx", ["text"], ["a"]), "<worksheet", doc)
    assert "not a readable XLSX" in said(lambda: read_table(path))


def test_damaged_workbooks_end_in_one_sentence(tmp_path):
    """Bytes changed inside the parts, so that the archive is whole and openpyxl gets to see them."""
    source = book(tmp_path / "a.xlsx", ["text", "n"], ["a", datetime.date(2026, 1, 1)], ["b", 2.5])
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    draw = random.Random(0)
    n_refused = 0
    for _ in range(150):
        name = draw.choice(sorted(parts))
        data = bytearray(parts[name])
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            data[at : at + draw.randint(0, 3)] = draw.choice(
                [b"", b"9", b"<", b'"', b"\xff", bytes([draw.randrange(256)])]
            )
        path = zipped(tmp_path / "b.xlsx", **{**parts, name: bytes(data)})
        try:
            read_table(path)
        except SgError as error:
            n_refused += 1
            assert error.exit_code == 2 and error.hint
    assert n_refused > 20


def test_what_the_library_prints_of_a_style_is_not_shown(tmp_path, capsys):
    source = book(tmp_path / "a.xlsx", ["text", "n"], ["a", datetime.date(2026, 1, 1)])
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    styles = parts["xl/styles.xml"]
    odd = re.sub(rb'(<cellXfs.*?) (xfId|numFmtId)="\d+"', rb'\1 \2="2147483648"', styles, count=1)
    assert odd != styles
    with contextlib.suppress(SgError):
        read_table(zipped(tmp_path / "b.xlsx", **{**parts, "xl/styles.xml": odd}))
    assert capsys.readouterr().out == ""


def test_an_archive_of_a_later_kind_is_refused(tmp_path):
    path = book(tmp_path / "a.xlsx", ["text"], ["a"])
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 6] = 255  # the version of zip that is needed to read it
    path.write_bytes(data)
    assert "is not a complete XLSX file (zip file version" in said(lambda: read_table(path))


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"", b"text\n"])
def test_what_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "a.xlsx").write_bytes(data)
    assert "is not a complete XLSX file" in said(lambda: read_table(tmp_path / "a.xlsx"))


def test_texts_that_look_like_escapes_come_back():
    from sg_local.tables.sheets import escaped, unescaped

    for text in ("_x0041_", "_x0041\x07", "a_x", "\x07x0041_", "_x005F_x0041_", "\r\n", "_x0041_x0042_"):
        assert unescaped(escaped(text)) == text
    assert escaped("my_xylophone") == "my_xylophone" and io.StringIO(escaped("\x07")).read() == "_x0007_"
