"""What people see of an export: the names in a GGUF's metadata and the name of its file, by GGUF's own convention.

The convention is that of ggml's docs/gguf.md: BaseName-SizeLabel-FineTune-Version-Encoding.gguf, the first four also
under general.*. The base gives its name, its size and its version (v1.0 where it has none, as the convention says); the
task is the FineTune. Not covered: how large a program that guesses from the layers takes a model to be, as llama.cpp
does (it calls every llama of 30 layers "256M").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sg_local.export.job import Export
from sg_local.gguf import GgufFile

NAMES = (
    *("general.name", "general.basename", "general.size_label", "general.finetune", "general.version"),
    *("general.base_model.count", "general.base_model.0.name", "general.base_model.0.organization"),
)
"""What of general.* an export may set."""
FIRST = "v1.0"
BEFORE = "fused-{}.gguf"  # what 0.1.0 called its files
LONGEST = 60  # letters of one part: a file's name may have 255 bytes
_ENCODING = re.compile(r"[-._](?:UD-)?(?:I?Q\d\w*|BF16|F16|F32|GGUF)$", re.IGNORECASE)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMBT])", re.IGNORECASE)
_VERSION = re.compile(r"v\d+(?:\.\d+)*", re.IGNORECASE)
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@dataclass(frozen=True)
class BaseNames:
    """A base model as its makers write it: SmolLM2, 135M, Instruct, no version."""

    basename: str
    size_label: str
    finetune: str
    version: str

    def title(self, *, whole: bool) -> str:
        """For people to read: `SmolLM2 135M`; the whole of it is `SmolLM2 135M Instruct`."""
        parts = (self.basename, self.size_label, self.finetune if whole else "", self.version)
        return " ".join(part.replace("-", " ") for part in parts if part)


@dataclass(frozen=True)
class ExportNames:
    """The names of one task's files."""

    base: BaseNames
    organization: str
    task: str

    @property
    def fields(self) -> dict[str, Any]:
        """The metadata of a fused file."""
        fields = {
            "general.name": f"{' '.join(self.task.split())} on {self.base.title(whole=False)}",
            "general.basename": self.base.basename,
            "general.size_label": self.base.size_label,
            "general.finetune": self._finetune,
            "general.version": self.base.version or FIRST,
            "general.base_model.count": 1,
            "general.base_model.0.name": self.base.title(whole=True),
        }
        return fields | ({"general.base_model.0.organization": self.organization} if self.organization else {})

    def file(self, type: str) -> str:
        """A fused file's name: SmolLM2-135M-support-routing-v1.0-Q6_K.gguf."""
        parts = (self.base.basename, self.base.size_label, self._finetune, self.base.version or FIRST, type)
        return "-".join(parts) + ".gguf"

    @property
    def _finetune(self) -> str:
        return _part(self.task, r"[^A-Za-z0-9]+") or "task"


def names_of(job: Export) -> ExportNames:
    """A job's names: the base's from its file's name, else from the run's or the metadata's name for it."""
    with GgufFile(job.base) as file:
        n_parameters = sum(tensor.rows * tensor.columns for tensor in file.tensors.values())
        labelled = str(file.value("general.size_label", ""))
        known = [job.base.stem, job.base_name, str(file.value("general.name", ""))]
        organization = str(file.value("general.organization", ""))
    label = labelled if _is_size(labelled, n_parameters) else size_label(n_parameters)
    return ExportNames(base_names(known, n_parameters, label), organization, job.task.name)


def base_names(known: list[str], n_parameters: int, label: str) -> BaseNames:
    """Read the first name that holds the model's size, by the convention; with none, the second one or the first.

    `label` is the size where no name tells it.
    """
    parted = [_parts(name) for name in known]
    for parts in parted:
        at = next((i for i, part in enumerate(parts) if i and _is_size(part, n_parameters)), None)
        if at is not None:
            size = parts[at][:-1] + parts[at][-1].upper()
            return _base_names(parts[:at], size, parts[at + 1 :])
    return _base_names(parted[1] or parted[0], label, [])


def size_label(n_parameters: int) -> str:
    """A model's size as gguf's own tools round it: 135M, 1.1B, 82K."""
    unit, scale = next((item for item in reversed(_UNITS.items()) if n_parameters > item[1]), ("K", 1e3))
    count = n_parameters / scale
    return f"{count:.{1 if round(count) < 10 else 0}f}{unit}"


def _base_names(before: list[str], size: str, after: list[str]) -> BaseNames:
    versions = [part for part in (*after, *before[1:]) if _VERSION.fullmatch(part)]
    basename, finetune = (
        _part("-".join(part for part in parts if part not in versions), r"[^A-Za-z0-9.]+") for parts in (before, after)
    )
    return BaseNames(basename or "model", size, finetune, versions[0].lower() if versions else "")


def _parts(name: str) -> list[str]:
    """The words of a file's or a repository's name, without owner and encoding."""
    return [part for part in re.split(r"[-_:\s]+", _ENCODING.sub("", name.rpartition("/")[2])) if part]


def _is_size(part: str, n_parameters: int) -> bool:
    """Whether a word is the model's size, within a factor of two: others are lengths of contexts."""
    found = _SIZE.fullmatch(part)
    if found is None:
        return False
    return n_parameters / 2 <= float(found[1]) * _UNITS[found[2].upper()] <= n_parameters * 2


def _part(text: str, other: str) -> str:
    """A text as one part of a file's name."""
    return re.sub(other, "-", text)[:LONGEST].strip("-.")
