"""The export stage of a job, and what the exported files say of how they were made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sg_local.backends import engine_here
from sg_local.job.events import Listener, Moved, Said
from sg_local.job.job import OpenRun
from sg_local.job.layouts import tuned_form
from sg_local.records import GATE_NOT_MET, Pair, SgError
from sg_local.run import ADAPTER, VALID

if TYPE_CHECKING:
    from sg_local.export import Export
    from sg_local.filters import Kept


def export(job: OpenRun, tell: Listener) -> str:
    """Adapter, fused files and papers. Lets go of the engine first: the export opens its own."""
    from sg_local import export as room
    from sg_local.job.shipping import score_exported

    work = export_job(job)
    if said := room.told_of_rows(work):
        tell(Said(f"  {said}"))
    job.close()
    try:
        done = room.export(work, lambda event: tell(Moved("export", event)))
    except SgError as error:
        if error.exit_code == GATE_NOT_MET:
            score_exported(job, tell, "export")
        raise
    score_exported(job, tell, "export")
    if work.settings.without_demonstrations and (earlier := room.still_shown(work, done.written)):
        told = f"Earlier files of this run still show the examples: {', '.join(earlier)}."
        tell(Said(f"{told} Export them again, or delete them.", warning=True))
    return (
        ", ".join(f"{fused.file} keeps {fused.retained['mean']:.1%} of the delta" for fused in done.fused) or "adapter"
    )


def export_job(job: OpenRun) -> Export:
    """The export room's view of a job."""
    from sg_local import export as room

    return room.Export(
        run=job.run,
        task=job.task,
        form=tuned_form(job),
        base=job.base.path,
        base_digest=job.run.settings["model"]["digest"],
        adapter=job.run.path(ADAPTER),
        valid=pairs_of(job, VALID),
        settings=job.plan["export"],
        engine=engine_here(job.backend),
        cache=job.plan["engine"].cache,
        base_name=job.base.name,
        provenance=provenance(job),
    )


def pairs_of(job: OpenRun, name: str) -> tuple[Pair, ...]:
    """The rows that trained or validated the adapter."""
    from sg_local import training

    return tuple(Pair(row.input, row.output) for row in job.run.read(name, training.TrainingRow))


def provenance(job: OpenRun, kept: Sequence[Kept] | None = None) -> dict[str, Any]:
    """What travels inside the adapter and the exported files: the stages' settings, and the funnel as it is now.

    `kept` are the rows that train, where labels of an earlier round made others of them than the filters kept; of a
    trained run, those that trained it. The scores are not here: the export reads them from report.json.
    """
    from sg_local import filters
    from sg_local.job.train import trained_rows
    from sg_local.training import SHARE

    stamps = {stage: (job.run.stamp(stage) or {}).get("settings", {}) for stage in ("synth", "filter", "train")}
    told = (job.run.stamp("filter") or {}).get("funnel", {})
    if kept is None and SHARE in stamps["train"]:
        kept = trained_rows(job.run)
    found = dataclasses.asdict(filters.funnel(job.run, job.task, kept))
    found["examples"].pop("personal", None)
    if job.own.rows:
        found["examples"] = {}  # rejected texts may be a person's own, and the files may go to others
    found |= {key: told.get(key, "") for key in ("policy", "why")}
    found |= {} if kept is None else {"relabelled": True}
    return {"settings": stamps, "funnel": {**found, "people": filters.by_people(job.run, job.task)}}
