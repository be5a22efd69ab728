"""Malformed files out of sound ones: the same file for the same generator of random numbers.

Changes are to bytes, whatever the file is, and to text: its numbers, quotes, lines and brackets. data.py and formats.py
have more. Most files get one change, some several; a few grow large.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence

Mutator = Callable[[random.Random, bytes], bytes]

ODD_BYTES = (
    *(b"\0", b"\x1b[2J", b"\x1b]0;x\x07", b"\x7f", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3"),
    *(b"\r", b"\r\n", b"\x0b", b"\x0c", "\u2028".encode(), "\u202e".encode(), "\u0000".encode(), b"\xf4\x90\x80\x80"),
    *(
        b'"',
        b"'",
        b"\\",
        b"\\ud800",
        b"\\u0000",
        b"#",
        b"=",
        b",",
        b"{",
        b"}",
        b"[",
        b"]",
        b"{{",
        b"{%",
        b"-",
        b"..",
        b"/",
    ),
)
ODD_NUMBERS = (
    *("0", "-1", "-0.0", "1.5", "1e999", "-1e999", "NaN", "Infinity", "nan", "inf", "0x10", "1_000", "01", "+1"),
    *("2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551616"),
    *("1e308", "1e-400", "9" * 400, "9" * 5000, "1e5", "100000000", "null", "true", '""'),
)
ODD_TEXTS = (
    *("", " ", "\n", "\0", "\x1b[31m", "\u202e", "\u2028", "\ud800", "\U0010ffff", "a\u0301", "../../x", "/dev/zero"),
    *("x" * 300, "{{", "{% for", "%s", "{0}", "~nobody/x", "none", "NaN", "true", "0", "-1", "a" * 70_000, "\ufeff"),
    *("(a+)+$", "[", "(?<", "#/$defs/a", "http://localhost/x", ".", "a\tb", "\r", "\x7f", "\ufffe", "id", "a.b.c"),
)
LARGE = 200_000


def mutated(rng: random.Random, data: bytes, kinds: Sequence[Mutator]) -> bytes:
    """A malformed file: one change of one of the kinds, at times several."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 6))):
        data = rng.choice(kinds)(rng, data)
    return data


# Bytes


def bytes_changed(rng: random.Random, data: bytes) -> bytes:
    """One change to the bytes."""
    return rng.choice(BYTES)(rng, data)


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    """A part of the file, mostly a short one."""
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 1, 4, 16, 100, len(data))))


def _flipped(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _without(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _doubled(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] + data[end:]


def _repeated(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    times = min(rng.choice((3, 10, 1000)), LARGE // max(1, end - start)) if rng.random() < 0.1 else 3
    return data[:end] + data[start:end] * times + data[end:]


def _with_odd(rng: random.Random, data: bytes) -> bytes:
    at = rng.choice((0, len(data), rng.randrange(len(data) + 1)))
    return data[:at] + rng.choice(ODD_BYTES) + data[at:]


def _moved(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    rest = data[:start] + data[end:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + data[start:end] + rest[at:]


def _otherwise_encoded(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    name = rng.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "cp037", "utf-8-sig"))
    return text.encode(name, "replace")


def _crlf(rng: random.Random, data: bytes) -> bytes:
    return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\0", b"")))


def _noise(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + rng.randbytes(end - start) + data[end:]


BYTES: tuple[Mutator, ...] = (
    *(_flipped, _cut, _without, _doubled, _repeated, _with_odd, _with_odd, _moved, _otherwise_encoded, _crlf, _noise),
)

# Text

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
QUOTED = re.compile(rb'"(?:\\.|[^"\\\n])*"')
WORD = re.compile(rb"[A-Za-z_$][\w$]*")


def text_changed(rng: random.Random, data: bytes) -> bytes:
    """One change to a number, a quoted text, a word, a line or the nesting."""
    return rng.choice(TEXT)(rng, data)


def _replaced(rng: random.Random, data: bytes, pattern: re.Pattern[bytes], by: bytes) -> bytes:
    """One place where the pattern is found, at random, replaced."""
    found = list(pattern.finditer(data))
    if not found:
        return data + by
    one = rng.choice(found)
    return data[: one.start()] + by + data[one.end() :]


def _other_number(rng: random.Random, data: bytes) -> bytes:
    return _replaced(rng, data, NUMBER, rng.choice(ODD_NUMBERS).encode())


def _other_text(rng: random.Random, data: bytes) -> bytes:
    text = json.dumps(rng.choice(ODD_TEXTS), ensure_ascii=rng.random() < 0.5)
    return _replaced(rng, data, QUOTED, text.encode("utf-8", "surrogatepass"))


def _other_kind(rng: random.Random, data: bytes) -> bytes:
    by = rng.choice((b"[]", b"{}", b"null", b"true", b"5", b"0.5", b'""', b"[[]]", b'{"a": 1}', b"1979-05-27", b"nan"))
    return _replaced(rng, data, rng.choice((QUOTED, NUMBER)), by)


def _other_word(rng: random.Random, data: bytes) -> bytes:
    words = WORD.findall(data) or [b"x"]
    return _replaced(rng, data, WORD, rng.choice((rng.choice(words), b"", b"x" * 300, b"__class__", "\u00e9".encode())))


def _lines_changed(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    change = rng.randrange(4)
    if change == 0:
        del lines[at]
    elif change == 1:
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif change == 2:
        lines.insert(at, rng.choice(ODD_TEXTS).encode("utf-8", "surrogatepass"))
    else:
        rng.shuffle(lines)
    return b"\n".join(lines)


def _nested(rng: random.Random, data: bytes) -> bytes:
    """Brackets around a part, some of them left open."""
    start, end = _span(rng, data)
    opened, closed = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"{a={", b"}}"), (b"<a>", b"</a>")))
    n = rng.choice((1, 2, 30, 99, 200)) if rng.random() < 0.9 else rng.choice((2000, 50_000))
    return data[:start] + opened * n + data[start:end] + closed * rng.choice((n, n, 0, n - 1)) + data[end:]


TEXT: tuple[Mutator, ...] = (_other_number, _other_text, _other_kind, _other_word, _lines_changed, _nested)
