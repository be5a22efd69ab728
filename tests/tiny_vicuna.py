"""A small model of Vicuna's kind: architecture llama, 32,000 sentencepiece tokens, an untied head, as many key-value
heads as heads, and no chat template in the file.

Its vocabulary lets token ids be worked out by hand. Every piece but the single characters and bytes begins a word, and
with a piece all shorter beginnings of it are pieces too. So a word is its longest beginning that is a piece, then
single characters, and what is no printable ASCII is its bytes; no score matters.
"""

from __future__ import annotations

import dataclasses
import itertools
import string
from functools import lru_cache
from pathlib import Path

from tiny_models import VICUNA_SYSTEM, TinySpec, write_model

SPACE = "\u2581"
N_PIECES = 32000
WORDS = (
    VICUNA_SYSTEM + " USER: ASSISTANT: Answer with one word: billing, delivery or technical. My parcel never came. "
    "I was charged twice. The page stays white. Where is my parcel now? Input: Output:"
)
NEWLINE, EOS = 13, 2  # the byte <0x0A>, and </s>


@lru_cache(maxsize=1)
def pieces() -> tuple[tuple[str, float, int], ...]:
    """Text, score and llama.cpp's token type of each piece, in Llama 2's order: special ones, bytes, the rest."""
    special = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    by_byte = [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    begun = (word[:n] for word in WORDS.split() for n in range(1, len(word) + 1) if word[:n].isalpha())
    made = ("".join(letters) for n in (1, 2, 3, 4) for letters in itertools.product(string.ascii_lowercase, repeat=n))
    texts = dict.fromkeys([SPACE, *map(chr, range(33, 127)), *(SPACE + text for text in itertools.chain(begun, made))])
    own = itertools.islice(texts, N_PIECES - len(special) - len(by_byte))
    return (*special, *by_byte, *((text, -float(i), 1) for i, text in enumerate(own)))


def write_vicuna(path: Path, context: int = 4096, **changes: object) -> Path:
    """The model, with v1.5's context (v1.3's is 2048): Q4_K matrices, a Q6_K head. What it writes has short lines."""
    known = TinySpec(
        "spm",
        type="Q4_K",
        head_type="Q6_K",
        heads=4,
        kv_heads=4,
        tied=False,
        context=context,
        chat_template=None,
        pieces=pieces(),
        loud=(NEWLINE, EOS),
    )
    return write_model(path, dataclasses.replace(known, **changes))
