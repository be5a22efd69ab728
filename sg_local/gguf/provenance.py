"""Where a file came from, as `sg_local.*` metadata: what the adapter and every export of a task say alike.

The same inputs give the same entries: no times, no paths. Only counts and settings travel, never rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sg_local import __version__
from sg_local.gguf.foreign import MAGIC
from sg_local.gguf.merge import copy_with_fields
from sg_local.records import Task, digest

PREFIX = "sg_local."
FACTS = ("funnel", "scores", "settings")
MAX_TEXT = 20_000  # characters of provenance per key: metadata is read by every program that opens the file


@dataclass(frozen=True)
class Origin:
    """What a file was made from: `form` is the prompt form's name, `base_digest` the base file's SHA-256.

    `facts` is plain data under the keys FACTS, all optional: the stages' settings, the filters' funnel, the scores.
    """

    task: Task
    form: str
    base_name: str
    base_digest: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The metadata entries; facts as JSON."""
        fields: dict[str, Any] = {
            "version": __version__,
            "task.name": self.task.name,
            "task.digest": self.task.digest,
            "task.form": self.form,
            "base.name": self.base_name,
            "base.sha256": self.base_digest,
        }
        if "settings" in self.facts:
            fields["settings.digest"] = digest(self.facts["settings"])
        fields |= {key: json.dumps(data, ensure_ascii=False) for key, data in shown_facts(self.facts).items()}
        return {PREFIX + key: value for key, value in fields.items()}


def shown_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as they go into files: counts only, no rows; what is too long is left out."""
    shown = {key: facts[key] for key in FACTS if facts.get(key)}
    if "funnel" in shown:
        shown["funnel"] = {key: value for key, value in shown["funnel"].items() if key != "examples"}
    return {key: data for key, data in shown.items() if len(json.dumps(data, ensure_ascii=False)) <= MAX_TEXT}


def adopt(made: Path, target: Path, origin: Origin) -> None:
    """Move a trained adapter to its place, its provenance inside. Whole or not at all, and the same bytes again.

    The scripted trainer's placeholder is no GGUF and moves as it is.
    """
    with open(made, "rb") as file:
        is_gguf = file.read(len(MAGIC)) == MAGIC
    if not is_gguf:
        os.replace(made, target)
        return
    copy_with_fields(made, target, origin.fields())
    made.unlink()
