"""However a program renders an exported template, an answer's prompt has the tokens of training; answers have no lead.

Each client here derives what precedes an answer in a way that real ones do, from nothing but the exported template.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export_template import KINDS, MORE, NASTY, form_of, generator_with, text_of
from tiny_models import TinySpec

from sg_local import prompts
from sg_local.export import task_template
from sg_local.prompts import LAYOUTS, LEAD, WHOLE
from sg_local.records import Segment, SgError

ANSWER_MARK = "\u2997answer\u2998"
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=24).map(str.strip)
SAID = TEXTS.filter(lambda text: text != "" and ANSWER_MARK not in text and "Output:" not in text)
TRIMMING = {"mistral 0.3"}
WHOLES = sorted(set(MORE) - TRIMMING)
TURNS = st.lists(st.tuples(SAID, SAID), max_size=2)


def asked(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def rendered(template, kind, messages, generation):
    from transformers.utils.chat_template_utils import render_jinja_template

    _, bos, eos, _ = KINDS[kind]
    told = {"chat_template": template, "add_generation_prompt": generation, "bos_token": bos, "eos_token": eos}
    return render_jinja_template([messages], **told)[0][0]


def by_generation_prompt(template, kind, messages):
    return rendered(template, kind, messages, True)


def without_generation_prompt(template, kind, messages):
    return rendered(template, kind, messages, False)


def cut_at_the_content(template, kind, messages):
    """As node-llama-cpp does: an answer is rendered, and what precedes its content is the prompt."""
    return rendered(template, kind, [*messages, said(ANSWER_MARK)], False).split(ANSWER_MARK)[0]


def cut_with_generation_prompt(template, kind, messages):
    return rendered(template, kind, [*messages, said(ANSWER_MARK)], True).split(ANSWER_MARK)[0]


def what_two_answers_share(template, kind, messages):
    """The common beginning of two conversations that differ in their answers alone."""
    one, other = (rendered(template, kind, [*messages, said(text)], False) for text in ("\u2997", "\u2998"))
    return one[: next(i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])]


def an_empty_answer(template, kind, messages):
    """An empty answer is rendered, and what ends every answer is taken off."""
    end = rendered(template, kind, [*messages, said(ANSWER_MARK)], False).split(ANSWER_MARK)[1]
    return rendered(template, kind, [*messages, said("")], False).removesuffix(end)


def with_an_empty_system_message(template, kind, messages):
    return rendered(template, kind, [{"role": "system", "content": ""}, *messages], True)


def in_parts(template, kind, messages):
    parted = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in messages]
    return rendered(template, kind, parted, True)


def in_parts_cut_at_the_content(template, kind, messages):
    parted = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in messages]
    return rendered(template, kind, [*parted, said(ANSWER_MARK)], False).split(ANSWER_MARK)[0]


def trimmed(template, kind, messages):
    """What is said goes through white space that the program takes off again."""
    return rendered(template, kind, [{**turn, "content": f" {turn['content']}\n".strip()} for turn in messages], True)


CLIENTS = (
    by_generation_prompt,
    without_generation_prompt,
    cut_at_the_content,
    cut_with_generation_prompt,
    what_two_answers_share,
    an_empty_answer,
    with_an_empty_system_message,
    in_parts,
    in_parts_cut_at_the_content,
    trimmed,
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    generators = {
        kind: generator_with(folder / f"{kind}.gguf", TinySpec(tokenizer=name, layers=1))
        for kind, name in (("chatml", "bpe"), ("vicuna", "spm"))
    }
    yield {kind: generator.tokenize for kind, generator in generators.items()}
    for generator in generators.values():
        generator.close()


def messages_of(history, question):
    return [turn for pair in history for turn in (asked(pair[0]), said(pair[1]))] + [asked(question)]


def exported(kind, name, layout):
    """The form of training, and its exported template."""
    form = prompts.in_layout(form_of(kind, name), layout)
    return form, task_template(NASTY, form, add_bos=KINDS[kind][3])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ("chat", "plain"))
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(TURNS, SAID)
def test_every_client_s_prompt_has_the_tokens_of_training(tokenizers, kind, name, layout, history, question):
    form, template = exported(kind, name, layout)
    messages, bos = messages_of(history, question), KINDS[kind][1] if KINDS[kind][3] else ""
    wanted = tokenizers[kind](prompts.conversation_prompt(NASTY, form, messages, NASTY.examples))
    for client in CLIENTS:
        text = client(template, kind, messages)
        assert text.startswith(bos)
        assert tokenizers[kind]((Segment(text[len(bos) :]),)) == wanted, client.__name__


@pytest.mark.parametrize("name", ("chat", "plain"))
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(SAID, SAID)
def test_without_a_lead_an_assistant_s_turn_is_prompt_and_answer_to_the_token(tokenizers, kind, name, question, answer):
    form, template = exported(kind, name, WHOLE)
    tokenize, bos = tokenizers[kind], KINDS[kind][1] if KINDS[kind][3] else ""
    assert prompts.answer_text(form, answer) == answer
    prompt = prompts.answer_prompt(NASTY, form, question)
    both = text_of(prompt) + answer
    turn = rendered(template, kind, [asked(question), said(answer)], False).removeprefix(bos)
    assert turn.startswith(both)
    assert tokenize(prompt) + prompts.answer_tokens(tokenize, prompt, answer) == tokenize((Segment(both),))


@pytest.mark.parametrize("name", ("chat", "plain"))
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(TURNS, SAID)
def test_without_a_lead_a_program_may_go_on_from_what_it_has(tokenizers, kind, name, history, question):
    """As llama.cpp's chats do: of each turn only what is behind the conversation so far is read, and joined to it."""
    form, template = exported(kind, name, WHOLE)
    messages, bos = messages_of(history, question), KINDS[kind][1] if KINDS[kind][3] else ""
    joined = rendered(template, kind, messages[:1], True)
    for n in range(2, len(messages), 2):
        past = rendered(template, kind, messages[:n], False)
        assert past.startswith(joined + messages[n - 1]["content"])
        joined = past + rendered(template, kind, messages[: n + 1], True)[len(past) :]
    wanted = prompts.conversation_prompt(NASTY, form, messages, NASTY.examples)
    assert tokenizers[kind]((Segment(joined.removeprefix(bos)),)) == tokenizers[kind](wanted)


@pytest.mark.parametrize("name", ("chat", "plain"))
@settings(max_examples=25)
@given(TURNS, SAID)
def test_without_a_lead_a_program_may_tokenise_what_is_said_by_itself(tokenizers, name, history, question):
    """As node-llama-cpp does with contents, which hold no special tokens for it."""
    form, template = exported("chatml", name, WHOLE)
    messages, tokenize = messages_of(history, question), tokenizers["chatml"]
    marked = [{**turn, "content": f"\u2997{i}\u2998"} for i, turn in enumerate([*messages, said("")])]
    pieces = re.split("\u2997([0-9]+)\u2998", rendered(template, "chatml", marked, False))[:-2]
    apart = [messages[int(piece)]["content"] if i % 2 else piece for i, piece in enumerate(pieces)]
    ids = [tokenize((Segment(text, trusted=i % 2 == 0),)) for i, text in enumerate(apart)]
    assert sum(ids, ()) == tokenize(prompts.conversation_prompt(NASTY, form, messages, NASTY.examples))


@pytest.mark.parametrize(
    ("family", "layout"), [*((family, LEAD) for family in MORE), *((family, WHOLE) for family in WHOLES)]
)
def test_every_family_s_clients_ask_as_in_training(family, layout):
    """Blocks of thinking and blanks that a template puts before an answer are part of the prompt."""
    form = prompts.in_layout(prompts.chat_form(MORE[family], "<s>", "</s>", False), layout)
    template = task_template(NASTY, form, add_bos=False)
    for messages in ([asked("new")], [asked("one"), said("first"), asked("new")]):
        wanted = text_of(prompts.conversation_prompt(NASTY, form, messages, NASTY.examples))
        assert {client.__name__: client(template, "vicuna", messages) for client in CLIENTS} == {
            client.__name__: wanted for client in CLIENTS
        }


@pytest.mark.parametrize("family", sorted(TRIMMING))
def test_a_family_that_trims_answers_behind_a_blank_has_one_layout(family):
    with pytest.raises(SgError, match="train.layout=whole has no place"):
        prompts.in_layout(prompts.chat_form(MORE[family], "<s>", "</s>", False), WHOLE)


@pytest.mark.parametrize("family", WHOLES)
def test_without_a_lead_no_family_s_answer_has_one(family):
    form = prompts.in_layout(prompts.chat_form(MORE[family], "<s>", "</s>", False), WHOLE)
    assert form.lead == "" and prompts.in_layout(form, WHOLE) == form


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_plain_prompt_is_completed_where_a_program_trims_it(kind, layout):
    form, template = exported(kind, "plain", layout)
    whole = text_of(prompts.answer_prompt(NASTY, form, "new"))
    for text in (whole, whole.rstrip()):
        assert rendered(template, kind, [asked(text)], True).endswith(whole)
        assert text_of(prompts.conversation_prompt(NASTY, form, [asked(text)], NASTY.examples)) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_that_ends_in_an_answer_keeps_its_end(kind):
    form, template = exported(kind, "chat", WHOLE)
    turn = rendered(template, kind, [asked("new"), said("yes")], False)
    assert turn.endswith({"chatml": "yes<|im_end|>\n", "vicuna": "yes</s>"}[kind])
    assert turn.count("yes") == 1
