"""Files that somebody else wrote: what is read, and what is said of what cannot be."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from bounds import soon

from sg_local import reading
from sg_local.reading import lines_of, loads, parse_toml, read_json, read_lines, read_record, read_text, read_toml
from sg_local.records import Pair, SgError


@pytest.fixture
def write(tmp_path):
    def written(data: bytes | str) -> Path:
        path = tmp_path / "file"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return written


def said(work) -> SgError:
    """What a refusal says; it takes no long computing."""
    with soon(), pytest.raises(SgError) as caught:
        work()
    assert caught.value.hint
    return caught.value


def test_a_byte_order_mark_and_the_lines_of_windows_are_taken_off(write):
    path = write("\ufeffa\r\nb\u2028c\u0085d\n")
    assert read_text(path) == "a\nb\u2028c\u0085d\n"
    assert [(n, line.rstrip("\r")) for n, line in read_lines(path)] == [(1, "a"), (2, "b\u2028c\u0085d")]


def test_lines_are_numbered_and_blank_ones_left_out(write):
    assert list(read_lines(write("a\n\n \nb"))) == [(1, "a"), (4, "b")]
    assert list(lines_of("a\n\n \nb")) == [(1, "a"), (4, "b")]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_only_regular_files_are_read(tmp_path, make):
    make(tmp_path / "x")
    assert "is not a regular file" in said(lambda: read_text(tmp_path / "x")).message
    assert "is not a regular file" in said(lambda: list(read_lines(tmp_path / "x"))).message


def test_a_device_without_an_end_is_not_read():
    assert "is not a regular file" in said(lambda: read_text(Path("/dev/zero"))).message


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "n" * 300])
def test_what_can_be_no_file_name_is_said(tmp_path, name):
    said(lambda: read_text(tmp_path / name))


def test_a_file_has_a_largest_size(write, monkeypatch):
    monkeypatch.setattr(reading, "MAX_TOML_BYTES", 3)
    assert "is too large (6 B)" in said(lambda: read_toml(write("a = 10"))).message


def test_another_encoding_is_named_with_its_line(write):
    assert ":2: this is not UTF-8" in said(lambda: read_text(write(b"a\n\xff"))).message
    assert ":2: this is not UTF-8" in said(lambda: list(read_lines(write(b"a\n\xff")))).message
    assert "UTF-16" in said(lambda: read_text(write("x = 1".encode("utf-16")))).hint


JSON = [
    ("{", "line 1"),
    ("NaN", "NaN is not a JSON value"),
    ("[-Infinity]", "-Infinity is not a JSON value"),
    ("[1e999]", "inf is not a JSON value"),
    ('{"a": "\\ud800"}', "surrogate"),
    ('{"\\udfff": 1}', "surrogate"),
    ("[" * 101 + "]" * 101, "more than 100 levels"),
    ("[" * 200_000, "more than 100 levels"),
    ("9" * 5000, "digits"),
    ("[" + "{}," * 900_000 + "1]", "too many values"),
]


@pytest.mark.parametrize(("text", "why"), JSON, ids=[why for _, why in JSON])
def test_json_that_could_not_be_written_again_is_refused(write, text, why):
    found = said(lambda: read_json(write(text)))
    assert "this is not JSON" in found.message and why in found.message and len(found.message) < 400


def test_a_whole_surrogate_pair_is_a_character():
    assert loads('"\\ud83d\\ude42"') == "\U0001f642"


TOML = [
    ("a = \n\n", ":1: this is not TOML"),
    ("a = 1\nb = inf", "inf is not a JSON value"),
    ("a = " + "[" * 5000, "more than 100 levels"),
    ("a = " + "[" * 150 + "]" * 150, "more than 100 levels"),
    ("a" + ".a" * 50_000 + " = 1", "a key of more than 100 parts"),
    ("x = {a" + ". 'a'" * 50_000 + " = 1}", "a key of more than 100 parts"),
    ("a = " + "9" * 5000, "digits"),
    ("\n".join(f"[a{i}.b.c]" for i in range(70_000)), "too many keys"),
]


@pytest.mark.parametrize(("text", "why"), TOML, ids=[why for _, why in TOML])
def test_toml_that_takes_too_long_or_too_deep_is_refused(write, text, why):
    assert why in said(lambda: read_toml(write(text))).message


def test_an_ordinary_table_is_read(tmp_path):
    row = '[[tests]]\ninput = "My parcel is late. Where is it now? I want it by Monday."\noutput = "delivery"\n'
    assert len(parse_toml(row * 8000, tmp_path / "x", "")["tests"]) == 8000


def test_a_small_file_takes_little_room(write):
    path = write("a\n" * 1000)
    tracemalloc.start()
    try:
        assert len(read_text(path)) == 2000 and len(list(read_lines(path))) == 1000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_long_word_in_toml_is_looked_through_once():
    with soon():
        assert parse_toml("a = '" + "a" * 300_000 + "'", Path("x"), "h")["a"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "file:1: this is not JSON"),
        ("[]", "file: Pair: is not an object."),
        ('{"input": 1, "output": ""}', "file: Pair: input is not a text."),
        ('{"input": ""}', "file: Pair: output is missing."),
        ('{"input": "", "output": "", "x": 1}', "file: Pair: unknown key 'x'."),
    ],
)
def test_a_record_that_is_none_names_its_file_and_key(write, text, words):
    assert words in said(lambda: read_record(write(text), Pair)).message
