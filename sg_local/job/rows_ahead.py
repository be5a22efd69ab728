"""How many rows a job will work on and how long they are: as the task's examples and own rows let expect, or counted.

What the model writes looks like the demonstrations, so their lengths are its lengths. How many of its rows pass is not
known before: the shares below are what our tasks had in the middle. Once there are rows, they are counted instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil, inf
from statistics import fmean
from typing import TYPE_CHECKING

from sg_local import prompts
from sg_local.job.events import RowsAhead
from sg_local.prompts import PLAIN
from sg_local.records import Candidate, InputRow, Segment
from sg_local.run import CANDIDATES, INPUTS
from sg_local.synth.job import ACCEPTED

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun

KEPT = 0.9  # of the pairs
TOKEN_BYTES = 4  # of a text, where nothing counts its tokens

Count = Callable[[str], int]


def rows_ahead(job: OpenRun) -> RowsAhead:
    """The rows of a job, by what its run holds already."""
    count = _counter(job)
    expected = _expected(job, count)
    if job.run.stamp("synth") is None:
        return expected
    inputs, candidates = job.run.read(INPUTS, InputRow), job.run.read(CANDIDATES, Candidate)
    return replace(
        expected,
        n_asked=sum(not row.source for row in inputs),
        n_inputs=len(candidates),
        n_training=min(len(candidates), ceil(KEPT * len(candidates))),
        n_input=_mean([count(row.input) for row in candidates], expected.n_input),
        n_output=_mean([count(row.output) for row in candidates], expected.n_output),
        n_longest=max((count(row.input) for row in candidates), default=expected.n_longest),
        n_longest_output=max((count(row.output) for row in candidates), default=expected.n_longest_output),
        counted=True,
    )


def _expected(job: OpenRun, count: Count) -> RowsAhead:
    task, settings = job.task, job.plan["synth"]
    labelled, own = job.own.of("row"), job.own.of("input", "earlier")
    wanted = inf if settings.n_inputs is None else max(0, settings.n_inputs - len(own)) / ACCEPTED
    n_asked = ceil(min(settings.n_asked, wanted))
    n_written = round(ACCEPTED * n_asked)
    outputs = [pair.output for pair in task.examples] + [row.output for row in labelled]
    inputs = [pair.input for pair in task.examples] + [row.input for row in (*labelled, *own)]
    n_inputs, n_outputs = [count(text) for text in inputs], [count(text) for text in outputs]
    shared = sum(count(segment.text) for segment in prompts.answer_prompt(task, PLAIN, ""))
    n = n_written + len(own)
    return RowsAhead(
        n_asked=n_asked,
        n_inputs=n + len(labelled),
        n_labelled=len(labelled),
        n_training=ceil(KEPT * n) + len(labelled),
        n_tests=len(task.tests),
        n_shared=shared,
        n_input=fmean(n_inputs),
        n_output=fmean(n_outputs),
        n_longest=max(n_inputs),
        n_longest_output=max(n_outputs),
    )


def _counter(job: OpenRun) -> Count:
    """Tokens of a text: the open engine's own, else by its bytes."""
    if not job.opened:
        return lambda text: -(-len(text.encode("utf-8", "replace")) // TOKEN_BYTES)
    tokenize = job.opened[0].tokenize
    return lambda text: len(tokenize((Segment(text, trusted=False),), bos=False))


def _mean(numbers: Sequence[int], otherwise: float) -> float:
    return fmean(numbers) if numbers else otherwise
