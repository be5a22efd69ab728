"""The makers of malformed files: the same number makes the same file, and what is taken apart is put together again."""

from __future__ import annotations

import json
import random
import tomllib

import pytest
import sound
from attempts import Bench, Count, Reader
from data import Twin, data_changed
from formats import gguf_parts, toml_text
from mutators import bytes_changed, text_changed

from sg_local.records import SgError


def reader(read) -> Reader:
    return Reader("any", "file", lambda: (b'{"a": 1}',), (bytes_changed, text_changed), read)


def test_a_number_makes_the_same_file_again_and_others_differ(tmp_path):
    bench = Bench(reader(lambda path: None), tmp_path / "at")
    made = [bench.numbered(i) for i in range(40)]
    assert made == [bench.numbered(i) for i in range(40)]
    assert len(set(made)) > 30


def test_a_gguf_taken_apart_is_put_together_again():
    parts, numbers = gguf_parts(sound.model_file())
    assert parts.whole() == sound.model_file()
    assert len(numbers) > len(parts.entries) + 4 * len(parts.infos)


def test_toml_is_written_as_it_was_read():
    data = tomllib.loads(sound.CLASSIFICATION + '[synth]\ntemperature = 0.5\non = true\ndeep = { "a b" = [1, 2] }\n')
    assert tomllib.loads(toml_text(data)) == data


def test_a_key_may_stand_twice():
    assert json.dumps({"a": 1, Twin("a"): 2}) == '{"a": 1, "a": 2}'


def test_data_is_changed_in_many_ways():
    changed = [data_changed(random.Random(i), {"a": [1, {"b": "c"}], "d": 2}) for i in range(40)]
    assert len({str(one) for one in changed}) > 20


def refuses(message: str, hint: str = "hint"):
    def read(path):
        raise SgError(message.format(path), hint)

    return read


def spends(path):
    return len(bytes(300 << 20))


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda path: 1, ""),
        (refuses("no {}"), ""),
        (refuses("no {}", ""), "no hint"),
        (refuses("no"), "names no file"),
        (lambda path: 1 / 0, "ZeroDivisionError"),
        (spends, "asks for more than twice the file"),
    ],
    ids=["value", "refusal", "no hint", "no file", "traceback", "memory"],
)
def test_what_comes_of_a_file_is_told_apart(tmp_path, read, said):
    bench = Bench(reader(read), tmp_path / "at")
    assert (bench.take(b"x" * 30_000, "0") or "").startswith(said)
    count = bench.count
    assert (count.tried, count.values + count.refused, count.failed) == (1, 0 if said else 1, 1 if said else 0)
    assert not said or (tmp_path / "any-0").read_bytes() == b"x" * 30_000


def test_a_row_of_the_table_counts_what_came():
    count = Count(tried=3, values=1, refused=1)
    count.kinds["KeyError (x.py:1)"] += 1
    assert count.row("card").split() == ["card", "3", "1", "1", "1", "0.00"]
