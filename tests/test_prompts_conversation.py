"""A conversation with a tuned model has the prompt that an exported template writes for it."""

from __future__ import annotations

import pytest
from tiny_models import CHATML, VICUNA

from sg_local import prompts
from sg_local.export.template import task_template
from sg_local.prompts import TooLong
from sg_local.records import SgError

USER, OTHER = {"role": "user", "content": "My parcel is late."}, {"role": "user", "content": "And my refund?"}
SYSTEM, ANSWER = {"role": "system", "content": "Be kind."}, {"role": "assistant", "content": "delivery"}
CONVERSATIONS = {
    "one": [USER],
    "system": [SYSTEM, USER],
    "empty system": [{"role": "system", "content": ""}, USER],
    "turns": [USER, ANSWER, OTHER],
    "system and turns": [SYSTEM, USER, ANSWER, OTHER],
}
FORMS = {
    "chatml": prompts.chat_form(CHATML, "", "<|im_end|>", False),
    "vicuna": prompts.chat_form(VICUNA, "<s>", "</s>", True),
    "plain": prompts.PLAIN,
}


def text_of(segments) -> str:
    return "".join(segment.text for segment in segments)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_the_prompt_is_the_one_of_the_exported_template(routing, form, conversation):
    own, messages = FORMS[form], CONVERSATIONS[conversation]
    carried = task_template(routing, own, add_bos=bool(own.add_bos))
    exported = prompts.chat_form(carried, own.bos, own.eos, own.add_bos)
    wanted = text_of(prompts.render(exported, messages))
    found = prompts.conversation_prompt(routing, own, messages, routing.examples)
    assert text_of(found) == wanted
    assert all(not segment.trusted for segment in found if "parcel is late" in segment.text)


@pytest.mark.parametrize("form", FORMS)
def test_a_single_message_has_the_prompt_of_predict(routing, form):
    found = prompts.conversation_prompt(routing, FORMS[form], [USER], routing.examples)
    assert found == prompts.answer_prompt(routing, FORMS[form], USER["content"])


@pytest.mark.parametrize("form", FORMS)
def test_a_conversation_that_brings_the_instruction_is_left_alone(routing, form):
    whole = {"role": "user", "content": f"{routing.instruction}\n\nMy parcel is late."}
    found = text_of(prompts.conversation_prompt(routing, FORMS[form], [whole], routing.examples))
    assert found.count(routing.instruction) == 1 and routing.examples[0].input not in found


@pytest.mark.parametrize(
    ("messages", "asked"),
    [([USER], True), ([SYSTEM, USER], True), ([USER, ANSWER, OTHER], True), ([ANSWER, USER], False), ([SYSTEM], False)],
)
def test_a_question_is_a_user_s_first_and_last_turn(messages, asked):
    assert prompts.is_asked(messages) is asked
    assert not prompts.is_asked([USER, ANSWER])


def test_demonstrations_give_way_to_a_long_conversation(routing, scripted):
    form = FORMS["chatml"]
    whole = len(scripted.tokenize(prompts.conversation_prompt(routing, form, [SYSTEM, USER], routing.examples)))
    room = prompts.Room(scripted.tokenize, whole + 5, 6)
    fitted = prompts.fitted_conversation(room, routing, form, [SYSTEM, USER])
    assert fitted.n_dropped == 1
    with pytest.raises(TooLong, match="conversation has"):
        prompts.fitted_conversation(prompts.Room(scripted.tokenize, 20, 6), routing, form, [SYSTEM, USER])


def test_a_template_that_refuses_a_system_message_says_so(routing):
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    form = prompts.chat_form(refusing, "", "<|im_end|>", False)
    with pytest.raises(SgError, match="no system"):
        prompts.conversation_prompt(routing, form, [SYSTEM, USER], routing.examples)
