"""The two layouts: where a prompt ends and its answer begins."""

from __future__ import annotations

import dataclasses

import pytest
from tiny_models import CHATML, VICUNA

from sg_local import prompts
from sg_local.prompts import LEAD, PLAIN, WHOLE, in_layout
from sg_local.records import SgError
from sg_local.run import GAINED

CHAT = prompts.chat_form(CHATML, "", "<|im_end|>", False)
LED = prompts.chat_form(VICUNA, "<s>", "</s>", True)
TRIMS = "{% for m in messages %}{{ '[' + m.role + '] ' + m.content | trim + '\n' }}{% endfor %}" + (
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)

LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    + ("{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
)


def text_of(segments):
    return "".join(segment.text for segment in segments)


def test_the_layout_of_before_changes_nothing():
    assert GAINED["layout"] == LEAD
    for form in (PLAIN, CHAT, LED):
        assert in_layout(form, LEAD) == form


def test_without_a_lead_a_plain_output_has_a_line_of_its_own(routing):
    form = in_layout(PLAIN, WHOLE)
    text = text_of(prompts.answer_prompt(routing, form, "Hello?"))
    assert text.endswith("Input:\nHello?\nOutput:\n") and prompts.answer_text(form, "billing") == "billing"
    shown = routing.examples[0]
    assert f"Input:\n{shown.input}\nOutput:\n{shown.output}\n\n" in text and "Output: " not in text


def test_a_template_without_a_lead_is_in_both_layouts():
    assert in_layout(CHAT, WHOLE) == CHAT


def test_a_template_s_blank_before_an_answer_is_the_prompt_s_with_a_line_end_behind_it(routing):
    form = in_layout(LED, WHOLE)
    text = text_of(prompts.answer_prompt(routing, form, "Hello?"))
    assert text.endswith("USER: Hello? ASSISTANT: \n") and prompts.answer_text(form, "billing") == "billing"
    assert f"ASSISTANT: \n{routing.examples[0].output}</s>" in text


@pytest.mark.parametrize("template", [TRIMS, LLAMA2])
def test_a_template_that_trims_what_is_said_behind_a_blank_is_refused(template):
    """Its earlier answers would stand behind a blank, and the one asked for behind a line end."""
    form = prompts.chat_form(template, "<s>", "</s>", True)
    assert form.lead == " " and in_layout(form, LEAD) == form
    with pytest.raises(SgError, match="trims answers and puts a blank before them") as caught:
        in_layout(form, WHOLE)
    assert caught.value.exit_code == 2 and "`train.layout=lead`" in caught.value.hint


def test_a_template_that_trims_and_has_no_blank_is_in_both_layouts():
    form = prompts.chat_form(TRIMS.replace("'] '", "']\n'").replace("[assistant]", "[assistant]\n"), "", "", False)
    assert in_layout(form, WHOLE) == form


def test_a_layout_is_part_of_what_stamps_digest():
    before, after = PLAIN.stamped, in_layout(PLAIN, WHOLE).stamped
    assert before != after and "inset" not in before and "cue" not in before
    assert before == {
        key: value for key, value in dataclasses.asdict(PLAIN).items() if key not in ("cue", "end", "inset", "n_shown")
    }


def test_an_unknown_layout_is_refused():
    with pytest.raises(SgError, match="no layout 'wide'") as caught:
        in_layout(PLAIN, "wide")
    assert caught.value.exit_code == 2 and "`train.layout`" in caught.value.hint
