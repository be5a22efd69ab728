"""Where a prompt ends and its answer begins, in one of two layouts.

`lead`: the answer begins with the blank that the layout puts before it ("Output:" + " yes"), as in 0.1.0. Base models
find it natural. But a program that takes the prompt from a rendered answer, up to its first character, asks with
"Output: ", tokens that no training has seen.

`whole`: the prompt is all that stands before the answer's first character, and the answer has no lead. A line end
stands between the two, since no tokenizer merges one with the text behind it: so prompt and answer, tokenised apart or
together, are the same tokens. In the plain form inputs and outputs have lines of their own, for programs that tokenise
what is said by itself. A chat template that puts a blank before an answer gets a line end behind it; one that ends its
cue with a line or a special token stays as it is. One that puts a blank there and trims what is said (Llama 2) would
lose the line end before earlier answers: it has no such layout.
"""

from __future__ import annotations

from dataclasses import replace

from sg_local.prompts.templates import Form, render
from sg_local.records import SgError

LEAD, WHOLE = LAYOUTS = ("lead", "whole")


def in_layout(form: Form, layout: str) -> Form:
    """A model's form, as prompts.forms gives it, in a layout.

    Raises SgError (usage) for a layout that is not known, or that the form's template cannot have.
    """
    if layout not in LAYOUTS:
        raise SgError(f"There is no layout {layout!r}.", f"`train.layout` takes {' or '.join(LAYOUTS)}.", exit_code=2)
    if layout == LEAD or not form.lead:
        return form
    if form.template is None:
        return replace(form, lead="", cue="\n")
    whole = replace(form, lead="", cue=f"{form.cue}{form.lead}\n", inset="\n")
    if not _keeps_inset(whole):
        message = "The chat template trims answers and puts a blank before them: train.layout=whole has no place in it."
        raise SgError(message, "Take `train.layout=lead`, or `form=plain`.", exit_code=2)
    return whole


def _keeps_inset(form: Form) -> bool:
    """Whether an answer's line end stands in the template's text; a template may trim what is said."""
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    turn = render(form, turns, generation=False)
    before = [one.text for one, said in zip(turn, turn[1:], strict=False) if not said.trusted]
    return before[-1].endswith(form.inset)
