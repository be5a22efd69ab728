"""A file of rows becomes a file of answers: the rows as they are, and beside them what the run answers.

Every answer is kept at once in a journal beside the file to be, so that the same call goes on after a kill; the file
gets its name when all of it is there. A kept answer counts for the same text, asked in the same way of the same weights
(answering.fingerprint), wherever the row stands by then. A row that cannot be answered says so in its own line.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.files import held, remove, translated
from sg_local.job.answering import Asking, answerer, fingerprint, temperature_of
from sg_local.job.events import Began, Ended, Listener, Moved, PredictEvent, Said, deaf
from sg_local.job.job import OpenRun
from sg_local.job.sheet import KeptAnswer, Sheet
from sg_local.journals import JournalFile
from sg_local.records import SgError, row_id, to_json
from sg_local.tables import Columns, Table, form_of, read_table, write_table
from sg_local.words import counted

if TYPE_CHECKING:
    from sg_local.serve import RowAnswer

KEEP_S = 1.0
"""The most work, in seconds, that a kill may cost."""
KEEP_ROWS = 64
N_LATEST = 3
ANY, PLAINLY = Columns(), Asking()


@dataclass(frozen=True)
class AnsweredFile:
    """What became of a file of `n` rows: `n_failed` could not be answered, `n_kept` had been by an earlier try."""

    path: Path
    n: int
    n_failed: int
    n_kept: int
    seconds: float


@dataclass
class Answers:
    """The answers to a table's rows, kept and new. `failed` holds why a text has none."""

    table: Table
    ids: tuple[str, ...]
    journal: JournalFile
    known: dict[str, KeptAnswer]
    failed: dict[str, str] = field(default_factory=dict)
    fresh: list[KeptAnswer] = field(default_factory=list)
    kept_at: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(cls, table: Table, made_by: str, journal: JournalFile) -> Answers:
        """The answers that a journal has for a table's rows."""
        ids = tuple(row_id(made_by, row.input) for row in table.rows)
        wanted = set(ids)
        return cls(table, ids, journal, {row.id: row for row in journal.read(KeptAnswer) if row.id in wanted})

    @property
    def n_known(self) -> int:
        """The rows whose answer is known."""
        return sum(id in self.known for id in self.ids)

    @property
    def open_texts(self) -> dict[str, str]:
        """The texts that are still to be answered, each once, by id."""
        rows = zip(self.ids, self.table.rows, strict=True)
        return {id: row.input for id, row in rows if not row.error and id not in self.known}

    def take(self, id: str, answer: RowAnswer) -> None:
        """A new answer; kept with others within a second."""
        if answer.failed is not None:
            self.failed[id] = answer.failed.message
            return
        self.known[id] = kept = KeptAnswer(id, answer.text, answer.scores, answer.share, answer.seconds)
        self.fresh.append(kept)
        if len(self.fresh) >= KEEP_ROWS or time.monotonic() - self.kept_at >= KEEP_S:
            self.keep()

    def keep(self) -> None:
        """Write what is new to the journal."""
        if self.fresh:
            with translated(self.journal.path):
                self.journal.append("".join(to_json(row) + "\n" for row in self.fresh))
        self.fresh, self.kept_at = [], time.monotonic()

    def rows(self, sheet: Sheet) -> Iterator[dict[str, object]]:
        """Every row of the table with its answer, or with why it has none."""
        for id, row in zip(self.ids, self.table.rows, strict=True):
            yield sheet.row(row, self.known.get(id), self.failed.get(id, ""))


@dataclass(frozen=True)
class FileToAnswer:
    """A file of rows, which of its columns are meant, and where the answers go; `redo` replaces what is there."""

    source: Path
    out: Path
    columns: Columns = ANY
    redo: bool = False

    @property
    def journal(self) -> Path:
        """Where the answers are kept until all are there, whatever form the file is to have."""
        return self.out.with_name(f".{self._name}.partial.jsonl")

    @property
    def lock(self) -> Path:
        """The file by which one process alone answers."""
        return self.out.with_name(f".{self._name}.lock")

    @property
    def _name(self) -> str:
        return Path(self.out.name.removesuffix(".gz")).stem

    def check(self) -> None:
        """Raises SgError (usage) where the answers would replace a file unasked, or have no form."""
        form_of(self.out)
        if not self.out.exists():
            return
        if self.source.exists() and self.out.samefile(self.source):
            raise SgError(f"{self.out} is the file to be answered.", "Give another `out`.", exit_code=2)
        if not self.redo:
            hint = "Give another `out`, or `redo` to replace it."
            raise SgError(f"{self.out} is there already.", hint, exit_code=2)


def predict_file(job: OpenRun, file: FileToAnswer, asking: Asking = PLAINLY, tell: Listener = deaf) -> AnsweredFile:
    """Answer every row of a file, and write the rows with their answers to another; see `Sheet` for the columns.

    Raises SgError before the model is loaded for what cannot be read, written or asked.
    """
    file.check()
    made_by = fingerprint(job, asking)
    table = read_table(file.source, file.columns, lenient=True)
    tell(Said(table.told))
    started = time.monotonic()
    sheet = Sheet.beside(table.columns, asking, job.task, temperature_of(job, asking))
    with _answering(file, tell):
        answers = Answers.begin(table, made_by, JournalFile(file.journal))
        n_kept = answers.n_known
        if n_kept:
            tell(Said(f"{counted(n_kept, 'row', 'were')} answered by an earlier try."))
        _answer(job, asking, answers, tell)
        rows = list(answers.rows(sheet))
        write_table(file.out, (*table.columns, *sheet.names.values()), rows)
        remove(file.journal)
    n_failed = sum(bool(row[sheet.names["error"]]) for row in rows)
    done = AnsweredFile(file.out, len(rows), n_failed, n_kept, time.monotonic() - started)
    failed = f", {n_failed} could not be answered" if n_failed else ""
    tell(Ended("predict", done.seconds, f"{counted(done.n, 'row')}{failed}"))
    return done


def _answer(job: OpenRun, asking: Asking, answers: Answers, tell: Listener) -> None:
    """Answer what is open; whatever ends it, what was answered is kept."""
    from sg_local import serve

    texts = answers.open_texts
    if not texts:
        return
    who, way = answerer(job, asking)
    try:
        latest: list[str] = []
        found = serve.answer_rows(who, way, map(serve.Question, texts.values()))
        for n_done, (id, answer) in enumerate(zip(texts, found, strict=True), 1):
            answers.take(id, answer)
            latest = [*latest, f"{texts[id]} -> {answer.text or answers.failed.get(id, '')}"][-N_LATEST:]
            tell(Moved("predict", PredictEvent(n_done, len(texts), len(answers.failed), tuple(latest))))
    finally:
        answers.keep()


@contextlib.contextmanager
def _answering(file: FileToAnswer, tell: Listener) -> Iterator[None]:
    """Hold the journal of a file of answers, and tell that the work begins."""
    with held(file.lock, str(file.out), "Wait for it to end, or choose another `out`."):
        try:
            tell(Began("predict"))
            yield
        finally:
            remove(file.lock)
