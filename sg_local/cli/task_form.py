"""The guided form of `tasks new`: questions on a terminal, the prompt shown as it grows, a draft that is kept."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sg_local.cli import output
from sg_local.cli.editing import edited
from sg_local.files import write_text
from sg_local.records import SgError, Task
from sg_local.tasks.draft import Draft, prompt_text
from sg_local.tasks.form import DONE, Form, answered, form_of, kept_form, question_of
from sg_local.words import brief

if TYPE_CHECKING:
    from sg_local.console.asking import Asking

BACK, EDITOR = "<", "e"
HELP = (
    "Type < to go back a step, or e to write a long text in $EDITOR. You can paste several lines. Ctrl-C quits; your "
)
HELP += "answers are kept."


def draft_file(path: Path) -> Path:
    """Where the answers are kept until the task's file is written."""
    return path.with_name(f"{path.name}.draft")


def ask_draft(draft: Draft, path: Path, editor: str) -> Draft:
    """Ask for what is missing, showing the prompt as it grows. Every answer is kept in `draft_file`."""
    from sg_local.console.asking import Asking

    output.note(HELP)
    with Asking() as asking:
        sitting = Sitting(asking, draft_file(path), editor)
        return sitting.play(sitting.begin(draft))


class Sitting:
    """One sitting at the form."""

    def __init__(self, asking: Asking, kept: Path, editor: str) -> None:
        self.asking = asking
        self.kept = kept
        self.editor = editor

    def begin(self, draft: Draft) -> Form:
        """The form as it was left, where one was and the user wants it; else a new one."""
        if not self.kept.exists():
            return form_of(draft)
        try:
            found = kept_form(self.kept)
        except SgError as error:
            output.note(f"The draft cannot be read: {error.message}")
            return form_of(draft)
        output.note(f"There is a draft of this task ({self.kept}). Continue it? (Y/n)")
        answer = self._ask(is_text=False)
        if answer.strip().lower().startswith("n"):
            self.kept.unlink()
            return form_of(draft)
        return replace(found, step="test input") if found.step == DONE else found

    def play(self, form: Form) -> Draft:
        """Until nothing is left to ask."""
        before: list[Form] = []
        while form.step != DONE:
            text = self._answer(form)
            if text == BACK:
                form = before.pop() if before else replace(form, message="This is the first question.", typed="")
                continue
            after = answered(form, text)
            if (after.step, after.draft) != (form.step, form.draft):
                before.append(replace(form, message="", typed=text))
                self._keep(after)
                if after.draft.examples != form.draft.examples:
                    preview(after.draft.task())
            form = after
        return form.draft

    def _answer(self, form: Form) -> str:
        """What the user answers to the form's question; on any way out, the form is kept as it is."""
        question = question_of(form)
        edits = ", e edits it" if question.is_text else ""
        before = f"Before: {brief(form.typed, 60)} (Enter keeps it{edits})" if form.typed else ""
        output.note("")
        for line in filter(None, (form.message, question.text, before)):
            output.note(line)
        try:
            text = self._ask(is_text=question.is_text)
            is_edited = question.is_text and text.strip() == EDITOR
            return self._edited(form.typed) if is_edited else text or form.typed
        except BaseException:
            typed = self.asking.typed.text.strip() or form.typed
            if typed or form != form_of(Draft(form.draft.name)):
                self._keep(replace(form, typed=typed))
            raise

    def _ask(self, *, is_text: bool) -> str:
        text = self.asking.ask(is_text=is_text)
        if text is None:
            raise click.Abort
        return BACK if text.strip() == BACK else text

    def _edited(self, text: str) -> str:
        """The text from the user's editor, as it was before where that fails."""
        try:
            with self.asking.keyboard.pause():
                found = edited(text, self.editor)
        except SgError as error:
            output.note(f"{error.message} {error.hint}")
            return text
        output.say(found.rstrip(), err=True)
        return found

    def _keep(self, form: Form) -> None:
        write_text(self.kept, json.dumps(dataclasses.asdict(form), ensure_ascii=False))


def preview(task: Task) -> None:
    """The prompt that the task becomes, on stderr."""
    from sg_local.console import cards

    cards.show_prompt("The prompt", prompt_text(task))
