"""The interactive review: keys in, verdicts to disk, the screen drawn; and what only a program can do for the state
machine: an editor, another answer from the model, the filters with moved thresholds.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
from pathlib import Path

from sg_local import filters, review
from sg_local.cli.config import Environment
from sg_local.console.keys import RESIZED, Keyboard
from sg_local.console.review import ReviewScreen
from sg_local.job import review as job_review
from sg_local.job.job import OpenRun
from sg_local.records import SgError
from sg_local.review import Pace, ReviewState
from sg_local.views.records import ReviewView
from sg_local.views.review import greeting, view_of

WAITING = {
    "regenerate": "Asking the model\u2026",
    "play": "Counting the rows\u2026",
    "save": "The filters judge all rows again\u2026",
}
"""What the screen says while the program works on what a key asked for."""


class Session:
    """One sitting of one reviewer."""

    def __init__(self, job: OpenRun, environment: Environment, state: ReviewState) -> None:
        self.job = job
        self.environment = environment
        settled = job_review.at_last_card(job, state)
        movable = job_review.thresholds(job.plan["filter"], bool(job.task.labels))
        self.state = settled.but(thresholds=movable, message=greeting(settled))
        self.title = f"review of {job.run.name}"
        self.funnel = self._funnel(self.state)
        self.outcomes = job_review.Outcomes(job)
        self.pace = Pace(time.monotonic())
        self.n_answers = 0

    def play(self) -> ReviewState:
        """Until the reviewer quits. The terminal is given back on any way out."""
        with Keyboard() as self.keyboard, ReviewScreen() as self.screen:
            self._draw()
            while self.state.wants != "quit":
                keys = self.keyboard.read()
                if keys is None:
                    break
                for key in keys:
                    if key in ("up", "down"):
                        self._draw()  # whether the card has more lines that way is known once it is drawn
                    if key != RESIZED:
                        self._press(key)
                    if self.state.wants == "quit":
                        break
                self._draw()
        return self.state

    def _draw(self) -> None:
        """Draw the state; a scroll past the end of the card is taken back."""
        scroll, below = self.screen.show(self._view(self.state))
        self.state = self.state.but(scroll=scroll, below=below)

    def _view(self, state: ReviewState) -> ReviewView:
        return view_of(state, self.title, self.funnel, self.pace)

    def _press(self, key: str) -> None:
        """One key: the state machine, the journal, then what it asks for."""
        before = self.state
        self._take(review.step(before, key))
        work = {"editor": self._edit, "regenerate": self._regenerate, "play": self._play, "save": self._save}
        if self.state.wants in work:
            if self.state.wants in WAITING:
                self.screen.show(self._view(self.state.but(message=WAITING[self.state.wants])))
            self._take(work[self.state.wants]().but(wants=""))
        if (self.state.cursor, self.state.view) != (before.cursor, before.view):
            job_review.remember_place(self.job, self.state)

    def _take(self, state: ReviewState) -> None:
        """Make the state current once what it made is on disk."""
        before = self.state
        self.state = job_review.keep(self.job, state)
        if state.n_actions > before.n_actions and state.new:
            self.pace = self.pace.judged(time.monotonic())
        elif len(state.history) < len(before.history) and state.new:
            self.pace = self.pace.taken_back()

    def _funnel(self, state: ReviewState) -> tuple[tuple[str, int], ...]:
        found = filters.funnel(self.job.run, self.job.task)
        kept = sum(row.kept for row in state.rows)
        return (("inputs asked for", found.asked), ("inputs usable", found.accepted), ("past the filters", kept))

    # What the state machine asks for

    def _edit(self) -> ReviewState:
        """Both texts in the user's editor."""
        row = review.current(self.state)
        assert row is not None
        texts = review.text_of(self.state, row)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"row-{row.number}.txt"
            path.write_text(review.as_file(*texts), encoding="utf-8")
            self.screen.close()
            try:
                with self.keyboard.pause():
                    done = subprocess.run([*shlex.split(self.environment.editor), str(path)], check=False)
            except OSError as error:
                return self.state.but(message=f"{self.environment.editor} cannot be started: {error.strerror}.")
            finally:
                self.screen.open()
            try:
                after = review.read_edited(path)
            except SgError as error:
                return self.state.but(message=f"{error.message} {error.hint} Nothing changed.")
        if done.returncode != 0:
            return self.state.but(message=f"{self.environment.editor} ended with an error: nothing changed.")
        if after is None or after == texts:
            return self.state.but(message="Nothing changed.")
        changed = {name: text for name, text, old in zip(("input", "output"), after, texts, strict=True) if text != old}
        return review.edited(self.state, **changed)

    def _regenerate(self) -> ReviewState:
        """Another answer of the model for the row's input."""
        row = review.current(self.state)
        assert row is not None
        try:
            self.n_answers += 1
            text = review.text_of(self.state, row)[0]
            return review.answered(self.state, job_review.another_answer(self.job, row.id, text, self.n_answers))
        except SgError as error:
            return self.state.but(message=error.message)

    def _play(self) -> ReviewState:
        """What the filters would say with the thresholds as they are now, and one step either way."""
        return review.played(self.state, self.outcomes.play(self.state))

    def _save(self) -> ReviewState:
        """Filter again with the moved thresholds, and let the run remember them."""
        after = job_review.save_thresholds(self.job, self.state)
        self.outcomes = job_review.Outcomes(self.job)
        self.funnel = self._funnel(after)
        return after
