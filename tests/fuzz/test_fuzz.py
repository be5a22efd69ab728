"""Malformed files for every reader: each ends in the value or in an SgError that names the file and says what to do.

A short slice of the mutated files runs with the other tests, and hypothesis tries files of its own. `pytest -m fuzz`
runs ten thousand for each reader and prints what came of them; `--fuzz-inputs` and `--fuzz-from` choose others. An
input's number makes it again: `--fuzz-from 4711 --fuzz-inputs 1 -k task_toml`.
"""

from __future__ import annotations

import json

import pytest
from attempts import Bench, Reader
from bounds import soon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS

SLICE = 60
EXAMPLES = 15

every_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)


def told(bench: Bench) -> str:
    """Each kind of failure with the number of inputs and the first of them."""
    return "\n".join(f"{n} x {kind}: {bench.count.first[kind]}" for kind, n in bench.count.kinds.most_common())


@every_reader
def test_a_reader_takes_its_sound_files(reader: Reader, tmp_path):
    bench = Bench(reader, tmp_path / "at")
    for i, data in enumerate(bench.sound):
        bench.take(data, f"sound-{i}")
    assert (bench.count.values, told(bench)) == (len(bench.sound), "")


@every_reader
def test_a_reader_takes_or_refuses_malformed_files(reader: Reader, tmp_path):
    bench = Bench(reader, tmp_path / "at")
    with soon():
        for number in range(SLICE):
            bench.take(bench.numbered(number), str(number))
    assert bench.count.tried == SLICE and not bench.count.failed, told(bench)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def files_of(draw: st.DrawFn, sound: tuple[bytes, ...]) -> bytes:
    """A sound file with a drawn part in the place of another, or drawn bytes or data alone."""
    part = draw(st.binary(max_size=30) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")))
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return draw(st.sampled_from((b"", b"\n"))) + part
    if kind == 1:
        return json.dumps(draw(PLAIN)).encode()
    data = draw(st.sampled_from(sound))
    start = draw(st.integers(0, len(data)))
    return data[:start] + part + data[start + draw(st.sampled_from((0, 1, 5, len(data)))) :]


@every_reader
def test_a_reader_takes_or_refuses_what_hypothesis_draws(reader: Reader, tmp_path):
    bench = Bench(reader, tmp_path / "at")

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(files_of(bench.sound))
    def holds(data: bytes) -> None:
        assert bench.take(data, "drawn") == ""

    holds()
    assert bench.count.tried >= EXAMPLES


@pytest.mark.fuzz
@every_reader
def test_ten_thousand_malformed_files(reader: Reader, tmp_path, request, fuzz_table):
    first, n = (request.config.getoption(f"--fuzz-{name}") for name in ("from", "inputs"))
    bench = Bench(reader, tmp_path / "at")
    for number in range(first, first + n):
        bench.take(bench.numbered(number), str(number))
    fuzz_table[reader.name] = bench.count
    bench.clean()
    assert not bench.count.failed, told(bench)
