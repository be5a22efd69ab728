"""What a job is opened with: the options of a run, and the home that holds models, caches and common settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sg_local.backends.openai.address import Reach
from sg_local.home import ModelFolders

Tables = Mapping[str, Any]
"""Settings as nested tables, by stage."""

Layers = Sequence[tuple[str, Tables]]
"""(where from, settings), the weakest first."""


TASK: Literal["task"] = "task"
Tests = int | Path | Literal["task"] | None
"""Which test rows were asked for: so many of the task's, those of a file, the task's own again; None: not said."""


@dataclass(frozen=True)
class Home:
    """`data` is the folder of caches; `layers` are settings that every job here starts from.

    `models` are the folders in which base models are looked for; None means those inside `data`.
    """

    data: Path
    layers: Layers = ()
    models: ModelFolders | None = None

    @property
    def model_folders(self) -> ModelFolders:
        """Where base models are looked for."""
        return ModelFolders.of(self.data) if self.models is None else self.models


@dataclass(frozen=True)
class Budget:
    """What a whole job may take; None: no bound but the machine's."""

    ram_bytes: int | None = None
    disk_bytes: int | None = None
    time_s: float | None = None


@dataclass(frozen=True)
class Options:
    """The options of a job. `given` names those that were chosen, not left at their defaults.

    `inputs` is a file of a person's own unlabelled inputs, `rows` one of their labelled rows, `own_columns` says which
    of their columns are meant (tables.parse_columns). `budget` bounds the whole job. `reach` says which machines may be
    asked; no run remembers it, so that none that came from elsewhere sends rows anywhere. `tests` says which test rows
    the task came with: so many, those of a file, or the TASK's own.
    """

    runs: Path = Path("runs")
    name: str | None = None
    model: str | None = None
    backend: str = "auto"
    trainer: str = "auto"
    form: str = "auto"
    seed: int = 0
    preset: str = "recommended"
    settings: Tables = field(default_factory=dict)
    redo: bool = False
    inputs: Path | None = None
    rows: Path | None = None
    own_columns: str = ""
    budget: Budget = Budget()
    reach: Reach = "here"
    tests: Tests = None
    given: frozenset[str] = frozenset()


def with_budget(data: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """What run.json says of a budget that is given anew, beside what was chosen for an earlier one."""
    chosen = data.get("budget", {}).get("chose", {})
    return {} if budget == Budget() else {"budget": {**dataclasses.asdict(budget), "chose": chosen}}


def kept_budget(data: dict[str, Any]) -> Budget:
    """The budget that a run was given."""
    kept = data.get("budget", {})
    return Budget(**{item.name: kept.get(item.name) for item in dataclasses.fields(Budget)})
