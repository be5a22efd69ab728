"""The rows that another label policy would train on: the filters judge anew, and what people judged stays."""

from __future__ import annotations

from collections.abc import Sequence

from sg_local.filters import JUDGE, FilterSettings, Kept, final_verdicts, judge, kept_rows
from sg_local.filters.balance import output_of
from sg_local.filters.outputs import OF_TEXTS
from sg_local.filters.settings import POLICIES
from sg_local.records import Candidate, Pair, SgError, Task, Verdict
from sg_local.run import CANDIDATES, Run


def check_policies(names: Sequence[str], task: Task, setting: str = "train.policies") -> None:
    """Raise SgError (usage) for a policy that there is not, or not for this kind of task; `setting` names them."""
    known = tuple(name for name in POLICIES if name != "mbr") if task.labels else OF_TEXTS
    for name in names:
        if name not in known:
            message = f"A task of {task.kind} has no policy {name!r}."
            raise SgError(message, f"`{setting}` takes {', '.join(known)}.", exit_code=2)


def rows_under(run: Run, task: Task, settings: FilterSettings) -> list[Kept]:
    """The rows of a run that would train under these settings, in synthesis order. Nothing is written."""
    candidates = run.read(CANDIDATES, Candidate)
    return judged_rows(run, candidates, judge(candidates, task, settings)[0])


def judged_rows(run: Run, candidates: Sequence[Candidate], verdicts: Sequence[Verdict]) -> list[Kept]:
    """The candidates that these verdicts keep, each with its own, but people's rows as people left them."""
    people = {id for id, verdict in final_verdicts(run).items() if verdict.judge != JUDGE}
    theirs = {row.id: row for row in kept_rows(run) if row.id in people}
    rows = [
        theirs.get(row.id) if row.id in people else Kept(row.id, Pair(row.input, output_of(row, verdict)), row)
        for row, verdict in zip(candidates, verdicts, strict=True)
        if verdict.keep or row.id in people
    ]
    return [row for row in rows if row is not None]
