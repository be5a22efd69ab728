"""How byte-level BPE tokenizers cut a text before they merge, by llama.cpp's names, in tokenizer.json's form.

The expressions are those of llama.cpp (llama-vocab.cpp), which cut the texts of training, also where the model's own
tokenizer.json differs: it reads an ASCII letter's case alone and cuts marks off in `tekken` and `gpt-4o`, and brings
no text into a normal form anywhere. Only what a trained architecture may come with is listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_WORDS = {**BYTES, "use_regex": True}  # GPT-2's expression is built into the byte-level step
_SHORT = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_UPPER, _LOWER = r"(?:(?=\p{L})[^a-z])", r"(?:(?=\p{L})[^A-Z])"
_BLANKS = r"|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class PreTokenizer:
    """The steps of one way of cutting. `whole`: a piece that is a token is taken without merging; `bos`: texts begin
    with the beginning-of-sequence token where the file says nothing of it.
    """

    steps: tuple[dict[str, Any], ...]
    whole: bool = False
    bos: bool = False


def _split(expression: str, **flags: bool) -> PreTokenizer:
    """Cut by one expression; what it does not match is a piece too."""
    cut = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return PreTokenizer((cut, {**BYTES, "use_regex": False}), **flags)


def _words(digits: str, letters: str = r"\p{L}", others: str = r"[^\s\p{L}\p{N}]") -> str:
    """The expression of Llama 3 and its kin, which differ in how many digits make a piece and in what a letter is."""
    return rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{digits}| ?{others}+[\r\n]*{_BLANKS}"


def _cased(digits: str, ending: str = "") -> str:
    """The expression of GPT-4o and its kin, which cut between a lower and an upper case letter."""
    head = r"[^\r\n\p{L}\p{N}]?"
    small, big = f"{head}{_UPPER}*{_LOWER}+{ending}", f"{head}{_UPPER}+{_LOWER}*{ending}"
    return rf"{small}|{big}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_BLANKS}"


_GPT2 = PreTokenizer((_WORDS,))
_DIGIT_BY_DIGIT = PreTokenizer((_DIGITS, _WORDS))
_LLAMA3 = _split(_words(r"\p{N}{1,3}"), whole=True, bos=True)
_DBRX = _split(_words(r"\p{N}{1,3}"))
_QWEN2 = _split(_words(r"\p{N}"))
_QWEN35 = _split(_words(r"\p{N}", r"[\p{L}\p{M}]", r"[^\s\p{L}\p{M}\p{N}]"))
_TEKKEN = _split(_cased(r"\p{N}"), whole=True, bos=True)
_GPT4O = _split(_cased(r"\p{N}{1,3}", f"{_SHORT}?"))

PRE_TOKENIZERS = {
    **dict.fromkeys(("gpt-2", "phi-2", "olmo", "trillion", "granite-docling", "a.x-4.0"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell", "minerva-7b", "command-r"), _DIGIT_BY_DIGIT),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _DBRX),  # OLMo 2, Granite 4 and Phi-4; SmolLM3
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"), _QWEN2),
    "qwen35": _QWEN35,
    "tekken": _TEKKEN,  # Mistral since Nemo
    "gpt-4o": _GPT4O,  # Phi-4-mini
}
"""Every way of cutting, by tokenizer.ggml.pre."""
