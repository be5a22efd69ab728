"""Runs as the server has them: tasks, forms, calibrations and adapters of many runs on one base that is loaded once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sg_local.backends import Generator
from sg_local.calibration import UNFITTED
from sg_local.job.answering import Asking, Labels, answerer, check_asking
from sg_local.job.begun import job_for_run
from sg_local.job.calibrating import calibration_of, read_kept
from sg_local.job.engine import KEY
from sg_local.job.job import OpenRun
from sg_local.job.layouts import asked_form
from sg_local.job.options import Home, Options
from sg_local.job.required import check_base, needs
from sg_local.records import SgError
from sg_local.report.records import TUNED
from sg_local.run import ADAPTER, RUN, Run, find_run, list_runs, open_run

if TYPE_CHECKING:
    from sg_local.serve import Labeller, Registry, Service, Source

logger = logging.getLogger(__name__)

BASE = "base"
"""The untuned base's name among the models."""


@dataclass(frozen=True)
class Manner:
    """How runs are served: `labels` as `Asking` has them; labels less probable than `abstain` become "unsure"."""

    labels: Labels = "likeliest"
    abstain: float = 0.0


PLAINLY = Manner()


def service_of(job: OpenRun, manner: Manner = PLAINLY, *, base: bool = False, fit: bool = True) -> Service:
    """The service of a run, or of its base; opens the engine.

    With `fit` probabilities, and means of labels, are fitted where they were not before, which the engine must be free
    for.

    Raises SgError (usage) for what does not go with the task, without an adapter, and for labels by ensemble that have
    too few inputs to centre on, or are to be a tuned model's.
    """
    from sg_local import serve

    asking = Asking(base, manner.labels, abstain=manner.abstain)
    check_asking(asking, job.task)
    tuned = not (base or job.alone)
    labeller = _labeller(job, asking) if manner.labels == "ensemble" else None
    calibration, way = UNFITTED, "calibrated" if manner.labels == "calibrated" else "likeliest"
    if job.task.labels and fit and labeller is None:
        calibration = calibration_of(job, way, base=base)
    elif job.task.labels and labeller is None:
        calibration = read_kept(job).get(TUNED, {}).get(way, UNFITTED)
    adapter = job.run.path(ADAPTER) if tuned else None
    return serve.Service(
        name=job.run.name,
        chat=job.forms[0] if job.forms[0].template is not None else None,
        task=job.task,
        form=asked_form(job, base=base),
        calibration=calibration,
        abstain=manner.abstain,
        adapter=adapter,
        version=BASE if adapter is None else str(_state(adapter)),
        settings=job.serve_settings(restricted=manner.labels != "free"),
        labeller=labeller,
    )


def _labeller(job: OpenRun, asking: Asking) -> Labeller:
    """The base's labels by ensemble, centred on the run's inputs as `predict` has them. Raises SgError (usage)."""
    from sg_local import serve

    check_ensemble(asking.labels, base=asking.base)
    who, way = answerer(job, asking)
    assert isinstance(way, serve.Ensemble)
    return serve.Labeller(who, way)


def check_ensemble(labels: Labels, *, base: bool) -> None:
    """Raises SgError (usage) for labels by ensemble of a tuned model, which nothing measures."""
    if labels == "ensemble" and not base:
        hint = "Give `base` to serve the untuned model, or leave `labels` out."
        raise SgError("Labels by ensemble are served from the untuned model.", hint, exit_code=2)


class Served:
    """The runs that a server answers for, and their engine. The first job's engine and base serve all."""

    def __init__(self, job: OpenRun, options: Options, home: Home, manner: Manner = PLAINLY) -> None:
        self.job, self._options, self._home, self._manner = job, options, home, manner
        self._answering: Registry | None = None

    @property
    def generator(self) -> Generator:
        """The engine, without an adapter: each request names its own."""
        return self.job.generator

    def registry(self, names: Sequence[str]) -> Registry:
        """The models of these runs, and the base. Raises SgError for the first that cannot be served."""
        from sg_local import serve

        registry = serve.Registry(self.source)
        for name in names:
            registry.put(self.source(name))
        if BASE not in names:
            registry.put(serve.Source(self._base))
        self.generator.use_adapter(None)  # fitting has left one on
        self._answering = registry
        return registry

    def source(self, name: str) -> Source:
        """Where a run's service comes from: it is read anew when its adapter or its run.json change."""
        from sg_local import serve

        run = open_run(self._options.runs, name)
        return serve.Source(
            lambda: self._service(name, fit=False),
            lambda: (_state(run.path(RUN)), _state(run.path(ADAPTER))),
            lambda: self._service(name, fit=True),
        )

    def _service(self, name: str, *, fit: bool) -> Service:
        job = job_for_run(name, self._options, self._home)
        self._check_alike(job)
        needs(job, ADAPTER, "train")
        answering = self._answering
        if said := self._computed_otherwise(job):
            (self.job.said.append if answering is None else logger.warning)(said)
        engine = self.generator if answering is None else answering.beside
        job.opened.append(engine or self.generator)
        manner = self._manner
        if not job.task.labels:
            manner = Manner("free" if manner.labels == "free" else "likeliest")
        return service_of(job, manner, fit=fit and engine is not None)

    def _check_alike(self, job: OpenRun) -> None:
        """Raises SgError (usage) for a run of another base, and SgError where the base's file is another by now."""
        own, other = (one.record["model"] for one in (self.job, job))
        if own["digest"] != other["digest"]:
            message = f"Run {job.run.name} was made from {other['name']}, and this server has {own['name']}."
            raise SgError(message, "Serve it by a server of its own, at another `port`.", exit_code=2)
        check_base(job)

    def _computed_otherwise(self, job: OpenRun) -> str:
        """What is to be said of a run whose rows were made in another format than the one engine computes in."""
        choice, kept = getattr(self.generator, "choice", None), job.record.get(KEY)
        if choice is None or not kept or kept["format"] == choice.format:
            return ""
        return (
            f"Run {job.run.name} was made in {kept['format']}, and this server computes in {choice.format}: "
            "some of its answers may not be those that it gives alone."
        )

    def _base(self) -> Service:
        from sg_local import serve

        chat = self.job.forms[0] if self.job.forms[0].template is not None else None
        return serve.Service(BASE, chat, settings=self.job.serve_settings())

    def close(self) -> None:
        """Let go of the engine."""
        self.job.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_served(names: Sequence[str], options: Options, home: Home, manner: Manner = PLAINLY) -> Served:
    """What is served for these runs, the first of which decides the base; nothing is loaded yet."""
    check_ensemble(manner.labels, base=False)
    job = job_for_run(names[0], options, home)
    check_base(job)
    needs(job, ADAPTER, "train")
    return Served(job, options, home, manner)


def full_names(options: Options, names: Sequence[str]) -> tuple[str, ...]:
    """The runs' whole names, each once, or their folders where those are elsewhere; what is no run stays as it is."""
    found = []
    for name in names:
        run = find_run(options.runs, name)
        is_here = run is not None and run.root.parent == options.runs
        found.append(name if run is None else run.name if is_here else str(run.root))
    return tuple(dict.fromkeys(found))


def tuned_runs(options: Options, like: str | None = None) -> list[str]:
    """The names of all runs with an adapter on one base: that of the run `like`, else the one base that they have.

    Raises SgError (usage) where there is none, or where they have several bases.
    """
    bases: dict[str, list[str]] = {}
    for run in list_runs(options.runs):
        if run.path(ADAPTER).is_file():
            bases.setdefault(_base_of(run)["digest"], []).append(run.name)
    if like is not None:
        return bases.get(_base_of(open_run(options.runs, like)).get("digest", ""), [])
    if not bases:
        raise SgError(f"There is no trained run in {options.runs}.", "Make one with `run TASK`.", exit_code=2)
    if len(bases) > 1:
        told = "; ".join(", ".join(names) for names in bases.values())
        hint = "Name a run of the base that you want."
        raise SgError(f"The runs here have several bases: {told}.", hint, exit_code=2)
    return next(iter(bases.values()))


def _base_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.settings.get("model", {})
    return found


def _state(path: Path) -> tuple[int, int, int] | None:
    """What tells that a file was written anew; None where it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
