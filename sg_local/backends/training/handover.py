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
from sg_local.records import SgError, TokenExample, from_dict, to_json

JOB, TRAIN, VALID = "job.json", "train.jsonl", "valid.jsonl"


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
    try:
        data = json.loads((folder / JOB).read_text(encoding="utf-8"))
        settings = from_dict(TrainSettings, data["settings"])
        return Handover(Path(data["model"]), _rows(folder / TRAIN), _rows(folder / VALID), settings)
    except FileNotFoundError as error:
        raise SgError(f"{error.filename} is missing.", "Prepare the folder with `train RUN` and `prepare`.") from error
    except (ValueError, KeyError) as error:
        raise SgError(f"{folder} holds a damaged job ({error}).", "Prepare the folder again.") from error


def _rows(path: Path) -> tuple[TokenExample, ...]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(from_dict(TokenExample, json.loads(line)) for line in lines)
