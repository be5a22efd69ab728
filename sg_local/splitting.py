"""A text as its words and as its bare form, in any script: what every score and every rule compares by.

A word is a run of letters, digits and the marks on them, as in UAX 29, but for two things: an apostrophe or a point
inside a word parts it, as rouge-score parts English, and a script that writes no spaces between its words (Han, kana,
Thai, Lao, Khmer, Myanmar and their like) is taken character by character, each with its marks.
"""

from __future__ import annotations

import functools
import unicodedata

import regex

UNSPACED = r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{Line_Break=Complex_Context}]&&[\p{L}\p{Nl}]]"
JOINERS = "\u00ad\u200c\u200d"
"""What may stand inside a word and is no part of it: soft hyphen, zero-width non-joiner and joiner."""

NO_JOINERS = str.maketrans(dict.fromkeys(JOINERS))

WORD = regex.compile(rf"(?V1){UNSPACED}\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}{JOINERS}]--{UNSPACED}]+")
STRETCH = regex.compile(rf"(?V1)\s+|{UNSPACED}\p{{M}}*|[[\w\p{{M}}{JOINERS}]--{UNSPACED}]+|.", regex.DOTALL)
ENCLOSING = " .,;:!?`'\"()[]{}\u2018\u2019\u201c\u201d\u00ab\u00bb\u2026\u3002"
ASCII_WORD = regex.compile("[a-z0-9]+")
HAN = regex.compile(r"\p{Script=Han}\p{M}*")
HAS_UNSPACED = regex.compile(rf"(?V1){UNSPACED}")

BARE = regex.compile(
    r"""(?V1)(?P<kept>
        (?<=\w)[+\#]+                              # C++, F#, A+
      | (?<![\w)\]])-(?=\p{Sc}?\.?\d)              # -1
      | (?<![-=])(?:[<>]=?|=[<>])\s*(?=-?\p{Sc}?\.?\d)  # >50K
      | (?<=\d)(?:[/*^]|[.,](?!\d{3}(?!\d)))(?=\d)  # 1/2, 3.5, not 1,000
      | (?<=\d)\s*%                               # 5%, 5 %
      | (?<![\w.])\.(?=\d)                         # .5
      | (?<=\d\s)[-+*/<>=](?=\s\d)                 # 2 + 2
      | (?<=[\w)]\s)[<>](?=\s[\w(-])               # a < b
      | (?<=[\w)]\s?)[<>=!]=(?=\s?[\w(-])          # a != b
    )|[^\w\s\p{M}]\p{M}*""",
    regex.VERBOSE,
)
"""Punctuation, and the part of it that makes another word or another number."""

ONE_SIGN = str.maketrans({"\u2212": "-", "\u2013": "-", "\u2264": "<=", "\u2265": ">="})


@functools.lru_cache(maxsize=8192)
def words(text: str) -> tuple[str, ...]:
    """The lower-case words of a text in order, punctuation and symbols dropped."""
    if text.isascii():
        return tuple(ASCII_WORD.findall(text.lower()))  # the same, ten times as fast
    found = (word.translate(NO_JOINERS) for word in WORD.findall(composed(text)))
    return tuple(word for word in found if word)


def pieces(text: str) -> tuple[str, ...]:
    """The words of a text, or what stands between its spaces where it has none (emoji, signs)."""
    return words(text) or tuple(text.split())


@functools.lru_cache(maxsize=8192)
def bare(text: str) -> str:
    """Lower case, punctuation removed, white space folded; the text itself so folded where nothing else is in it.

    Signs that make another word or number stay: C++ is not C, -1 is not 1, >50K is not <=50K, 3.5 is not 35, 5% not 5.
    """
    lower = composed(text)
    kept = BARE.sub(lambda found: (found["kept"] or "").strip(), lower.translate(ONE_SIGN)).translate(NO_JOINERS)
    return " ".join(kept.split()) or folded(text)


def n_words(text: str) -> int:
    """How many words people would count: what stands between spaces, a character each in scripts without spaces."""
    parts = text.split()
    n_unspaced = len(HAS_UNSPACED.findall(text))
    return len(parts) + n_unspaced - sum(HAS_UNSPACED.match(part) is not None for part in parts)


def stretches(text: str) -> list[str]:
    """The whole text in order, in the stretches by which two texts are shown to differ: spaces, words, signs."""
    return list(STRETCH.findall(text))


def folded(text: str) -> str:
    """Lower case, white space folded, signs as they are."""
    return " ".join(composed(text).split())


def unclosed(text: str) -> str:
    """The folded text without the quotes, brackets and closing points around it; folded where it is nothing else."""
    return folded(text).strip(ENCLOSING) or folded(text)


def composed(text: str) -> str:
    """Lower case, each letter and its marks in the one form that Unicode prefers."""
    return unicodedata.normalize("NFC", text.lower())


def holds(text: str, phrase: str) -> bool:
    """Whether the phrase stands in the text as whole words, both bare."""
    one, other = bare(text), bare(phrase)
    if HAS_UNSPACED.search(other):
        return other in one
    return f" {other} " in f" {one} "
