"""How much each column of the weights counts for the run's own rows: the importance matrix of weighted types.

As llama.cpp's imatrix tool does, it takes the mean square of what flows into each matrix, of the tuned model and over
the rows that it was trained on: never rows that judge a file. A block's rounding then spends its error on columns that
hardly matter to this task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice

import numpy as np

from sg_local.backends import EngineSettings, open_watched
from sg_local.export.job import Export
from sg_local.prompts import Room, TooLong, answer_room, answer_text, fitted_answer
from sg_local.records import ScoredPrompt
from sg_local.run import TRAIN

N_ROWS = 64  # some thousand tokens; llama.cpp's users take about as many times the 512 tokens of a chunk for a model


def has_rows(job: Export) -> bool:
    """Whether the run keeps the rows that its adapter was trained on."""
    return next(iter(job.run.lines(TRAIN)), None) is not None


def importance_of(job: Export) -> Mapping[str, np.ndarray]:
    """Mean squares of each matrix's inputs, float32 (columns,), by its name; empty where no row could be measured."""
    settings = EngineSettings(n_ctx=job.settings.n_ctx, n_parallel=1, fast_copy=False, cache=job.cache)
    generator, inputs = open_watched(job.engine, job.base, settings)
    try:
        generator.use_adapter(job.adapter)
        n_ctx = min(job.settings.n_ctx, generator.info.n_ctx_train)
        room = answer_room(generator.tokenize, job.task, n_ctx, job.settings.max_tokens, "export")
        for _ in generator.score(list(islice(_asked(job, room), N_ROWS))):
            pass
    finally:
        generator.close()
    return inputs.means()


def _asked(job: Export, room: Room) -> Iterator[ScoredPrompt]:
    """Rows with their answers. One that is too long is passed over: training may have had more context."""
    for i, row in enumerate(job.run.lines(TRAIN)):
        text = answer_text(job.form, row["output"])
        with suppress(TooLong):
            segments = fitted_answer(room.for_answer(text), job.task, job.form, row["input"]).segments
            yield ScoredPrompt(str(i), segments, (text,), end=True, ending=job.form.end)
