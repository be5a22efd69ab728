"""The mean of several adapters that differ by their seeds alone: a training's spread costs less.

The change that the result makes to a matrix is the mean of the changes that each adapter makes, exactly: their A stand
above and their B beside each other. So it is as many times larger as there are adapters, and its rank, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sg_local.backends import Trainer, TrainSettings
from sg_local.backends.training.loop import CURVE
from sg_local.files import file_digest, write_text
from sg_local.gguf import read_adapter, write_adapter
from sg_local.reading import as_record, parse_json, read_lines
from sg_local.records import Adapter, TokenExample, TrainStep, to_json


class Averaged:
    """A trainer that lets another one train once for each seed, and leaves the mean.

    Each training has a folder of its own inside `out` and goes on from its checkpoint there; their steps are told one
    training after the other. The settings' `time_s` is shared among them.
    """

    def __init__(self, trainer: Trainer, n_seeds: int) -> None:
        self.trainer, self.n_seeds = trainer, n_seeds
        self.note = f"{trainer.note}; the mean of {n_seeds} trainings"

    def train(
        self,
        examples: Sequence[TokenExample],
        valid: Sequence[TokenExample],
        out: Path,
        settings: TrainSettings,
        on_step: Callable[[TrainStep], None],
    ) -> Adapter:
        """Train with each seed, and write `out/adapter.gguf`."""
        time_s = None if settings.time_s is None else settings.time_s / self.n_seeds
        each = [
            self.trainer.train(
                examples,
                valid,
                out / f"seed-{i}",
                dataclasses.replace(settings, seed=settings.seed + i, time_s=time_s, n_seeds=1),
                on_step,
            )
            for i in range(self.n_seeds)
        ]
        path = out / "adapter.gguf"
        write_mean(path, [Path(one.path) for one in each])
        self._keep_curve(out)
        losses = [one.valid_loss for one in each if one.valid_loss is not None]
        return dataclasses.replace(
            each[0],
            path=str(path),
            digest=file_digest(path) or "",
            rank=sum(one.rank for one in each),
            alpha=sum(one.alpha for one in each),
            loss=float(np.mean([one.loss for one in each])),
            valid_loss=float(np.mean(losses)) if losses else None,
        )

    def _keep_curve(self, out: Path) -> None:
        """Leave the mean curve of the trainings, as each has kept its own: a try that went on has seen but its part."""
        paths = [out / f"seed-{i}" / CURVE for i in range(self.n_seeds)]
        if all(path.is_file() for path in paths):
            mean = mean_curve([read_curve(path) for path in paths])
            write_text(out / CURVE, "".join(to_json(step) + "\n" for step in mean))


def read_curve(path: Path) -> list[TrainStep]:
    """The steps that a training has kept. Raises SgError for a damaged file."""
    hint = f"Remove {path.parent} to train this seed again."
    return [
        as_record(TrainStep, parse_json(line, f"{path}:{n}", hint, is_line=True), f"{path}:{n}", hint)
        for n, line in read_lines(path, exit_code=1)
    ]


def mean_curve(curves: Sequence[Sequence[TrainStep]]) -> list[TrainStep]:
    """The mean of the losses at each step that all the curves have; the rest is told as the first curve has it."""
    by_step = [{step.step: step for step in curve} for curve in curves]
    found = []
    for step in by_step[0].values():
        same = [one[step.step] for one in by_step if step.step in one]
        if len(same) < len(curves):
            continue
        valid = [one.valid_loss for one in same if one.valid_loss is not None]
        valid_loss = float(np.mean(valid)) if len(valid) == len(same) else None
        found.append(dataclasses.replace(step, loss=float(np.mean([one.loss for one in same])), valid_loss=valid_loss))
    return found


def write_mean(path: Path, adapters: Sequence[Path]) -> None:
    """Write the mean of adapters of one shape, with what the first one tells of itself.

    alpha / rank stays what it is in each of them, since both are summed.
    """
    each = [read_adapter(one) for one in adapters]
    pairs = {
        name: (
            np.concatenate([one.pairs[name][0] for one in each]),
            np.concatenate([one.pairs[name][1] for one in each], axis=1) / len(each),
        )
        for name in each[0].pairs
    }
    write_adapter(path, each[0].architecture, pairs, sum(one.alpha for one in each), each[0].metadata)
