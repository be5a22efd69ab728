"""Which finished stages tell of rows or of an adapter that are others by now, and the command that comes next.

Read from the run folder alone: no engine is opened, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from sg_local import filters
from sg_local.files import file_digest
from sg_local.records import digest
from sg_local.run import ADAPTER, CANDIDATES, STAGES, TRAIN, VALID, Run

PARTS = ("id", "input", "output")


@dataclass(frozen=True)
class StaleStage:
    """A finished stage whose results are of something earlier: `why` is a clause, `command` what makes it anew."""

    stage: str
    why: str
    command: str


def stale_stages(run: Run) -> tuple[StaleStage, ...]:
    """The finished stages that would come out otherwise now, in their order."""
    found: list[StaleStage] = []
    if _reads_another(run, "filter", CANDIDATES):
        found.append(StaleStage("filter", "the pairs were generated again since", f"filter {run.typed} --redo"))
    changed = n_changed(run)
    if changed:
        why = f"{changed} of its training pairs have changed"
        found.append(StaleStage("train", why, training_line(run) or f"review {run.typed}"))
    for stage in ("export", "eval"):
        if run.stamp(stage) is None:
            continue
        if _reads_another(run, stage, ADAPTER):
            found.append(StaleStage(stage, "the adapter was trained again since", f"{stage} {run.typed} --redo"))
        elif changed:
            found.append(StaleStage(stage, "it belongs to an earlier adapter", f"{stage} {run.typed}"))
    return tuple(found)


def n_changed(run: Run) -> int:
    """How many pairs would be trained on and were not, or were and would not be; 0 before the run is trained.

    Where the rows that trained got their labels from earlier trainings, the pairs are those that the first began from.
    """
    stamp = run.stamp("train")
    if stamp is None:
        return 0
    if stamp.get("began_from"):
        return len({id for id, _ in stamp["began_from"].items() ^ kept_digests(run).items()})
    trained = {tuple(row.get(key) for key in PARTS) for name in (TRAIN, VALID) for row in run.lines(name)}
    dropped = set(stamp.get("dropped", ()))
    kept = {(row.id, row.pair.input, row.pair.output) for row in filters.kept_rows(run) if row.id not in dropped}
    return len({id for id, *_ in trained ^ kept})


def kept_digests(run: Run) -> dict[str, str]:
    """A digest of each pair that the filters and people keep now, by the row's id."""
    return {row.id: digest([row.pair.input, row.pair.output]) for row in filters.kept_rows(run)}


def is_trained(run: Run) -> bool:
    """Whether the run is trained on the very rows that would be trained on now."""
    return run.stamp("train") is not None and not n_changed(run)


def training_line(run: Run) -> str | None:
    """The command that trains on the rows as they are judged; None where none is kept, or all is trained already."""
    if not filters.kept_rows(run):
        return None
    if run.stamp("train") is None:
        return f"train {run.typed}"
    return f"train {run.typed} --redo" if n_changed(run) else None


def out_of_date(run: Run, stages_of_interest: Container[str] = STAGES) -> str:
    """A sentence about what is stale, and the command that makes it again; empty where nothing of interest is."""
    stages = [one for one in stale_stages(run) if one.stage in stages_of_interest]
    if not stages:
        return ""
    first, *others = stages
    with_it = f", and with it {' and '.join(one.stage for one in others)}" if others else ""
    return f"Out of date: {first.stage}, because {first.why}{with_it}. Update it: `{first.command}`."


def _reads_another(run: Run, stage: str, file: str) -> bool:
    """Whether a finished stage read another version of the file than the one that is there."""
    was = ((run.stamp(stage) or {}).get("reads") or {}).get(file)
    return was is not None and was != file_digest(run.path(file))
