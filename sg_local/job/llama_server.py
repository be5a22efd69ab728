"""The runs of one base as a folder for llama-server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sg_local import prompts
from sg_local.job.job import OpenRun, job_for_run
from sg_local.job.options import Home, Options
from sg_local.job.required import needs
from sg_local.models.header import header_info
from sg_local.records import SgError
from sg_local.run import ADAPTER, Run, check_name, list_runs

if TYPE_CHECKING:
    from sg_local.export.llama_server import ServedAdapter


def write_preset(job: OpenRun, options: Options, home: Home, folder: Path) -> tuple[Path, list[str]]:
    """Write a preset with this run and all other tuned runs of its base here; its path and the runs' names.

    No engine is opened. Raises SgError without an adapter, and (usage) for a path that a preset cannot hold.
    """
    from sg_local.export import llama_server

    needs(job, ADAPTER, "train")
    others = [run.name for run in list_runs(job.run.root.parent) if run.name != job.run.name and _is_alike(job, run)]
    bare = job.plan["export"].without_demonstrations
    jobs = [job, *(job_for_run(name, options, home) for name in others)]
    served = [_served(one, bare=bare) for one in jobs]
    return llama_server.write_preset(folder, served), [one.name for one in served]


def _is_alike(job: OpenRun, run: Run) -> bool:
    """Whether a run is tuned, from the same base. One that cannot be read, or has no usable name, is passed over."""
    try:
        check_name(run.name)
        return run.path(ADAPTER).exists() and run.settings["model"]["digest"] == job.record["model"]["digest"]
    except SgError:
        return False


def _served(job: OpenRun, *, bare: bool) -> ServedAdapter:
    """A run as llama-server gets it; `bare` leaves the task's examples out of its template."""
    from sg_local.export.llama_server import ServedAdapter
    from sg_local.export.template import task_template

    info = header_info(job.base.path)
    form = prompts.form_of(info, job.form_name, job.base.template)
    return ServedAdapter(
        name=job.run.name,
        base=job.base.path.resolve(),
        adapter=job.run.path(ADAPTER).resolve(),
        template=task_template(job.task, form, add_bos=info.add_bos, examples=() if bare else None),
        labels=job.task.labels,
        n_ctx=min(job.n_ctx, info.n_ctx_train),
    )
