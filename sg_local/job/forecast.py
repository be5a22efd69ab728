"""What each stage of a job will take on this machine, told before it begins: memory, disk, seconds.

Memory and disk follow from the model's header and the settings (job.resources), time from the work that the rows are
(job.work_ahead) and the pace that is known (job.paces). What a stage then took stands beside it in run.json.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sg_local.backends import makes_weights, needs_model
from sg_local.job import paces
from sg_local.job.events import Forecast, RowsAhead, Source, StageForecast
from sg_local.job.rows_ahead import rows_ahead
from sg_local.job.work_ahead import work_of
from sg_local.run import FORECAST, MEASURED

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun
    from sg_local.job.meter import Took

FILTER_S = 0.5


def forecast(job: OpenRun, stages: Collection[str]) -> Forecast | None:
    """The forecast of these stages; None for engines that work without a model."""
    if not needs_model(job.backend):
        return None
    from sg_local.job import disk, resources

    if any(stage in ("synth", "eval") and not paces.is_measured(job, stage) for stage in stages):
        _ = job.generator  # whose trial tells how fast it writes
    rows = rows_ahead(job)
    on_disk = disk.disk_by_stage(job, stages)
    found = []
    for stage in stages:
        if stage in ("train", "export") and not makes_weights(job.trainer):
            continue
        memory = resources.memory_of(job, stage)
        seconds, source = _seconds(job, stage, rows, stages)
        found.append(StageForecast(stage, memory, on_disk.get(stage, 0), seconds, source))
    return Forecast(rows, tuple(found))


def _seconds(job: OpenRun, stage: str, rows: RowsAhead, stages: Collection[str]) -> tuple[float | None, Source]:
    if stage == "filter":
        return FILTER_S, "measured"
    work, pace = work_of(job, stage, rows, stages), paces.pace_of(job, stage)
    if pace is None:
        return None, "probed"
    return work.fixed_s + work.passes / pace.passes_per_s, pace.source


def note(job: OpenRun, stage: str, took: Took, *, whole: bool) -> None:
    """Keep what a stage took in run.json, and its pace for the next forecast where it was done `whole`."""
    facts = {"seconds": round(took.seconds, 1), "peak_bytes": took.peak_bytes}
    job.keep_record({**job.record, MEASURED: {**job.record.get(MEASURED, {}), stage: facts}})
    if whole and needs_model(job.backend) and stage != "filter":
        work = work_of(job, stage, rows_ahead(job))
        paces.keep(job, stage, work.passes, took.seconds - work.fixed_s)


def keep(job: OpenRun, found: Forecast) -> None:
    """Keep a forecast in run.json, beside what stages finished before had."""
    stages = {one.stage: {**asdict(one), "stage": one.stage} for one in found.stages}
    before: Mapping[str, Any] = job.record.get(FORECAST, {}).get("stages", {})
    job.keep_record({**job.record, FORECAST: {"rows": asdict(found.rows), "stages": {**before, **stages}}})
