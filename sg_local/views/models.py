"""Models for reading: a line of the list, and the facts of a card."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sg_local.words import brief, duration, size

if TYPE_CHECKING:
    from sg_local.models import Card, ModelEntry

PULL = "sg-local models pull"


def model_cells(entry: ModelEntry, found: bool) -> tuple[str, ...]:
    """A line of the list: name, parameters, type, size, and whether (with `found`: where) the model is here."""
    here = "yes" if entry.path else "no" if entry.get.startswith(PULL) else entry.get
    bytes_text = size(entry.size_bytes) if entry.size_bytes else ""
    return (entry.name, _count(entry.parameters), entry.quantisation, bytes_text, entry.where if found else here)


def _count(n: int | None) -> str:
    """Parameters for reading: 135M, 7.2B."""
    if not n:
        return ""
    return f"{n / 1e9:.1f}B" if n >= 999_500_000 else f"{n / 1e6:.0f}M"


NAMES = {"n_tensors": "tensors", "n_parameters": "parameters", "size_bytes": "size", "n_ctx": "context"}


def fact_pair(key: str, value: Any) -> tuple[str, str]:
    """A fact of a model for reading: its name in words, and its value with a unit."""
    name = NAMES.get(key, key.replace("_", " "))
    if not isinstance(value, int) or isinstance(value, bool):
        return name, value if isinstance(value, str) else brief(value)
    units = {"parameters": _count, "size": size, "context": "{} tokens".format}
    return name, units.get(name, str)(value)


def card_facts(card: Card) -> dict[str, Any]:
    """What a card says, its template left out."""
    facts = {key: value for key, value in dataclasses.asdict(card).items() if value}
    facts.pop("chat_template", None)
    return facts


def card_pairs(card: Card, keys: tuple[str, ...] | None = None) -> list[tuple[str, str]]:
    """A card's facts for reading; `keys` None means all of them."""
    facts = {**card_facts(card), "files": ", ".join(card.source.files), "repository": card.source.repo}
    facts["original"] = f"https://huggingface.co/{card.original}" if card.original else ""
    facts.pop("source")
    facts.pop("name")
    wanted = [key for key in facts if keys is None or key in keys]
    texts = ((key, ", ".join(facts[key]) if isinstance(facts[key], tuple) else facts[key]) for key in wanted)
    return [fact_pair(key, value) for key, value in texts if value]


def download_text(here: int, whole: int | None, rate: float) -> str:
    """Where a download stands: bytes here and in all, bytes a second, and the time left."""
    parts = [f"{size(here)} of {size(whole)}" if whole else size(here), f"{size(rate)}/s"]
    if whole and rate > 0:
        parts.append(f"{duration((whole - here) / rate)} left")
    return ", ".join(parts)
