"""A job: one run folder with its task, model and settings, and the engine that is opened when first needed.

A run remembers the options that made it (run.json). Opening a job (`begun`) writes nothing: run.json is written under
the run's lock, when work begins (`OpenRun.lock`), and taken back when that work is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from sg_local import limits, prompts
from sg_local.backends import (
    Beside,
    EngineSettings,
    Generator,
    asks_server,
    open_generator,
)
from sg_local.backends.openai.address import KEY, Reach, access_of
from sg_local.files import remove
from sg_local.home import secret
from sg_local.job import preflight, presets
from sg_local.job.base import Base
from sg_local.job.endpoint import check_address
from sg_local.job.engine import held_engine, loading, with_engine
from sg_local.job.options import Budget, Tables
from sg_local.job.own import FOLDER, OwnData
from sg_local.job.plan import Plan
from sg_local.job.required import check_base, needs
from sg_local.prompts import Form
from sg_local.records import SgError, Task
from sg_local.run import ADAPTER, INPUTS, RUN, Run

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from sg_local.serve import ServeSettings


@dataclass
class OpenRun:
    """What every stage needs. Close it to let go of the engine.

    `record` is what run.json shall hold once work begins, `found` what it held when the job was opened (None: a new
    run). `said` is to be told before the first stage; `own` is a person's own data; `hear` is told what takes
    a while. A job that is `alone` asks the untuned base of a task without a run (`asking`): no stage can work in it.
    """

    run: Run
    task: Task
    base: Base
    backend: str
    trainer: str
    seed: int
    form_name: str
    plan: Plan
    record: dict[str, Any]
    found: dict[str, Any] | None = None
    redo: bool = False
    alone: bool = False
    opened: list[Generator] = field(default_factory=list)
    worked: bool = False
    looked: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)
    own: OwnData = field(default_factory=OwnData)
    budget: Budget = Budget()
    reach: Reach = "here"
    is_locked: bool = False
    hear: Callable[[str], None] = lambda what: None

    @property
    def generator(self) -> Generator:
        """The engine, loaded on first use: in the format and with as many sequences as the run's rows were made with.

        The trial that chooses these goes by the clock, and other ones may write other rows from the same seed.
        """
        if not self.opened:
            asked = held_engine(self.backend, self.plan["engine"], self.record)
            self.hear(loading(self.base.name, self.backend, asked))
            self.opened.append(self._open(asked))
            self._know_engine(asked)
            self.hear("preparing the first prompts")
        return self.opened[0]

    def _open(self, asked: EngineSettings) -> Generator:
        """The engine; `asked` are the settings of the one on this machine, which a server has beside it."""
        if not asks_server(self.backend):
            return open_generator(self.backend, self.base.path, asked)
        beside = Beside(asked, lambda: self._know_engine(asked))
        access = access_of(self.reach, secret(KEY))
        return open_generator(self.backend, self.base.path, self.plan["engine"], access, beside)

    def _know_engine(self, asked: EngineSettings) -> None:
        """Record what the engine on this machine runs; one beside a server opens in the middle of a stage."""
        before = self.record
        self.record, said = with_engine(before, self.opened[0], asked)
        self.said.extend(said)
        if self.is_locked and self.record != before and asks_server(self.backend):
            self._write(self.record)

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """Every form the base can answer in."""
        return tuple(map(self._as_begun, prompts.forms_of(self.generator.info, self.base.template)))

    @cached_property
    def form(self) -> Form:
        """The form that the base is asked in (the adapter: layouts.tuned_form). The plain one asks for no template."""
        return self._as_begun(prompts.form_of(self.generator.info, self.form_name, self.base.template))

    def _as_begun(self, form: Form) -> Form:
        """The form with the end that answers had when the run began: 0.1.0 knew end-of-sequence only."""
        if "form" not in self.record or "turn_end" in self.record:  # begun today, or not yet
            return form
        return dataclasses.replace(form, end="")

    @property
    def n_ctx(self) -> int:
        """The tokens that prompt and answer may take in training and in serving: what the evaluation has, too."""
        return int(min(self.plan["engine"].n_ctx, self.plan["eval"].n_ctx))

    @property
    def room(self) -> int:
        """The tokens of a sequence that no stage and no training of the model goes beyond."""
        return int(min(self.n_ctx, self.plan["synth"].n_ctx, self.generator.info.n_ctx_train))

    def serve_settings(self, **own: Any) -> ServeSettings:
        """How the run is served: with the context and the longest answer that it was evaluated with."""
        from sg_local.serve import ServeSettings

        return ServeSettings(n_ctx=self.n_ctx, max_tokens=self.plan["eval"].max_tokens, **own)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for work: run.json says from now on what this job is made with.

        A failure before any stage was finished leaves run.json as it was. Raises SgError when another process holds
        the run, or has changed its run.json since this job was opened.
        """
        if self.alone:
            hint = f"Begin a run with `run {self.task.name}`."
            raise SgError("This job asks the untuned model alone: it has no run to work in.", hint)
        new = not self.run.root.exists()
        with self.run.lock(), limits.within(self.budget.ram_bytes):
            if self._on_disk() != self.found:
                message = f"Run {self.run.name} was changed by another process in the meantime."
                raise SgError(message, "Run the same command again, or choose another `name`.")
            check_address(self.plan["engine"].endpoint)
            before = self.found
            self.own.save(self.run)
            self._write(self.record)
            self.is_locked = True
            try:
                yield
            except Exception:
                if not self.worked:
                    self._write(before)
                raise
            else:
                self.own.prune(self.run)
            finally:
                self.is_locked = False
                if new and not self.run.exists():
                    self.run.discard_if_empty()

    def remember(self, tables: Tables) -> None:
        """Keep changed settings in run.json, as if they had been given when the job was opened. Hold the lock."""
        self.keep_record({**self.record, "set": presets.merged(self.record.get("set", {}), tables)})

    def keep_record(self, record: dict[str, Any]) -> None:
        """Make this what run.json holds. Hold the lock."""
        self.record = record
        self._write(record)

    def adapted(self, *, base: bool = False) -> Generator:
        """The engine with the run's adapter on, or the bare base. Raises SgError without an adapter."""
        check_base(self)
        if tuned := not (base or self.alone):
            needs(self, ADAPTER, "train")
        self.generator.use_adapter(self.run.path(ADAPTER) if tuned else None)
        return self.generator

    def look_ahead(self, stages: Collection[str]) -> None:
        """Raise the first SgError that one of these stages, still to come, would end in; each is looked at once."""
        if not self.looked or not self.looked.issuperset(stages):
            with limits.within(self.budget.ram_bytes):
                preflight.check(self, stages)
            self.looked.update(stages)

    def close(self) -> None:
        """Let go of the engine."""
        while self.opened:
            self.opened.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _on_disk(self) -> dict[str, Any] | None:
        return self.run.settings if self.run.exists() else None

    def _write(self, data: dict[str, Any] | None) -> None:
        """Make run.json hold this; None takes away that of a new run which has no rows yet."""
        if data is not None and (data := _plain(data)) != self.found:
            self.run.write_json(RUN, data)
            self.found = data
        elif data is None and not self.run.path(INPUTS).exists():
            self.run.path(RUN).unlink(missing_ok=True)
            remove(self.run.path(FOLDER))
            self.found = None


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Data as JSON gives it back: lists for tuples, texts for paths."""
    return dict(json.loads(json.dumps(data, default=str)))
