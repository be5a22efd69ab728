"""Trains in a child process, because a Metal command buffer that runs out of memory ends its process without asking.

MLX raises that error on a thread of Metal's own, where nothing can catch it, so the process aborts. The child's death
is seen here: training goes on from the last checkpoint in a new child that computes half as many rows at a time. The
steps keep their rows, so accumulation doubles. Linux kills a process that takes too much memory; that is survived
alike.

Tested on a CPU with children that end as such a process ends; a real Metal out-of-memory error was never seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sg_local.backends.mlx.device import is_memory_error
from sg_local.backends.training.handover import Handover, write_job
from sg_local.records import Adapter, MadeOtherwise, SgError, TrainStep, from_dict

ENTRY = (sys.executable, "-m", "sg_local.backends.mlx")
MESSAGE = "sg-local: "  # begins the line on stderr that is meant for people
MADE_OTHERWISE = "sg-local, made otherwise: "  # the same, for a MadeOtherwise
_KILLED = -9  # SIGKILL: how both systems end a process that takes too much memory


@dataclass(frozen=True)
class _End:
    """How a child ended: its exit status, what it wrote on stderr, and the adapter's record if it got that far."""

    status: int
    errors: str
    adapter: Adapter | None

    @property
    def is_out_of_memory(self) -> bool:
        return self.status == _KILLED or (self.status < 0 and is_memory_error(self.errors))


def train_in_child(
    job: Handover, folder: Path, on_step: Callable[[TrainStep], None], entry: Sequence[str] = ENTRY
) -> Adapter:
    """Train the job in `folder`, with as many children as memory demands. Raises SgError as `Trainer.train` does."""
    write_job(folder, job)
    rows_at_once = job.settings.batch_size
    while True:
        end = _run([*entry, str(folder), "--rows-at-once", str(rows_at_once), "--steps-as-json"], on_step)
        if end.adapter is not None:
            return end.adapter
        if not end.is_out_of_memory:
            raise _failure(end)
        if rows_at_once == 1:
            hint = "Try fewer layers, a smaller rank or a smaller model."
            raise SgError("One row at a time does not fit in memory.", hint)
        rows_at_once //= 2


def _run(command: list[str], on_step: Callable[[TrainStep], None]) -> _End:
    """Run one child to its end; whatever happens here, no child is left behind."""
    adapter = None
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            try:
                assert child.stdout is not None, "it was asked for"
                for line in child.stdout:
                    record = json.loads(line)
                    if "path" in record:
                        adapter = from_dict(Adapter, record)
                    else:
                        on_step(from_dict(TrainStep, record))
            except BaseException:
                child.kill()
                raise
        errors.seek(0)
        return _End(child.returncode, errors.read(), adapter if child.returncode == 0 else None)


def _failure(end: _End) -> SgError:
    """The child's own SgError, or a sentence on how it died."""
    lines = end.errors.strip().splitlines()
    for mark, error in ((MADE_OTHERWISE, MadeOtherwise), (MESSAGE, SgError)):
        if end.status > 0 and lines and lines[0].startswith(mark):
            return error(lines[0].removeprefix(mark), "\n".join(lines[1:]), exit_code=end.status)
    last = lines[-1] if lines else "without a word"
    return SgError(
        f"The MLX trainer ended with status {end.status}: {last}", "Start training again to continue from there."
    )
