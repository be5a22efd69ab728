"""What a GGUF file says about itself: shape, types, tokenizer, adapter, and where an export came from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sg_local.cli.words import size
from sg_local.records import SgError

LONG = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges")
OWN = "sg_local."


def facts_of(path: Path) -> dict[str, Any]:
    """The file's facts for reading, in order. Raises SgError for a file that is not a whole GGUF."""
    from sg_local.gguf import GgufFile

    if not path.is_file():
        raise SgError(f"There is no file at {path}.", "Give the path of a .gguf file.", exit_code=2)
    with GgufFile(path) as file:
        values = {key: field.value() for key, field in file.fields.items() if key not in LONG}
        tensors = list(file.tensors.values())
        counts = {key: field.count for key, field in file.fields.items() if key in LONG}
    facts: dict[str, Any] = {
        "kind": values.get("general.type", "model"),
        "name": values.get("general.name", ""),
        "architecture": values.get("general.architecture", ""),
        "size": size(path.stat().st_size),
        "tensors": len(tensors),
        "parameters": sum(_count(tensor.shape) for tensor in tensors),
        "types": dict(Counter(tensor.type for tensor in tensors).most_common()),
        "sha256": _digest(path),
    }
    facts |= {key.removeprefix(OWN): value for key, value in values.items() if key.startswith(OWN)}
    facts |= {key: value for key, value in values.items() if not key.startswith(OWN)}
    facts |= {key: f"{count:,} entries" for key, count in counts.items()}
    return facts


def _digest(path: Path) -> str:
    from sg_local.run import file_digest

    return file_digest(path) or ""


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
