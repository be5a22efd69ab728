"""The instant mode: a classification's rows labelled by the untuned model, with nothing trained first.

What is fair between labels decides most of it: each label's mean score over known inputs (job.known) is taken off its
scores. Readers, writers and journals of files are those of `predict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sg_local.job.answering import CENTRED, FEWEST_KNOWN, Asking, answerer, check_asking
from sg_local.job.events import Listener, Said, deaf
from sg_local.job.job import OpenRun
from sg_local.job.known import AGAINST, Against, known_inputs
from sg_local.job.predict import AnsweredFile, FileToAnswer, predict_file
from sg_local.records import SgError, Task
from sg_local.tables import read_table


@dataclass(frozen=True)
class Instant:
    """How rows are labelled: `labels` as `Asking` has them, and what these are held `against`.

    Over three tasks calibrated labels measured 87.3 % right, the ensemble's 85.4 % at several times the work, the
    likeliest label 54.0 % (docs/experiments.md).
    """

    asking: Asking = Asking(base=True, labels="calibrated")
    against: Against = "written"


INSTANT = Instant()


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
        hint = f"Give a file of {FEWEST_KNOWN} rows or more, or choose `labels=calibrated`."
        raise SgError("Labels by ensemble need known inputs, and there are too few.", hint, exit_code=2)
    tell(Said(f"The labels are calibrated with {known.said}."))
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
