"""A chat template taken apart by rendering it: the text around each role's content."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sg_local.prompts import Form, render
from sg_local.records import SgError


@dataclass(frozen=True)
class Turns:
    """A chat template taken apart by rendering it: the text around each role's content.

    `opening` comes first where no system message is given; `cue` asks for the next answer. `system` is None where the
    template has no such turn: it refuses one (Gemma 2, Mistral) or writes it into a user's turn.
    """

    opening: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    cue: str

    def joined(self, messages: Sequence[dict[str, str]]) -> str:
        """A conversation put together, asking for an answer."""
        around = {"system": self.system or ("", ""), "user": self.user, "assistant": self.assistant}
        parts = [
            before + message["content"] + after for message in messages for before, after in [around[message["role"]]]
        ]
        return ("" if messages[0]["role"] == "system" else self.opening) + "".join(parts) + self.cue


def turns_of(form: Form) -> Turns | None:
    """The parts of a template that is a plain concatenation of turns, or None for one that is not."""
    if form.template is None:
        return Turns("", ("", "\n\n"), (f"Input:{form.gap}", f"\nOutput:{form.cue}"), (form.lead, "\n\n"), "")
    turns = next((found for ending in ("", form.eos) for found in [_tried(form, ending)] if found is not None), None)
    if turns is None:
        return None
    try:
        whole = replace(turns, system=_system(form, turns))
        return whole if _fits(form, whole, _SYSTEM_TRIALS) else turns
    except SgError:
        return turns


def _tried(form: Form, ending: str) -> Turns | None:
    """The parts, where they make the template's text again. `ending` stands behind a text that asks for no answer, as
    in Phi-3's template.
    """
    try:
        turns = _taken_apart(form, ending)
        return turns if _fits(form, turns, _TRIALS) else None
    except SgError:
        return None


def _fits(form: Form, turns: Turns, trials: Sequence[list[dict[str, str]]]) -> bool:
    """Whether the parts, put together, are what the template writes."""
    return all(turns.joined(messages) == text_of(form, messages, True) for messages in trials)


_USER, _ANSWER, _SYSTEM = ({"role": role, "content": role[0] * 3} for role in ("user", "assistant", "system"))
_TRIALS = ([_USER], [_USER, _ANSWER, _USER, _ANSWER, _USER])
_SYSTEM_TRIALS = ([_SYSTEM, _USER, _ANSWER, _USER],)


def _taken_apart(form: Form, ending: str) -> Turns:
    """What the parts must be if the template has any; whether they are is for the caller to try."""
    marks = [{"role": role, "content": mark} for role, mark in (("user", "\ue010"), ("assistant", "\ue011"))]
    pieces = [*re.split("[\ue010\ue011]", text_of(form, marks * 2, False).removesuffix(ending)), *[""] * 4]
    start, between, seam, _, tail = pieces[:5]
    lone, asked = text_of(form, marks[:1], False).removesuffix(ending), text_of(form, marks[:1], True)
    after_user, before_user = lone.partition("\ue010")[2], seam[len(tail) :]
    return Turns(
        opening=start.removesuffix(before_user),
        system=None,
        user=(before_user, after_user),
        assistant=(between.removeprefix(after_user), tail),
        cue=asked[len(lone) :],
    )


def _system(form: Form, turns: Turns) -> tuple[str, str]:
    """What stands around a system message, if it has a turn of its own. Raises SgError where it is refused."""
    messages = [{"role": role, "content": mark} for role, mark in (("system", "\ue012"), ("user", "\ue010"))]
    before, _, rest = text_of(form, messages, False).partition("\ue012")
    return before, rest.partition("\ue010")[0].removesuffix(turns.user[0])


def text_of(form: Form, messages: list[dict[str, str]], generation: bool) -> str:
    """What the template writes."""
    return "".join(segment.text for segment in render(form, messages, generation=generation))
