"""A training job as files, so that torchrun or mlx.launch can run it in processes of their own.

A folder holds `job.json` (base, settings), `train.jsonl` and `valid.jsonl` (TokenExamples). The trainer's entry
point works in the same folder, so its checkpoint and adapter are where `sg-local train` looks for them: after a
distributed run the stage finds the finished checkpoint and completes at once.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from sg_local.backends import TrainSettings
from sg_local.files import write_text
from sg_local.reading import as_record, parse_json, read_lines, read_record
from sg_local.records import SgError, TokenExample, to_json

JOB, TRAIN, VALID = "job.json", "train.jsonl", "valid.jsonl"
HINT = "Prepare the folder with `train RUN` and `prepare`."


@dataclass(frozen=True)
class JobFile:
    """What job.json holds."""

    model: Path
    settings: TrainSettings


@dataclass(frozen=True)
class Handover:
    """What a trainer's `train` is called with. `model` is the base GGUF's path."""

    model: Path
    train: tuple[TokenExample, ...]
    valid: tuple[TokenExample, ...]
    settings: TrainSettings


def write_job(folder: Path, job: Handover) -> Path:
    """Write the job's files, job.json last, and return the folder."""
    for name, rows in ((TRAIN, job.train), (VALID, job.valid)):
        write_text(folder / name, "".join(to_json(row) + "\n" for row in rows))
    data = {"model": str(job.model.absolute()), "settings": dataclasses.asdict(job.settings)}
    write_text(folder / JOB, json.dumps(data, indent=2) + "\n")
    return folder


def read_job(folder: Path) -> Handover:
    """The job in a folder. Raises SgError where there is none, or a file is not what `write_job` wrote."""
    for path in (folder / name for name in (JOB, TRAIN, VALID)):
        if not path.exists():
            raise SgError(f"{path} is missing.", HINT)
    told = read_record(folder / JOB, JobFile, HINT)
    return Handover(told.model, _rows(folder / TRAIN), _rows(folder / VALID), told.settings)


def _rows(path: Path) -> tuple[TokenExample, ...]:
    lines = read_lines(path, exit_code=1)
    rows = ((f"{path}:{number}", parse_json(line, f"{path}:{number}", HINT, is_line=True)) for number, line in lines)
    return tuple(as_record(TokenExample, data, place, HINT) for place, data in rows)
