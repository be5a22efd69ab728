"""The vocabulary of a loaded model: text to token ids and back, exactly as llama.cpp does it.

Special-token strings count only in trusted text. llama.cpp's own switch (`parse_special`) holds for a whole string,
so the split at special tokens is done here, in the order of llama.cpp's own (longest string first, src/llama-vocab.cpp,
tokenizer_st_partition), and every stretch between is handed over with the switch off. Text fragments are tokenised
independently there too, so the result equals the whole string's; a stretch runs across segment borders, so merges
over a border happen as in the whole string. Not covered: a user-defined token that contains a control token's text.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import llama_cpp as lib

from sg_local.parsing import THOUGHTS
from sg_local.records import Segment, Segments, SgError

NORMAL, UNKNOWN, CONTROL = lib.LLAMA_TOKEN_ATTR_NORMAL, lib.LLAMA_TOKEN_ATTR_UNKNOWN, lib.LLAMA_TOKEN_ATTR_CONTROL
LSTRIP, RSTRIP = lib.LLAMA_TOKEN_ATTR_LSTRIP, lib.LLAMA_TOKEN_ATTR_RSTRIP
SPACE = " \t\n\v\f\r"  # C's isspace
CHUNK = 1 << 14
REMEMBERED, MOST_REMEMBERED = 1 << 13, 64
"""Characters of a text whose tokens are remembered, and texts: a prompt is tokenised with each label."""
MARKS = {mark for pair in THOUGHTS for mark in pair}


@dataclass(frozen=True)
class Special:
    """A token that only trusted text can name, and whether it swallows white space beside it."""

    id: int
    text: str
    lstrip: bool
    rstrip: bool


Part = int | str
Run = tuple[str, bool]


class Vocab:
    """Tokenises and detokenises for one model. Holds a pointer into the model: use only while that is loaded."""

    def __init__(self, model: object) -> None:
        self.pointer = lib.llama_model_get_vocab(model)
        self.size: int = lib.llama_vocab_n_tokens(self.pointer)
        self.kind: int = lib.llama_vocab_type(self.pointer)
        self.bos: int = lib.llama_vocab_bos(self.pointer)
        self.eos: int = lib.llama_vocab_eos(self.pointer)
        self.add_bos = bool(lib.llama_vocab_get_add_bos(self.pointer)) and self.bos >= 0
        self._pieces: dict[int, bytes] = {}
        self._remembered = lru_cache(MOST_REMEMBERED)(self._plain)
        unusual = [id for id in range(self.size) if lib.llama_vocab_get_attr(self.pointer, id) != NORMAL]
        self.ends = frozenset(id for id in unusual if lib.llama_vocab_is_eog(self.pointer, id)) | {self.eos}
        self._specials = self._find_specials(unusual)

    def text_of(self, token: int) -> str:
        """The token's own string, special or not; '' for no token (-1)."""
        if token < 0:
            return ""
        return (lib.llama_vocab_get_text(self.pointer, token) or b"").decode("utf-8", "replace")

    def end(self, text: str) -> int:
        """The token that ends an answer: the one whose string is `text` where generation stops at it, else eos."""
        return next((id for id in self.ends if text and self.text_of(id) == text), self.eos)

    def piece(self, token: int) -> bytes:
        """What the token adds to a text: possibly part of a character, nothing for a special token.

        Marks of thinking are told even where they are special: without them a thought would read as an answer.
        """
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._read_piece(token)
        return piece

    def tokenize(self, segments: Segments, *, bos: bool = True) -> list[int]:
        """Token ids of the segments' text as one string; special strings count only in trusted segments.

        A segment of ids stands alone. Raises SgError for an id that is no token.
        """
        if segments and segments[0].ids:
            return self._known(segments[0].ids)
        tokens = [self.bos] if bos and self.add_bos else []
        for part in self._partition(segments):
            if isinstance(part, int):
                tokens.append(part)
            else:
                tokens.extend(self.plain(part))
        return tokens

    def _known(self, ids: Sequence[int]) -> list[int]:
        wrong = next((id for id in ids if not 0 <= id < self.size), None)
        if wrong is not None:
            raise SgError(f"{wrong} is no token of this model: it has {self.size}.", "Send text instead.")
        return list(ids)

    def plain(self, text: str) -> list[int]:
        """Token ids of text in which no control token is recognised, without a beginning-of-sequence token."""
        tokens_of = self._remembered if len(text) <= REMEMBERED else self._plain
        return list(tokens_of(text))

    def _plain(self, text: str) -> tuple[int, ...]:
        data = text.encode("utf-8", "replace")
        size = len(data) + 16
        buffer = (lib.llama_token * size)()
        count = lib.llama_tokenize(self.pointer, data, len(data), buffer, size, False, False)
        assert count >= 0, count
        return tuple(buffer[:count])

    def continuation(self, segments: Segments, prompt: list[int], text: str) -> list[int]:
        """Tokens of `text` after a prompt: those of the joint string where they leave the prompt's tokens whole.

        Where the text would merge with the prompt's end they are the text's own tokens, without the space that a
        sentencepiece vocabulary puts in front of a string's start: what generation could write there.
        """
        joint = self.tokenize((*segments, Segment(text, trusted=False)))
        if joint[: len(prompt)] == prompt:
            return joint[len(prompt) :]
        anchor = self.plain("\n")
        anchored = self.plain("\n" + text)
        return anchored[len(anchor) :] if anchored[: len(anchor)] == anchor else self.plain(text)

    def _partition(self, segments: Segments) -> list[Part]:
        """Token ids and plain text in order; neighbouring plain runs are joined last, so that borders vanish."""
        parts: list[int | Run] = [*_joined([(s.text, s.trusted) for s in segments])]
        trusted = "\0".join(s.text for s in segments if s.trusted)
        for special in self._specials:
            if special.text in trusted:
                parts = [piece for part in parts for piece in _split(part, special)]
        return _plain_parts(parts, {s.id: s for s in self._specials})

    def _find_specials(self, ids: list[int]) -> tuple[Special, ...]:
        found = []
        for id in ids:
            attributes = lib.llama_vocab_get_attr(self.pointer, id)
            if attributes & (CONTROL | UNKNOWN) and (text := self.text_of(id)):
                found.append(Special(id, text, bool(attributes & LSTRIP), bool(attributes & RSTRIP)))
        return tuple(sorted(found, key=lambda special: -len(special.text.encode())))

    def _read_piece(self, token: int) -> bytes:
        for size in (64, CHUNK):
            buffer = ctypes.create_string_buffer(size)
            count = lib.llama_token_to_piece(self.pointer, token, buffer, size, 0, False)
            if count >= 0:
                break
        text = self.text_of(token) if count == 0 else ""
        return text.encode() if text in MARKS else buffer.raw[: max(0, count)]


def _joined(runs: list[Run]) -> list[Run]:
    """Neighbouring runs of the same trust as one run."""
    joined: list[Run] = []
    for text, trusted in runs:
        if joined and joined[-1][1] == trusted:
            joined[-1] = (joined[-1][0] + text, trusted)
        else:
            joined.append((text, trusted))
    return joined


def _split(part: int | Run, special: Special) -> list[int | Run]:
    """A trusted run cut at every occurrence of one special string."""
    if isinstance(part, int) or not part[1] or special.text not in part[0]:
        return [part]
    pieces: list[int | Run] = []
    for i, text in enumerate(part[0].split(special.text)):
        if i:
            pieces.append(special.id)
        if text:
            pieces.append((text, True))
    return pieces


def _plain_parts(parts: list[int | Run], specials: dict[int, Special]) -> list[Part]:
    """Runs joined between tokens, stripped where a neighbouring token asks for it."""
    plain: list[Part] = []
    for part in parts:
        if isinstance(part, int):
            plain.append(part)
        elif plain and isinstance(plain[-1], str):
            plain[-1] += part[0]
        else:
            plain.append(part[0])
    return _stripped(plain, specials) if any(s.lstrip or s.rstrip for s in specials.values()) else plain


def _stripped(parts: list[Part], specials: dict[int, Special]) -> list[Part]:
    stripped: list[Part] = []
    for i, part in enumerate(parts):
        if isinstance(part, str):
            before = parts[i - 1] if i else None
            after = parts[i + 1] if i + 1 < len(parts) else None
            if isinstance(before, int) and specials[before].rstrip:
                part = part.lstrip(SPACE)
            if isinstance(after, int) and specials[after].lstrip:
                part = part.rstrip(SPACE)
        if part != "":
            stripped.append(part)
    return stripped
