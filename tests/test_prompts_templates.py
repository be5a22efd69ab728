"""Chat forms of the families of models, by small templates in the shape of theirs: their prompts and their answers."""

import dataclasses

import pytest
from chat_templates import FULLER

from sg_local import prompts
from sg_local.prompts import Form, chat_form, forms, render
from sg_local.records import ModelInfo, SgError

TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
CUE = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
LOOP = "{% for m in messages %}" + TURN + "{% endfor %}"
NO_THOUGHT = "<think>\n\n</think>\n\n"
LAST = (
    "{% for m in messages %}{% if m.role == 'assistant' and loop.last %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m.content + '<|im_end|>\n' }}"
    "{% else %}" + TURN + "{% endif %}{% endfor %}"
)
SWITCH = "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}" + (
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
)
SPLIT = "{% set text = m.content.split('</think>')[-1] %}"
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|User|>' + m.content }}{% else %}"
    + SPLIT
    + "{{ '<|Assistant|>' + text + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|>' }}OPEN{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('order') }}{% endif %}"
    "{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
DATED = "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y') + '.<|im_end|>\n' }}"
LLAMA = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{{ '<|im_start|>system\n' + date_string + '<|im_end|>\n' }}"
)
PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
)
GENERATION = LOOP.replace(
    "m.content + '<|im_end|>\n' }}", "'' }}{% generation %}{{ m.content + '<|im_end|>\n' }}{% endgeneration %}"
)
TOOLS = "{% if tools is not none %}{{ 'Tools: ' + tools | tojson }}{% endif %}"
GLM = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

FAMILIES = {  # what the prompt for "q" is, and the lead of its answers
    "chatml": (LOOP + CUE, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", ""),
    "qwen3": (LAST + CUE + SWITCH, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n" + NO_THOUGHT, ""),
    "no switch": (LAST + CUE, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n" + NO_THOUGHT, ""),
    "r1, open": (R1.replace("OPEN", "{{ '<think>\n' }}"), "<s><|User|>q<|Assistant|><think>\n\n</think>\n\n", ""),
    "r1, opened by the model": (R1.replace("OPEN", ""), "<s><|User|>q<|Assistant|><think>\n\n</think>\n\n", ""),
    "magistral": (
        LOOP + CUE + "[THINK]",
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[THINK]\n\n[/THINK]\n\n",
        "",
    ),
    "glm": (GLM, "<|user|>\nq<|assistant|>\n", ""),
    "gemma": (GEMMA, "<s><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n", ""),
    "mistral": (MISTRAL, "<s>[INST] q[/INST]", " "),
    "smollm3, granite": (
        DATED + LOOP + CUE,
        "<|im_start|>system\nToday is 26 July 2024.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
        "",
    ),
    "llama 3.2": (
        LLAMA + LOOP + CUE,
        "<|im_start|>system\n26 Jul 2024<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
        "",
    ),
    "parts": (PARTS + CUE, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", ""),
    "generation": (GENERATION + CUE, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", ""),
    "tools": (TOOLS + LOOP + CUE, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", ""),
    **FULLER,
}
REFUSED = {
    "empty": "",
    "the last message alone": "{{ messages[-1].role }}",
    "a type": "{{ none + messages[0].content }}" + LOOP,
    "include": "{% include 'x' %}" + LOOP,
    "raises": "{{ raise_exception('never') }}" + LOOP,
    "costly": "{{ 'a' * 10**9 }}" + LOOP,
}
INFO = ModelInfo("m", "m.gguf", "0" * 64, 1, "llama", 64, None, "<s>", "</s>", False, ("<end_of_turn>", "<|im_end|>"))


def text_of(segments):
    return "".join(segment.text for segment in segments)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_prompt_and_answers_begin_with_themselves(family, routing):
    template, prompt, lead = FAMILIES[family]
    chat = chat_form(template, "<s>", "</s>", False)
    asked = render(chat, [{"role": "user", "content": "q"}])
    assert (text_of(asked), chat.lead) == (prompt, lead)
    assert all(segment.trusted for segment in asked if "think" in segment.text.lower()), "its tokens are special ones"
    whole = text_of(prompts.answer_prompt(routing, chat, "q"))
    assert all(whole.count(pair.input) == 1 for pair in routing.examples)
    assert whole.count(routing.instruction) == 1
    assert "\n" not in prompts.answer_text(chat, "billing")


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_cannot_be_rendered_never_hinders_the_plain_form(name):
    info = dataclasses.replace(INFO, chat_template=REFUSED[name])
    assert [form.name for form in prompts.forms_of(info)] == ["plain"]
    assert prompts.form_of(info, "plain").template is None
    with pytest.raises(SgError, match="The chat template") as caught:
        prompts.form_of(info, "chat")
    assert caught.value.hint == "Try `form=plain`."


def test_the_plain_form_does_not_ask_the_template(monkeypatch):
    monkeypatch.setattr("sg_local.prompts.templates.expand", None)
    assert prompts.form_of(dataclasses.replace(INFO, chat_template=LOOP + CUE), "plain").bos == "<s>"


def test_a_model_without_a_template_has_no_chat_form():
    with pytest.raises(SgError, match="no prompt form 'chat'"):
        prompts.form_of(INFO, "chat")


@pytest.mark.parametrize(("template", "end"), [(GEMMA, "<end_of_turn>"), (LOOP + CUE, "<|im_end|>"), (MISTRAL, "")])
def test_an_answer_ends_as_the_template_ends_its_turn(template, end):
    assert prompts.form_of(dataclasses.replace(INFO, chat_template=template), "chat").end == end


def test_an_end_that_generation_does_not_stop_at_is_none():
    assert chat_form(GEMMA, "<s>", "</s>", False, ends=("</s>",)).end == ""


def test_what_a_form_gained_is_not_in_the_stamps_of_forms_without_it():
    old = {"name": "chat", "template": LOOP + CUE, "bos": "", "eos": "<|im_end|>", "lead": "", "add_bos": None}
    assert chat_form(LOOP + CUE, "", "<|im_end|>", True, ("<|im_end|>",)).stamped == old
    assert chat_form(LAST + CUE, "", "<|im_end|>", True).stamped["cue"] == NO_THOUGHT


@pytest.mark.parametrize(("add_bos", "text"), [(True, "u"), (None, "u"), (False, "<s>u")])
def test_a_prompt_begins_once(add_bos, text):
    (chat, _) = forms("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}", "<s>", "</s>", add_bos)
    assert text_of(render(chat, [{"role": "user", "content": "u"}])) == text


def test_a_line_end_before_an_answer_is_the_prompts():
    turned = "{% for m in messages %}{{ m.role + ':\n ' + m.content + '\n' }}{% endfor %}"
    chat = chat_form(turned + "{% if add_generation_prompt %}assistant:{% endif %}", "", "", False)
    assert (chat.cue, chat.lead) == ("\n", " ")


def test_a_turn_within_the_conversation_keeps_no_cue():
    chat = chat_form(LAST + CUE, "", "", False)
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    assert text_of(render(chat, turns)).count("<think>") == 1
    assert text_of(render(chat, turns, generation=False)).count("<think>") == 0


def test_a_refusal_of_the_template_is_told_without_our_marks():
    with pytest.raises(SgError, match="No: \u2026 \\(line 1") as caught:
        render(Form("chat", "{{ raise_exception('No: ' + messages[0].content) }}"), [{"role": "user", "content": "x"}])
    assert "\ue000" not in caught.value.message.split("(line")[0]


@pytest.mark.parametrize("said", [" ", "\n\n", " q "])
def test_white_space_stays_as_it_is_said_where_a_template_trims(said):
    """As in 0.1.0, whose runs keep their prompts: also an input of white space alone."""
    form = chat_form(GEMMA, "", "", False)
    text = "".join(segment.text for segment in render(form, [{"role": "user", "content": said}]))
    assert text == f"<start_of_turn>user\n{said}<end_of_turn>\n<start_of_turn>model\n"
