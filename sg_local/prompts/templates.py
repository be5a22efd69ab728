"""Chat templates: the forms a model can answer in, and messages rendered with special tokens only where they belong.

A template is a stranger's program (sandbox) and templates differ: some take a message's content as a list of parts,
some want to be told that there are no tools, some print the date, some begin an answer with a block for thinking.
Which of these holds is found by rendering marks in place of contents. The date is always DATE, so that a prompt is the
same on every day; thinking is switched off where the template knows how, and a block that is open all the same, or
that the template would put before an answer, is closed within the prompt (`Form.cue`). So what a model writes begins
with the answer itself: no stop, grammar or trained row ever meets a thought.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.exceptions

from sg_local.parsing import THOUGHTS
from sg_local.prompts.sandbox import expand
from sg_local.records import ModelInfo, Pair, Segment, Segments, SgError

logger = logging.getLogger(__name__)

MARK = re.compile("\ue000([0-9]{1,6})\ue001")
BOS_MARK = "\ue002"
DATE = datetime.date(2024, 7, 26)
"""The day that every template prints: the one that Llama 3.2's names where it is told none."""

SWITCH = re.compile(r"\b(?:enable_)?thinking\b")
_TRIAL = ({"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "v"})


@dataclass(frozen=True)
class Form:
    """How a prompt is laid out. `template` is Jinja source for `chat` and None for `plain`.

    `lead` is the space between the prompt and the answer's first character ('' in ChatML, ' ' in Vicuna); it belongs
    to the answer. `cue` is what the prompt ends with after the template's own cue: a closed block of thinking, or what
    the layout puts there (prompts.leads), and `inset` what then stands before each earlier answer, too. `end` is the
    special token that ends an answer's turn where that is not `eos`. `add_bos` says whether the tokenizer adds `bos` by
    itself (None: unknown). `n_shown` is how many demonstrations a prompt shows at most (None: all).
    """

    name: str
    template: str | None = None
    bos: str = ""
    eos: str = ""
    lead: str = " "
    add_bos: bool | None = None
    cue: str = ""
    end: str = ""
    inset: str = ""
    n_shown: int | None = None

    def shown(self, examples: Sequence[Pair]) -> tuple[Pair, ...]:
        """Those of the demonstrations that a prompt shows: the last ones, which stand nearest to its input."""
        n_left_out = 0 if self.n_shown is None else max(0, len(examples) - self.n_shown)
        return tuple(examples[n_left_out:])

    @property
    def gap(self) -> str:
        """What stands between a word that announces a text and the text: in the plain form both have it."""
        return self.cue + self.lead

    @property
    def stamped(self) -> dict[str, Any]:
        """The form as stamps digest it: without `add_bos`, which the model's digest settles, and without what is
        empty; 0.1.0 knew none of these.
        """
        data = dataclasses.asdict(replace(self, add_bos=None))
        later = {"cue": "", "end": "", "inset": "", "n_shown": None}
        return {key: value for key, value in data.items() if key not in later or value != later[key]}


PLAIN = Form("plain")


def forms(
    template: str | None, bos: str = "", eos: str = "", add_bos: bool | None = None, ends: Sequence[str] = ()
) -> tuple[Form, ...]:
    """The forms a model can answer in: `chat` first where there is a template that can be rendered, then `plain`.

    `ends` are the special tokens that end an answer besides `eos`.
    """
    plain = replace(PLAIN, bos=bos, eos=eos, add_bos=add_bos)
    if template is None:
        return (plain,)
    try:
        return (chat_form(template, bos, eos, add_bos, ends), plain)
    except SgError as error:
        logger.warning("no chat form: %s", error.message)
        return (plain,)


def forms_of(info: ModelInfo, template: str | None = None) -> tuple[Form, ...]:
    """The forms of a model; `template` takes the place of the file's own where it is not None."""
    source = info.chat_template if template is None else template
    return forms(source, info.bos, info.eos, info.add_bos, info.ends)


def form_of(info: ModelInfo, name: str, template: str | None = None) -> Form:
    """One form of a model; the plain one is had whatever the template is like. SgError says why there is no other."""
    source = info.chat_template if template is None else template
    if name == "chat" and source is not None:
        return chat_form(source, info.bos, info.eos, info.add_bos, info.ends)
    return form_named(forms(None, info.bos, info.eos, info.add_bos), name)


def form_named(choices: Sequence[Form], name: str) -> Form:
    """The form with this name; SgError when the model has no such form."""
    for form in choices:
        if form.name == name:
            return form
    known = ", ".join(form.name for form in choices)
    raise SgError(f"This model has no prompt form {name!r}.", f"It has: {known}.", exit_code=2)


def chat_form(template: str, bos: str, eos: str, add_bos: bool | None, ends: Sequence[str] = ()) -> Form:
    """The chat form of a template. Raises SgError where it cannot be rendered or leaves out what is said."""
    form = Form("chat", template, bos, eos, lead="", add_bos=add_bos)
    asked = render(form, _TRIAL[:1])
    turn = render(form, _TRIAL[:2], generation=False)
    said = [i for i, segment in enumerate(turn) if not segment.trusted]
    if not any(not segment.trusted for segment in asked) or not said or turn[said[-1]].text != "a":
        raise SgError("The chat template does not write what the messages say.", "Try `form=plain`.")
    prompt, before, after = _text(asked), _text(turn[: said[-1]]), _text(turn[said[-1] + 1 :])
    lead = before[len(prompt) :] if before.startswith(prompt) else ""
    bare = lead if lead.isspace() and "\n" not in lead else lead[len(lead.rstrip(" ")) :]
    cue = lead.removesuffix(bare) or _closed_thought(template, asked[-1].text if asked[-1].trusted else "")
    end = next(iter(after.split()), "")
    return replace(form, lead=bare, cue=cue, end=end if end in ends and end != eos else "")


def render(form: Form, messages: Sequence[dict[str, str]], *, generation: bool = True) -> Segments:
    """Messages through a chat template, contents untrusted. A template error raises SgError.

    The beginning-of-sequence token is cut off at the start where the tokenizer adds it. Its string alone proves
    nothing: SmolLM2's is ChatML's `<|im_start|>`, with which every turn begins and which its tokenizer never adds.
    """
    assert form.template is not None
    said = _with_marks(messages, form.inset)
    text = _marked(form.template, form.eos, said, generation, manner_of(form.template, form.eos))
    parts = MARK.split(_without_bos(form, text) + (form.cue if generation else ""))
    if any(int(part) >= len(messages) for part in parts[1::2]):
        raise SgError("The chat template changes what messages say.", "Try `form=plain`.")
    segments = [
        Segment(messages[int(part)]["content"], trusted=False) if i % 2 else Segment(part)
        for i, part in enumerate(parts)
    ]
    return tuple(segment for segment in segments if segment.text)


@dataclass(frozen=True)
class Manner:
    """What a template wants: contents as a list of parts, and to be told that there are no tools."""

    parts: bool = False
    no_tools: bool = False


MANNERS = (Manner(), Manner(no_tools=True), Manner(parts=True), Manner(parts=True, no_tools=True))


@lru_cache(maxsize=16)
def manner_of(template: str, eos: str) -> Manner:
    """The first manner in which a short conversation comes out whole; the usual one where none does.

    Raises SgError for a template that breaks the sandbox's bounds.
    """
    for manner in MANNERS:
        try:
            text = _marked(template, eos, _with_marks(_TRIAL), True, manner)
        except SgError as error:
            if isinstance(error.__cause__, jinja2.exceptions.SecurityError):
                raise
            continue
        if set(MARK.findall(text)) == {"0", "1", "2"}:
            return manner
    return MANNERS[0]


def _marked(template: str, eos: str, messages: Sequence[dict[str, str]], generation: bool, manner: Manner) -> str:
    """The template's text of messages with marks, and a mark for the beginning-of-sequence token."""
    parted = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in messages]
    variables = {
        "messages": parted if manner.parts else list(messages),
        "add_generation_prompt": generation,
        "bos_token": BOS_MARK,
        "eos_token": eos,
        "enable_thinking": False,
        **({"tools": None, "documents": None} if manner.no_tools else {}),
    }
    return expand(template, variables, {"strftime_now": DATE.strftime, "raise_exception": _refuse})


def _with_marks(messages: Sequence[dict[str, str]], inset: str = "") -> list[dict[str, str]]:
    """The messages with a mark for each content that is not empty, so that white space alone is not trimmed either.

    `inset` stands before what an assistant said.
    """
    return [
        {**one, "content": f"{inset if one['role'] == 'assistant' else ''}\ue000{i}\ue001"} if one["content"] else one
        for i, one in enumerate(messages)
    ]


def _closed_thought(template: str, cue: str) -> str:
    """What closes a block of thinking that the template's cue leaves open, or that the model would open by itself.

    A template that takes thoughts out of what was said, and knows no switch for them, is that of a model which always
    thinks.
    """
    for opening, closing in THOUGHTS:
        if cue.rfind(opening) > cue.rfind(closing):
            return ("" if cue.endswith("\n") else "\n") + f"\n{closing}\n\n"
        if closing in template and not SWITCH.search(template) and closing not in cue:
            return f"{opening}\n\n{closing}\n\n"
    return ""


def _without_bos(form: Form, text: str) -> str:
    """A rendered template without the leading token that the tokenizer will add, BOS_MARK elsewhere spelt out."""
    if form.add_bos is not False and text.startswith(BOS_MARK):
        text = text[len(BOS_MARK) :]
    elif form.add_bos and form.bos and text.startswith(form.bos):
        text = text[len(form.bos) :]
    return text.replace(BOS_MARK, form.bos)


def _text(segments: Segments) -> str:
    return "".join(segment.text for segment in segments)


def _refuse(message: object = "") -> str:
    raise jinja2.TemplateError(MARK.sub("\u2026", str(message)))
