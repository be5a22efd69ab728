"""What a file is that calls itself a model and is none: one sentence, by how its first bytes begin.

Downloads go wrong in a few known ways: Git without LFS leaves a pointer of three lines, a browser or wget an HTML page,
an expired link a message in JSON or XML.
"""

from __future__ import annotations

import re
from pathlib import Path

from sg_local.records import SgError

MAGIC = b"GGUF"
N_BYTES = 512  # more than an LFS pointer has

LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/")
LFS_SIZE = re.compile(rb"^size (\d+)", re.MULTILINE)
HTML = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
OTHERS = (
    (re.compile(rb"PK\x03\x04"), "a ZIP archive", "Unpack it, or give the .gguf file: PyTorch's .bin and .pt are ZIP."),
    (re.compile(rb"\x1f\x8b"), "a gzip archive", "Unpack it first."),
    (re.compile(rb".{7}\x00\{\"", re.DOTALL), "a safetensors file", "Convert it to GGUF with llama.cpp first."),
    (re.compile(rb"(?:lmgg|fmgg|tjgg|ggml|ggmf|ggjt)"), "a model in an old ggml format", "Convert it to GGUF first."),
    (re.compile(rb"\s*[{\[]\s*\""), "JSON text", "Fetch the file again: this may be a server's message."),
    (re.compile(rb"\s*<\?xml"), "XML text", "Fetch the file again: this may be a server's message."),
)


def check_magic(path: Path, head: bytes) -> None:
    """Raises SgError unless a file's first bytes are those of a GGUF of a version that is read."""
    if head[:4] != MAGIC:
        other = what_else(head)
        if other is not None:
            raise SgError(f"{path} is not a GGUF file but {other[0]}.", other[1])
        hint = "sg-local reads GGUF models (.gguf); safetensors and the old ggml formats must be converted first."
        raise SgError(f"{path} is not a GGUF file.", hint)
    version = int.from_bytes(head[4:8], "little")
    if version not in (2, 3):
        hint = "Fetch the file again, or convert the model with a llama.cpp of today."
        raise SgError(f"{path} is GGUF version {version}; sg-local reads versions 2 and 3, little-endian.", hint)


def what_else(head: bytes) -> tuple[str, str] | None:
    """What a file that is no GGUF is, and what to do, by its first `N_BYTES` bytes; None where that is not plain."""
    if not head:
        return "an empty file", "Fetch the file again."
    if LFS.match(head):
        size = LFS_SIZE.search(head)
        whole = f" to a file of {int(size[1]) / 1e9:.1f} GB" if size else ""
        return (
            f"a Git LFS pointer{whole}",
            "Fetch the file itself: `git lfs pull` in its folder, or a pull from the Hub.",
        )
    if HTML.match(head):
        return "an HTML page", "Fetch the file itself: on the Hub its address has /resolve/ in it, not /blob/."
    return next(((name, hint) for begin, name, hint in OTHERS if begin.match(head)), None)
