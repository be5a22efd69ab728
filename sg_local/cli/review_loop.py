"""The interactive review: keys in, verdicts to disk, the screen drawn; and what only a program can do for the state
machine: an editor, another answer from the model, the filters with moved thresholds.
"""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from sg_local import filters, prompts, review
from sg_local.cli.config import Environment
from sg_local.console.keys import RESIZED, Keyboard
from sg_local.console.review import ReviewScreen
from sg_local.job.job import Job
from sg_local.job.plan import flat
from sg_local.records import Candidate, Prompt, Sampling, SgError, Verdict, from_dict, seed_of
from sg_local.review import ReviewState, Threshold, View
from sg_local.run import CANDIDATES, VERDICTS, read_json
from sg_local.views.review import view_of

PLACE = "review.json"
REGENERATE_TEMPERATURE = 0.8
SLOW_S = 0.3
STEPS = {
    "threshold": (0.05, 0.0, 1.0),
    "sigmas": (0.25, 0.0, 20.0),
    "widest": (0.5, 1.0, 20.0),
    "ratio": (0.25, 1.0, 20.0),
    "at_least": (1, 0, 1000),
}
"""(step, lowest, highest) of a filter setting by the last part of its name."""

LABELS_ONLY, LABELS_LEAVE_OUT = ("balance",), ("output_length", "agreement", "relevance", "grounding")
"""Groups of filter settings that only a classification looks at, and those that it does not."""

INPUT_MARK, OUTPUT_MARK = "# INPUT: the text below this line", "# OUTPUT: the text below this line"


class Session:
    """One sitting of one reviewer."""

    def __init__(self, job: Job, environment: Environment, state: ReviewState) -> None:
        self.job = job
        self.environment = environment
        settled = self._at_last_card(state)
        self.state = settled.but(
            thresholds=thresholds(job.plan["filter"], bool(job.task.labels)), message=greeting(settled)
        )
        self.title = f"review of {job.run.name}"
        self.funnel = self._funnel()
        self.outcomes: dict[Any, dict[str, bool]] = {}
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
                    if key != RESIZED:
                        self._press(key)
                    if self.state.wants == "quit":
                        break
                self._draw()
        return self.state

    def _draw(self) -> None:
        """Draw the state; a scroll past the end of the card is taken back."""
        scroll = self.screen.show(view_of(self.state, self.title, self.funnel))
        self.state = self.state.but(scroll=scroll)

    def _press(self, key: str) -> None:
        """One key: the state machine, the journal, then what it asks for."""
        before = self.state
        self._take(review.step(before, key))
        work = {"editor": self._edit, "regenerate": self._regenerate, "play": self._play, "save": self._save}
        if self.state.wants in work:
            self._take(work[self.state.wants]().but(wants=""))
        if (self.state.cursor, self.state.view) != (before.cursor, before.view):
            self._remember_place()

    def _take(self, state: ReviewState) -> None:
        """Make the state current once its verdicts are on disk."""
        self.job.run.append(VERDICTS, state.new)
        self.state = state.but(new=())

    # Where the reviewer stands

    def _remember_place(self) -> None:
        if not self.state.sample:
            place = {"cursor": self.state.cursor, "view": dataclasses.asdict(self.state.view)}
            self.job.run.write_json(PLACE, place)

    def _at_last_card(self, state: ReviewState) -> ReviewState:
        """The state at the card and in the view where the last sitting ended; a sample begins at its first card."""
        path = self.job.run.path(PLACE)
        if state.sample or not path.exists():
            return state
        place = read_json(path)
        found = state.but(view=from_dict(View, place["view"]), cursor=place["cursor"])
        return review.settled(found, found.view)

    def _funnel(self) -> tuple[tuple[str, int], ...]:
        found = filters.funnel(self.job.run, self.job.task)
        kept = sum(row.kept for row in self.state.rows)
        return (("asked", found.asked), ("accepted", found.accepted), ("past the filters", kept))

    # What the state machine asks for

    def _edit(self) -> ReviewState:
        """Both texts in the user's editor."""
        row = review.current(self.state)
        assert row is not None
        texts = review.text_of(self.state, row)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"row-{row.number}.txt"
            path.write_text(as_file(*texts), encoding="utf-8")
            self.screen.close()
            try:
                with self.keyboard.pause():
                    done = subprocess.run([*shlex.split(self.environment.editor), str(path)], check=False)
            except OSError as error:
                return self.state.but(message=f"{self.environment.editor} cannot be started: {error.strerror}.")
            finally:
                self.screen.open()
            after = from_file(path.read_text(encoding="utf-8", errors="replace"))
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
        self.screen.show(view_of(self.state.but(message="Asking the model\u2026"), self.title, self.funnel))
        try:
            return review.answered(self.state, self._another_answer(row, review.text_of(self.state, row)[0]))
        except SgError as error:
            return self.state.but(message=error.message)

    def _another_answer(self, row: review.Row, text: str) -> str:
        job = self.job
        self.n_answers += 1
        sampling = Sampling(
            temperature=REGENERATE_TEMPERATURE,
            max_tokens=job.plan["synth"].max_tokens,
            stop=prompts.answer_stops(job.task, job.form),
        )
        seed = seed_of(row.id, "again", self.n_answers, time.time_ns())
        prompt = Prompt(row.id, prompts.answer_prompt(job.task, job.form, text), sampling, seed)
        return prompts.parse_output(job.task, next(iter(job.generator.generate([prompt]))).text)

    def _play(self) -> ReviewState:
        """What the filters would say with the thresholds as they are now, and one step either way."""
        began = time.monotonic()
        now = self._outcome(self.state.thresholds)
        sides: list[dict[str, bool]] = [{}, {}]
        if time.monotonic() - began < SLOW_S:
            chosen = self.state.selected
            for i, by in enumerate((-1, 1)):
                moved = list(self.state.thresholds)
                moved[chosen] = moved[chosen].moved(by)
                sides[i] = self._outcome(tuple(moved))
        return review.played(self.state, review.Play(now, *sides))

    def _outcome(self, moved: tuple[Threshold, ...]) -> dict[str, bool]:
        if moved not in self.outcomes:
            candidates = [row.candidate for row in self.state.rows]
            verdicts, _ = filters.judge(candidates, self.job.task, with_thresholds(self.job.plan["filter"], moved))
            self.outcomes[moved] = {verdict.id: verdict.keep for verdict in verdicts}
        return self.outcomes[moved]

    def _save(self) -> ReviewState:
        """Filter again with the moved thresholds, and let the run remember them."""
        from sg_local.job.work import refilter

        tables: dict[str, Any] = {}
        for now, was in zip(self.state.thresholds, self.state.saved, strict=True):
            if now != was:
                group, name = now.name.split(".")
                tables.setdefault(group, {})[name] = now.value
        refilter(self.job, tables)
        self.outcomes.clear()
        journal = self.job.run.read(VERDICTS, Verdict)
        verdicts = {row.id: row for row in journal if row.judge == filters.JUDGE}
        self.funnel = self._funnel()
        rows = review.build_rows(self.job.run.read(CANDIDATES, Candidate), verdicts, self.job.task.labels)
        after = review.reloaded(self.state, rows)
        self.funnel = (*self.funnel[:-1], (self.funnel[-1][0], sum(row.kept for row in rows)))
        return after


def greeting(state: ReviewState) -> str:
    """What the first screen says: how much is left, and where help is."""
    rows = review.visible(state)
    n_open = sum(not review.is_judged(state, row) for row in rows)
    if not rows:
        return ""
    if n_open == 0:
        return "Every row of this view is judged. f shows others, q ends the review."
    begun = n_open < len(rows)
    still = f"{'is' if n_open == 1 else 'are'} {'still ' if begun else ''}open"
    return f"{n_open} of {review.n_rows(len(rows))} {still}. a accepts, r rejects, ? shows all keys."


def thresholds(settings: Any, has_labels: bool) -> tuple[Threshold, ...]:
    """The numbers of the filters that a reviewer may move: those of the rules that are on and look at this kind."""
    found = []
    without = LABELS_LEAVE_OUT if has_labels else LABELS_ONLY
    for name, value in flat(settings, ""):
        group, _, last = name.removeprefix(".").partition(".")
        if last in STEPS and group not in without and getattr(settings, group).on:
            step, low, high = STEPS[last]
            found.append(Threshold(f"{group}.{last}", value, step, low, high, whole=isinstance(value, int)))
    return tuple(found)


def with_thresholds(settings: Any, moved: tuple[Threshold, ...]) -> Any:
    """Filter settings with these numbers."""
    for threshold in moved:
        group, name = threshold.name.split(".")
        rule = dataclasses.replace(getattr(settings, group), **{name: threshold.value})
        settings = dataclasses.replace(settings, **{group: rule})
    return settings


def as_file(text: str, output: str) -> str:
    """Both texts as the editor gets them."""
    return f"{INPUT_MARK}\n{text}\n{OUTPUT_MARK}\n{output}\n"


def from_file(text: str) -> tuple[str, str] | None:
    """Both texts from the edited file, or None where its marks are gone."""
    head, found_input, rest = text.partition(f"{INPUT_MARK}\n")
    before, found_output, after = rest.partition(f"{OUTPUT_MARK}\n")
    if not (found_input and found_output) or head.strip():
        return None
    return before.strip(), after.strip()
