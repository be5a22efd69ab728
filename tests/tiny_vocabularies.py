"""Tiny vocabularies of every kind of tokenizer that a folder can have, as GGUF files without weights.

Their merges are learned here, on whole lines, so that pieces reach over every boundary at which a tokenizer may cut a
text: one cut too many or too few gives other ids. Nothing is drawn and no library learns, so ids stay what they are.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gguf

TEXTS = (
    "I was charged twice for order 1234567, please refund 12.50 or 1,000,000.",
    "I'm sure they'd've said it's theirs; WE'LL SEE, DON'T 'TIL he'S. l'été d'accord '\u017f",
    "snake_case CamelCase XMLHttpRequest iPhone13Pro v2.0.1-rc3 éÉa aÉé Éa ǅungla ÀÉ ßẞ",
    "中文字符和日本語のテキスト、한국어도 조금。 １２３ ½ Ⅷ ² ١٢٣",
    "emoji 😀👍🏽 and 👩\u200d👩\u200d👧 flags 🇩🇪🇫🇷 x\ufe0f",
    "  leading blanks, trailing ones   ",
    "\t\ttabs\tand  double  blanks   three    four     five",
    "line one\nline two\r\n\r\nline three\n\n\n  indented\n \n\t\nend\n",
    "cafe\u0301 n\u0303o \u0301\u0301 Z\u0351\u036b\u0343 क्षि ไทย ที่ עִבְרִית العَرَبِيَّة",
    "def f(x):\n    return x['a'] + \"b\" // 2  # done!!! ... ??? (ok) [x] {y} <z> a/b/c\n/\n//\r\n",
    "https://example.org/path?q=1&r=a%20b mail@example.org $5 €10 £3 50% #tag @you",
    "non\u00a0breaking\u00a0 \u2003wide \u3000 \u2028 line\u2029 par\u0085 next\u200bzero\ufeffmark\u00ad",
    "<s>USER: hi</s> <|im_start|>user\nhello<|im_end|>\n<|user|>\n  hey<|end|> \n<end_of_turn>\n<0x0A> [INST]",
    "aaaaaaa ------- ======= ....... ,,,, \u2581\u2581 \u0120hello whole wholeness",
    "\U0001f600\U00020000\ue000\uf8ff\u0378",
    *(" " * n + "x" + "-" * n for n in range(1, 34)),
    "x",
    " ",
    "\n",
    " \n",
    "7",
)
RUNS = (2, 4, 8, 5, 16, 6, 12, 13, 10, 14, 3, 9, 7, 11)  # lengths of Llama's pieces of blanks, all of one score
WHOLE = ("wholeness", " wholeness")  # tokens that no merges lead to
CONTROL = (
    "<unk>",
    "<s>",
    "</s>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|user|>",
    "<|end|>",
    "<end_of_turn>",
)
ADDED = ("[INST]", "<tool_call>")  # user-defined


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as a GGUF names it: its `model`, its `pre`, and for SPM whether a text begins with a space."""

    model: str
    pre: str
    space_prefix: bool = True
    name: str = "tiny"
    added: tuple[str, ...] = ADDED


SPM = {
    "llama": Vocabulary("llama", "default"),
    "phi-3": Vocabulary("llama", "default", name="Tiny Phi-3 mini"),
    "gemma": Vocabulary("llama", "default", space_prefix=False, added=(*ADDED, "\n\n", "\n\n\n", "  ", "   ")),
}


def bpe(pre: str) -> Vocabulary:
    """The byte-level vocabulary, cut in llama.cpp's way of that name."""
    return Vocabulary("gpt2", pre)


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> Path:
    """A GGUF of a vocabulary alone, which llama.cpp opens with vocab_only."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(vocabulary.name)
    writer.add_context_length(1024)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    (_add_spm if vocabulary.model == "llama" else _add_bpe)(writer, vocabulary)
    for number, add in enumerate((writer.add_unk_token_id, writer.add_bos_token_id, writer.add_eos_token_id)):
        add(number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_bpe(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    merges = _learned(tuple(_as_bytes(text) for text in TEXTS))
    pieces = [*_as_bytes(bytes(range(256))), *map("".join, merges), *map(_as_bytes, WHOLE)]
    tokens = list(dict.fromkeys([*CONTROL, *vocabulary.added, *pieces]))
    writer.add_token_list(tokens)
    writer.add_token_types(_kinds(tokens, vocabulary))
    writer.add_token_merges([" ".join(pair) for pair in merges])


def _add_spm(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    escaped = (text.replace(" ", "\u2581") for text in TEXTS)
    lines = tuple(part for text in escaped for part in re.split("[^\u0021-\u2fff]", text))  # the rest is left to bytes
    letters, bytes_ = sorted(set("".join(lines))), [f"<0x{byte:02X}>" for byte in range(256)]
    first, runs = [*CONTROL, *vocabulary.added, *bytes_], ["\u2581" * length for length in RUNS]
    known = {*first, *runs, *letters}
    made = list(dict.fromkeys(piece for piece in map("".join, _learned(lines)) if piece not in known))
    tokens = [*first, *runs, *made, *letters]  # as sentencepiece numbers them
    kinds = _kinds(tokens, vocabulary)
    writer.add_token_list(tokens)
    learned = [-float(rank) for rank in range(len(made) + len(letters))]
    writer.add_token_scores([0.0] * len(first) + [-1e9] * len(runs) + learned)
    writer.add_token_types([6 if token in bytes_ else kind for token, kind in zip(tokens, kinds, strict=True)])
    writer.add_add_space_prefix(vocabulary.space_prefix)


def _kinds(tokens: list[str], vocabulary: Vocabulary) -> list[int]:
    special = {"<unk>": 2, **dict.fromkeys(CONTROL[1:], 3), **dict.fromkeys(vocabulary.added, 4)}
    return [special.get(token, 1) for token in tokens]


@lru_cache(maxsize=2)
def _learned(lines: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Every pair of letters, the rarest first, as those between words are; then byte pair encoding's merges until each
    line is one piece. Of equally frequent pairs the first in the alphabet goes first.
    """
    words, merges = [list(line) for line in lines], []
    pairs = _pairs(words)
    for pair in sorted(pairs, key=lambda pair: (pairs[pair], pair)):
        merges.append(pair)
        _merge(words, pair)
    while pairs := _pairs(words):
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        _merge(words, merges[-1])
    return tuple(merges)


def _pairs(words: list[list[str]]) -> Counter[tuple[str, str]]:
    return Counter(pair for word in words for pair in zip(word, word[1:], strict=False))


def _merge(words: list[list[str]], pair: tuple[str, str]) -> None:
    """Join a pair wherever it stands, from the left."""
    for word in words:
        at = 0
        while at < len(word) - 1:
            if (word[at], word[at + 1]) == pair:
                word[at : at + 2] = ["".join(pair)]
            at += 1


def _as_bytes(text: str | bytes) -> str:
    """A text in GPT-2's letters for bytes: those that print stand for themselves, the others follow U+0100."""
    data = text.encode() if isinstance(text, str) else text
    return "".join(_LETTERS[byte] for byte in data)


_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _PRINTED]
_LETTERS = {**{byte: chr(byte) for byte in _PRINTED}, **{byte: chr(0x100 + i) for i, byte in enumerate(_HIDDEN)}}
