"""The Python face of a job: run its stages, ask the tuned model. `opening` reads tasks and opens jobs.

    import sg_local as sg

    with sg.open_job(sg.load_task("support_routing")) as job:
        job.run(listen=print)
        print(job.predict(["Where is my parcel?"]))

Everything that the command line does with a run goes through the same stages. Nothing here prints, asks or reads a
config file; of the environment only the folders of models and caches are read, and `home` names others. Nothing asks
the network, and libraries that are imported after a job was opened tell nobody of their use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sg_local.calibration import UNSURE
from sg_local.job.answering import Asking, Labels, check_asking
from sg_local.job.calibrating import calibration_of
from sg_local.job.events import Listener, deaf
from sg_local.job.job import OpenRun
from sg_local.job.layouts import asked_form
from sg_local.job.options import Tables
from sg_local.job.rows import JobRow, rows_of
from sg_local.records import SgError, Task
from sg_local.run import ADAPTER, FUSED
from sg_local.tables import Columns

if TYPE_CHECKING:
    from sg_local.evaluate import BaseScores
    from sg_local.filters import Funnel
    from sg_local.job.events import Forecast, Prospect
    from sg_local.job.known import Against
    from sg_local.job.predict import AnsweredFile
    from sg_local.report import FileScore, Report


class Job:
    """One run: its task, model and settings, and the stages that fill its folder.

    Made by `open_job` and `load`. A context manager: leaving it lets go of the engine. Stages hold the run's lock
    while they work; one that is finished with the same settings and inputs returns at once, one that was finished
    with others raises SgError, or is made again with `redo=True`. Every failure that a user can fix is an SgError.
    """

    def __init__(self, opened: OpenRun) -> None:
        self._opened = opened

    @property
    def name(self) -> str:
        """The run's name; of a base alone, the name that its run would have."""
        return self._opened.run.name

    @property
    def folder(self) -> Path:
        """The run's folder: journals of rows, the adapter, exported files, report.json."""
        return self._opened.run.root

    @property
    def task(self) -> Task:
        """The task as the run has it."""
        return self._opened.task

    @property
    def opened(self) -> OpenRun:
        """The run as the rooms see it (plan, form, engine, journals), for whoever builds on them; it may change."""
        return self._opened

    def synth(self, *, redo: bool = False, listen: Listener = deaf) -> tuple[JobRow, ...]:
        """Let the model write inputs and outputs; every row, as `rows` gives them."""
        self._perform("synth", redo, listen)
        return self.rows()

    def filter(self, settings: Tables | None = None, *, redo: bool = False, listen: Listener = deaf) -> Funnel:
        """Judge the rows by rules; how many each step and rule left.

        `settings` change filter settings, such as {"near_duplicate": {"threshold": 0.8}}; the run remembers them.
        """
        from sg_local import filters
        from sg_local.job.filter import refilter

        if settings:
            with self._opened.lock():
                refilter(self._opened, settings)
        else:
            self._perform("filter", redo, listen)
        return filters.funnel(self._opened.run, self.task)

    def train(self, *, redo: bool = False, listen: Listener = deaf) -> Path:
        """Finetune the LoRA adapter on the kept rows; the adapter's GGUF file, which fits the unmodified base."""
        self._perform("train", redo, listen)
        return self._opened.run.path(ADAPTER)

    def export(self, *, redo: bool = False, listen: Listener = deaf) -> tuple[Path, ...]:
        """Write the files that other programs load; the paths of the fused GGUF files.

        Raises SgError with exit code 3 where a file lost the tuning and none passed its gate.
        """
        self._perform("export", redo, listen)
        return tuple(sorted(self.folder.glob(FUSED)))

    def evaluate(self, *, redo: bool = False, listen: Listener = deaf) -> Report:
        """Answer the task's test rows with every system, and report the scores with confidence intervals."""
        self._perform("eval", redo, listen)
        return self.report

    def evaluate_base(self, *, listen: Listener = deaf) -> BaseScores:
        """What the untuned model scores on the test rows, by every way to ask it; needs no stage, writes nothing."""
        from sg_local.job.evaluate import evaluate_base

        return evaluate_base(self._opened, listen)

    def evaluate_file(self, file: str | Path, *, prompt: str = "run", listen: Listener = deaf) -> FileScore:
        """What a GGUF's own answers to the test rows are worth, each way of answering paired with the adapter's.

        Any file of the base's architecture and vocabulary will do, whoever made it. `prompt` is "run", for the run's
        prompts, or "chat", for those of the file's own chat template. A run that has no report is evaluated first.
        """
        from sg_local.job.shipping import asked_file, score_file

        asked = asked_file(self._opened, Path(file), prompt)
        self._perform("eval", False, listen)
        with self._opened.lock():
            return score_file(self._opened, asked, listen)

    def run(self, *, listen: Listener = deaf) -> Report | None:
        """All stages one after the other, going on where an earlier try stopped; the report.

        None where the task has no test rows: then the files are made, and nothing is measured. Where no fused file
        passes its gate, the adapter is evaluated all the same, then the export's SgError is raised (exit code 3).
        """
        from sg_local.job.stages import perform_all

        with self._opened.lock():
            refused = perform_all(self._opened, listen)
        if refused is not None:
            raise refused
        return self.report if self.task.tests else None

    def forecast(self) -> Forecast | None:
        """What the stages to come will take here: memory, disk and time each, and the rows that this assumes.

        Writes nothing. None for the scripted backend, which needs no model.
        """
        from sg_local.job.stages import foreseen

        return foreseen(self._opened)

    def prospect(self) -> Prospect | None:
        """What the synthesised rows tell before training: whether this model knows the task better than by chance.

        None for a generation task and where there are too few rows. Reads no test row and opens no engine.
        """
        from sg_local.job.prospect import prospect

        return prospect(self._opened)

    def predict(
        self, texts: Iterable[str], *, base: bool = False, free: bool = False, abstain: float = 0.0
    ) -> list[str]:
        """The tuned model's answer for each text, in order; `base` asks the untuned model.

        A classification answers with one of its labels, a task with a schema with JSON that fits it, unless `free`.
        Where the likeliest is less probable than `abstain`, it says "unsure". Raises SgError before there is an
        adapter, and for a text that does not fit the model's context.
        """
        if abstain:
            check_asking(Asking(base, "free" if free else "likeliest", abstain=abstain), self.task)
            found = self.predict_proba(texts, base=base)
            return [max(p, key=p.__getitem__) if max(p.values()) >= abstain else UNSURE for p in found]
        from sg_local import serve

        settings = self._opened.serve_settings(restricted=not free)
        generator = self._opened.adapted(base=base)
        return list(serve.predict(generator, self.task, asked_form(self._opened, base=base), texts, settings))

    def predict_file(
        self,
        source: str | Path,
        out: str | Path,
        *,
        columns: Mapping[str, str] | None = None,
        redo: bool = False,
        listen: Listener = deaf,
        **asked: Any,
    ) -> AnsweredFile:
        """Answer every row of a file (CSV, JSON lines and others), and write the rows with their answers to another.

        Killed, the same call goes on. A row that cannot be answered says why in the column `error`. `columns` names
        the column of the inputs, such as {"input": "Body"}; `redo` replaces an `out` that is there. Further options:
        `base`, `votes` (samples that elect each answer), `probabilities` (of every label), `labels` ("likeliest",
        "calibrated", "ensemble", "free"), `abstain` (the probability below which an answer is "unsure").
        """
        from sg_local.job.predict import FileToAnswer, predict_file

        check_options(asked, "predict_file", {"base", "votes", "probabilities", "labels", "abstain"})
        check_options(columns or {}, "columns", {"input", "output"})
        file = FileToAnswer(Path(source), Path(out), Columns(**(columns or {})), redo)
        return predict_file(self._opened, file, Asking(**asked), listen)

    def label(self, texts: Iterable[str], *, labels: Labels | None = None, against: Against = "written") -> list[str]:
        """A label for each text by the untuned model, in order; needs no stage, and no run is begun.

        `labels` says how they are chosen: "ensemble", "calibrated" or "likeliest"; None is the ensemble, or calibrated
        labels where too few inputs are known. Each label's mean score over known
        inputs is taken off first: the run's or such that the model writes once ("written"), the texts themselves where
        there are eight or more ("rows"), or such that say nothing ("nothing"). Raises SgError for a task without
        labels, and for a text that does not fit the model's context.
        """
        from sg_local.job.labelling import instant, label_texts

        return label_texts(self._opened, list(texts), instant(labels, against))

    def label_file(
        self,
        source: str | Path,
        out: str | Path,
        *,
        against: Against = "written",
        columns: Mapping[str, str] | None = None,
        redo: bool = False,
        listen: Listener = deaf,
        **asked: Any,
    ) -> AnsweredFile:
        """Label every row of a file by the untuned model, as `label` does, and write them as `predict_file` does.

        Further options: `labels`, `probabilities`, `abstain`.
        """
        from sg_local.job.labelling import instant, label_file
        from sg_local.job.predict import FileToAnswer

        check_options(asked, "label_file", {"labels", "probabilities", "abstain"})
        check_options(columns or {}, "columns", {"input", "output"})
        file = FileToAnswer(Path(source), Path(out), Columns(**(columns or {})), redo)
        return label_file(self._opened, file, instant(against=against, **asked), listen)

    def predict_proba(self, texts: Iterable[str], *, base: bool = False) -> list[dict[str, float]]:
        """For each text, every label's probability under the tuned model, in the task's order of labels; sums to 1.

        The likeliest label is the one that `predict` answers with. The numbers are those of `serve` and the report,
        with the temperature that was fitted on validating rows. Raises SgError for a generation task.
        """
        from sg_local import serve

        if not self.task.labels:
            raise SgError(f"Task {self.task.name} has no labels.", "Use predict: its answers are free text.")
        calibration = calibration_of(self._opened, "likeliest", base=base)
        settings = self._opened.serve_settings()
        generator = self._opened.adapted(base=base)
        scores = serve.label_scores(generator, self.task, asked_form(self._opened, base=base), texts, settings)
        return [dict(zip(self.task.labels, calibration.probabilities(found), strict=True)) for found in scores]

    def rows(self) -> tuple[JobRow, ...]:
        """Every synthesised pair with the last verdict on it, in the order of synthesis; empty before `synth`."""
        return rows_of(self._opened.run)

    @property
    def report(self) -> Report:
        """The last evaluation. Raises SgError before there was one."""
        from sg_local.report import read_report

        return read_report(self._opened.run)

    def close(self) -> None:
        """Let go of the engine; the next call that needs it opens it again."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _perform(self, stage: str, redo: bool, listen: Listener) -> None:
        from sg_local.job.stages import perform

        with self._opened.lock():
            perform(self._opened, stage, listen, again=redo)


def check_options(given: Iterable[str], what: str, known: set[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        hint = f"It has: {', '.join(sorted(known))}."
        raise SgError(f"{what} has no option {unknown[0]!r}.", hint, exit_code=2)
