"""The inputs that an untuned model's labels are held against: each label's mean score over them is taken off.

They are inputs of the task without known labels. A run has them; else the model writes some, asked for every label
alike, so that none outweighs another, and the cache keeps them. Rows that are to be labelled can stand for them, where
no label is far commoner than the others.
"""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sg_local.cache import KNOWN
from sg_local.evaluate.job import CONTENT_FREE
from sg_local.files import write_text
from sg_local.job.answering import FEWEST_KNOWN
from sg_local.job.events import Listener, Moved, Said
from sg_local.job.job import OpenRun
from sg_local.prompts import normalise
from sg_local.records import Candidate, InputRow, NoRows, SgError, digest
from sg_local.run import CANDIDATES, INPUTS, RUN, Run

Against = Literal["written", "rows", "nothing"]
AGAINST: tuple[str, ...] = typing.get_args(Against)
MOST_KNOWN = 64
ASKED_FOR_EACH = 4
"""How many inputs are asked for at most for each one that is wanted."""


@dataclass(frozen=True)
class Known:
    """The inputs, each once, what they are, in words, and whether they are inputs of the task at all."""

    texts: tuple[str, ...]
    said: str
    has_content: bool = True


NOTHING = Known(CONTENT_FREE, "inputs without content", has_content=False)


def known_inputs(job: OpenRun, rows: Iterable[str], against: Against, tell: Listener) -> Known:
    """Inputs of the job's task: the run's or written now, or some of the rows, as `against` has it.

    Where the model can write none, the rows stand in; where there are too few of those, inputs that say nothing do.
    """
    if against == "nothing":
        return NOTHING
    if against == "written":
        found = drawn(_of_run(job), job.seed)
        if len(found) >= FEWEST_KNOWN:
            return Known(found, "the run's inputs")
        found = _written(job, tell)
        if len(found) >= FEWEST_KNOWN:
            return Known(found, "inputs that the model wrote")
    found = drawn(rows, job.seed)
    return Known(found, "the rows themselves") if len(found) >= FEWEST_KNOWN else NOTHING


def drawn(texts: Iterable[str], seed: int) -> tuple[str, ...]:
    """At most MOST_KNOWN of the texts, each once, blank ones left out: the same ones in whatever order they come.

    They are shuffled: their first ones, which are all that an ensemble takes, are a fair draw, too.
    """
    distinct = sorted({normalise(text): text for text in sorted(texts) if text.strip()}.values())
    return tuple(random.Random(seed).sample(distinct, min(MOST_KNOWN, len(distinct))))


def _of_run(job: OpenRun) -> Iterator[str]:
    """The inputs of the run of this task, where there is one."""
    if job.run.exists() and job.run.settings.get("task_digest") == job.task.digest:
        yield from (row.input for row in job.run.read(CANDIDATES, Candidate))


def _written(job: OpenRun, tell: Listener) -> tuple[str, ...]:
    """Inputs that the model writes for this task, once: then the cache has them. Empty where it can write none."""
    entry = _entry(job)
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(entry.read_text(encoding="utf-8"))
        if isinstance(kept, list) and all(isinstance(text, str) for text in kept):
            return tuple(kept)
    tell(Said(f"Writing {MOST_KNOWN} inputs to calibrate the labels with, once for this task."))
    try:
        found = _write(job, tell)
    except NoRows as error:
        tell(Said(f"That failed: {error.message}", warning=True))
        found = ()
    with contextlib.suppress(SgError):  # a cache that cannot be written is no failure
        write_text(entry, json.dumps(found, ensure_ascii=False))
    return found


def _write(job: OpenRun, tell: Listener) -> tuple[str, ...]:
    """Stage A of a synthesis in a folder of its own, which goes again. Raises NoRows where hardly any input passes."""
    from sg_local import filters, synth

    settings = replace(job.plan["synth"], n_inputs=MOST_KNOWN, n_asked=ASKED_FOR_EACH * MOST_KNOWN)
    gate = filters.input_gate(job.task, job.plan["filter"])
    job.adapted(base=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / job.run.name)
        run.write_json(RUN, {})
        n_ctx = job.plan["engine"].n_ctx
        work = synth.Synthesis(run, job.task, job.form, job.generator, settings, gate, job.seed, n_ctx)
        synth.write_inputs(work, lambda event: tell(Moved("synth", event)))
        return drawn((row.input for row in run.read(INPUTS, InputRow) if not row.rejected), job.seed)


def _entry(job: OpenRun) -> Path:
    """Where the cache keeps what was written: another one for each task, model, form, seed and way of writing."""
    facts = [job.task.digest, job.record["model"].get("digest"), job.form_name, job.seed, repr(job.plan["synth"])]
    return Path(job.plan["engine"].cache) / KNOWN / f"{digest([*facts, repr(job.plan['filter'])])[:32]}.json"
