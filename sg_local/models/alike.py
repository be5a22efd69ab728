"""Whether a GGUF can answer in a base's place: a model of the same architecture with the same vocabulary.

Only headers are read. Whose weights the file holds, and in what types, is its own matter: it may come from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.records import SgError

if TYPE_CHECKING:
    from sg_local.gguf import GgufFile


@dataclass(frozen=True)
class FileFacts:
    """What a file's header says: its type as a whole (`mixed` where it names none), and its bytes."""

    type: str
    size_bytes: int


def check_alike(path: Path, base: Path) -> FileFacts:
    """What the file is. Raises SgError (usage) for what is no model's GGUF, or is one of another kind than the base."""
    from sg_local.gguf import GgufFile, info_of  # loads NumPy

    if not path.is_file():
        raise SgError(f"There is no file {path}.", "Give the path of a model's GGUF.", exit_code=2)
    try:
        with GgufFile(path) as file:
            info = info_of(file)
            names = _vocabulary(file)
    except SgError as error:
        raise SgError(error.message, error.hint, exit_code=2) from error
    with GgufFile(base) as theirs:
        architecture, wanted = theirs.value("general.architecture", ""), _vocabulary(theirs)
    hint = "Give a GGUF of the model that the run was tuned from: merged, or quantised again."
    if info.architecture != architecture:
        message = (
            f"{path} is of the architecture {info.architecture!r}, the run's base {base.name} of {architecture!r}."
        )
        raise SgError(message, hint, exit_code=2)
    if names != wanted:
        raise SgError(f"{path} has another vocabulary than {base.name}: {_differs(names, wanted)}.", hint, exit_code=2)
    return FileFacts("mixed" if info.file_type == "unknown" else info.file_type, info.size_bytes)


def _vocabulary(file: GgufFile) -> list[str]:
    return [str(file.value("tokenizer.ggml.model", "")), *map(str, file.value("tokenizer.ggml.tokens", ()))]


def _differs(ours: list[str], theirs: list[str]) -> str:
    """Where two vocabularies part first."""
    if ours[0] != theirs[0]:
        return f"its tokenizer is {ours[0]!r}, not {theirs[0]!r}"
    if len(ours) != len(theirs):
        return f"{len(ours) - 1} tokens, not {len(theirs) - 1}"
    i = next(i for i, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
    return f"token {i - 1} is {ours[i][:40]!r}, not {theirs[i][:40]!r}"
