"""The runs of one base as a folder for llama-server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local import prompts
from sg_local.backends import makes_weights
from sg_local.job.begun import job_for_run
from sg_local.job.export import export_job
from sg_local.job.job import OpenRun
from sg_local.job.label_bias import kept_bias, measure_bias
from sg_local.job.layouts import tuned_form
from sg_local.job.options import Home, Options
from sg_local.job.required import needs
from sg_local.models.header import header_info
from sg_local.records import SgError
from sg_local.run import ADAPTER, Run, check_name, list_runs

if TYPE_CHECKING:
    from sg_local.evaluate.label_bias import LabelBias
    from sg_local.export.llama_server import ServedAdapter


@dataclass(frozen=True)
class WrittenPreset:
    """A preset's path, the runs in it by name, and what is to be said of this run's labels."""

    path: Path
    names: tuple[str, ...]
    said: tuple[str, ...] = ()


def write_preset(job: OpenRun, options: Options, home: Home, folder: Path) -> WrittenPreset:
    """Write a preset with this run and all other tuned runs of its base here.

    For this run's labels the model is asked, once; the other runs' offsets stand there where they were measured before.
    Raises SgError without an adapter, and (usage) for a path that a preset cannot hold.
    """
    from sg_local.export import llama_server

    needs(job, ADAPTER, "train")
    others = [run.name for run in list_runs(job.run.root.parent) if run.name != job.run.name and _is_alike(job, run)]
    bare = job.plan["export"].without_demonstrations
    jobs = [job, *(job_for_run(name, options, home) for name in others)]
    said = _said_of_labels(job, bare=bare)
    served = [_served(one, bare=bare) for one in jobs]
    path = llama_server.write_preset(folder, served)
    if served[0].bias:
        said += (
            f"Send {folder / served[0].name}.request.json along with each request, or start that run alone:",
            f"  {llama_server.alone(folder, served[0])}",
        )
    return WrittenPreset(path, tuple(one.name for one in served), said)


def _said_of_labels(job: OpenRun, *, bare: bool) -> tuple[str, ...]:
    """What is to be said of a run's labels; nothing is measured for prompts without the examples."""
    from sg_local.export.scores import NO_BIAS

    if bare:
        return (NO_BIAS,) if job.task.labels else ()
    bias = _bias_of(job)
    return () if bias is None else (bias.said,)


def _bias_of(job: OpenRun) -> LabelBias | None:
    """What this run's labels need, measured where it was not before; an export's card tells of it."""
    from sg_local.export import add_scores
    from sg_local.job.stages import still_sealed

    if (known := kept_bias(job)) is not None or not job.task.labels:
        return known
    with job.lock():
        found = measure_bias(job)
        if makes_weights(job.trainer):
            with still_sealed(job, "eval"):
                add_scores(export_job(job))
    return found


def _is_alike(job: OpenRun, run: Run) -> bool:
    """Whether a run is tuned, from the same base. One that cannot be read, or has no usable name, is passed over."""
    try:
        check_name(run.name)
        return run.path(ADAPTER).exists() and run.settings["model"]["digest"] == job.record["model"]["digest"]
    except SgError:
        return False


def _served(job: OpenRun, *, bare: bool) -> ServedAdapter:
    """A run as llama-server gets it; `bare` leaves the examples out of its template, and the offsets with them."""
    from sg_local.export.llama_server import ServedAdapter
    from sg_local.export.template import task_template

    info = header_info(job.base.path)
    form = tuned_form(job, prompts.form_of(info, job.form_name, job.base.template))
    bias = kept_bias(job) if job.task.labels and not bare else None
    return ServedAdapter(
        name=job.run.name,
        base=job.base.path.resolve(),
        adapter=job.run.path(ADAPTER).resolve(),
        template=task_template(
            job.task, form, add_bos=info.add_bos, examples=() if bare else form.shown(job.task.examples)
        ),
        labels=tuple(prompts.answer_text(form, label) for label in job.task.labels),
        n_ctx=min(job.n_ctx, info.n_ctx_train),
        bias=tuple(zip(bias.tokens, bias.bias, strict=True)) if bias is not None and bias.is_offered else (),
    )
