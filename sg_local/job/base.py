"""The base model of a job: its name, its file, the chat template of its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sg_local.backends import needs_model
from sg_local.job.options import Home


@dataclass(frozen=True)
class Base:
    """The base model of a run. `template` replaces the file's own chat template where it is not None."""

    name: str
    path: Path
    template: str | None = None


def find_base(name: str | None, backend: str, home: Home) -> Base:
    """The model file that a name stands for, with the card's chat template."""
    if name is None and not needs_model(backend):
        return Base(backend, Path(backend))
    from sg_local import models

    model = models.find_model(name or models.DEFAULT, home.model_folders)
    return Base(model.name, Path(model.path), model.chat_template)
