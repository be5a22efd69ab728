"""The instant mode: a classification's rows labelled by the untuned model, with nothing trained first.

What is fair between labels decides most of it: each label's mean score over known inputs (job.known) is taken off its
scores, and how likely it makes the input is counted in. Readers, writers and journals of files are those of `predict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sg_local.job.answering import CENTRED, FEWEST_KNOWN, Asking, Labels, answerer, check_asking
from sg_local.job.events import Listener, Said, deaf
from sg_local.job.job import OpenRun
from sg_local.job.known import AGAINST, Against, known_inputs
from sg_local.job.predict import AnsweredFile, FileToAnswer, predict_file
from sg_local.records import SgError, Task
from sg_local.tables import read_table


@dataclass(frozen=True)
class Instant:
    """How rows are labelled: `labels` as `Asking` has them, and what these are held `against`.

    With `may_fall_back`, labels by ensemble become calibrated ones where too few inputs are known.
    """

    asking: Asking
    against: Against = "written"
    may_fall_back: bool = False


def instant(labels: Labels | None = None, against: Against = "written", **asked: Any) -> Instant:
    """The way of labelling with these labels and more of `Asking`; by default the ensemble's.

    Over nine tasks and three seeds these measured 72.7 % right, calibrated ones 64.8 % (docs/experiments.md).
    """
    return Instant(Asking(base=True, labels=labels or "ensemble", **asked), against, may_fall_back=labels is None)


INSTANT = instant()


def check_instant(how: Instant, task: Task) -> None:
    """Raises SgError (usage) for what does not go together, or not with this task."""
    if not task.labels:
        hint = f"Let the untuned model write: `predict {task.name} FILE`, with `base`."
        raise SgError(f"Task {task.name} has no labels: its outputs are free text.", hint, exit_code=2)
    if how.against not in AGAINST:
        hint = f"`against` takes one of: {', '.join(AGAINST)}."
        raise SgError(f"Labels cannot be calibrated with {how.against!r}.", hint, exit_code=2)
    check_asking(how.asking, task)


def ask_instantly(job: OpenRun, rows: Iterable[str] = (), how: Instant = INSTANT, tell: Listener = deaf) -> Asking:
    """How the rows are asked about, after a word on what their labels are held against; may let the model write inputs.

    No probability is fitted, also where the task has a run whose rows could. Raises SgError (usage) for what does not
    go together, not with this task, or with too few inputs.
    """
    check_instant(how, job.task)
    unfitted = replace(how.asking, fitted=False)
    if unfitted.labels not in CENTRED:
        return unfitted
    known = known_inputs(job, rows, how.against, tell)
    if unfitted.labels == "ensemble" and not known.has_content:
        if how.may_fall_back:
            tell(
                Said(f"The labels are calibrated with {known.said}; an ensemble would need {FEWEST_KNOWN} known ones.")
            )
            return replace(unfitted, labels="calibrated", known=known.texts)
        hint = f"Give a file of {FEWEST_KNOWN} rows or more, or choose `labels=calibrated`."
        raise SgError("Labels by ensemble need known inputs, and there are too few.", hint, exit_code=2)
    how_chosen = "by ensemble, " if unfitted.labels == "ensemble" else ""
    tell(Said(f"The labels are {how_chosen}calibrated with {known.said}."))
    return replace(unfitted, known=known.texts)


def label_texts(job: OpenRun, texts: Sequence[str], how: Instant = INSTANT) -> list[str]:
    """A label for each text, in order. Raises the SgError of the first that cannot be asked."""
    from sg_local import serve

    who, way = answerer(job, ask_instantly(job, texts, how))
    labels = []
    for answer in serve.answer_rows(who, way, map(serve.Question, texts)):
        if answer.failed is not None:
            raise answer.failed
        labels.append(answer.text)
    return labels


def label_file(job: OpenRun, file: FileToAnswer, how: Instant = INSTANT, tell: Listener = deaf) -> AnsweredFile:
    """Label every row of a file, and write the rows with their labels to another, as `predict_file` does."""
    file.check()
    rows = read_table(file.source, file.columns, lenient=True).rows
    return predict_file(job, file, ask_instantly(job, (row.input for row in rows), how, tell), tell)
