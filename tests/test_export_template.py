"""The task inside the chat template: the same text and the same token ids as our own prompt, by others' renderers."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path

import pytest
from test_prompts_templates import CUE, FAMILIES, LOOP
from tiny_models import CHATML, VICUNA, TinySpec, write_model

from sg_local import gguf, models, prompts
from sg_local.backends import EngineSettings, open_generator
from sg_local.export import task_template
from sg_local.export.turns import turns_of
from sg_local.home import ModelFolders
from sg_local.records import Pair, SgError, Task

NASTY = Task(
    name="nasty",
    kind="generation",
    instruction='Say "it" and \'it\': {{ x }} {% if %} {# c #} {%- raw -%} \\n back\\slash é 😀 \t\x07 `tick` """ end.',
    examples=(Pair('a "b"', "c\\d"), Pair("{{ messages }}\n{% endfor %}", "%}\n}}")),
)
INPUTS = ("hello there", 'two\nlines {{ y }} "quoted"', "  spaces around  ")
KINDS = {"chatml": (CHATML, "<|im_start|>", "<|im_end|>", False), "vicuna": (VICUNA, "<s>", "</s>", True)}


def form_of(kind, name):
    template, bos, eos, add_bos = KINDS[kind]
    return prompts.form_named(prompts.forms(template, bos, eos, add_bos), name)


def by_llama_cpp_python(template, kind, messages):
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    _, bos, eos, _ = KINDS[kind]
    return Jinja2ChatFormatter(template, eos_token=eos, bos_token=bos)(messages=messages).prompt


def by_transformers(template, kind, messages):
    from transformers.utils.chat_template_utils import render_jinja_template

    _, bos, eos, _ = KINDS[kind]
    texts, _ = render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=True, bos_token=bos, eos_token=eos
    )
    return texts[0]


RENDERERS = (by_llama_cpp_python, by_transformers)


def text_of(segments):
    return "".join(segment.text for segment in segments)


def user(text):
    return {"role": "user", "content": text}


@pytest.mark.parametrize("render", RENDERERS)
@pytest.mark.parametrize("name", ("chat", "plain"))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_examples", (0, 1, 2))
def test_a_bare_input_renders_as_our_prompt(render, name, kind, n_examples):
    form, (_, bos, _, add_bos) = form_of(kind, name), KINDS[kind]
    examples = NASTY.examples[:n_examples]
    template = task_template(NASTY, form, add_bos=add_bos, examples=examples)
    for text in INPUTS:
        wanted = text_of(prompts.answer_prompt(NASTY, form, text, examples))
        assert render(template, kind, [user(text)]) == (bos if add_bos else "") + wanted


LISTED = "{% if tools is defined %}{% for tool in tools %}{{ tool }}{% endfor %}{% endif %}"  # Hermes, Command R
MORE = {**{name: row[0] for name, row in FAMILIES.items()}, "tools, listed": LISTED + LOOP + CUE}


def by_transformers_in_parts(template, kind, messages):
    parted = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in messages]
    return by_transformers(template, kind, parted)


@pytest.mark.parametrize("render", RENDERERS)
@pytest.mark.parametrize("family", MORE)
def test_every_family_s_template_carries_the_task_as_it_was_trained(render, family):
    """Thinking off, its closed block in place, the date fixed, no tools, contents as the template wants them."""
    form = prompts.chat_form(MORE[family], "<s>", "</s>", False)
    template = task_template(NASTY, form, add_bos=False)
    assert "generation %}" not in template.replace("add_generation_prompt %}", "")
    for text in INPUTS[:2]:  # Gemma trims what is said, and does so in the file too
        assert render(template, "vicuna", [user(text)]) == text_of(prompts.answer_prompt(NASTY, form, text))


def test_a_template_that_takes_parts_is_given_them_and_takes_texts_too():
    form = prompts.chat_form(MORE["parts"], "<s>", "</s>", False)
    template = task_template(NASTY, form, add_bos=False)
    wanted = text_of(prompts.answer_prompt(NASTY, form, "new"))
    assert by_transformers(template, "vicuna", [user("new")]) == wanted
    assert by_transformers_in_parts(template, "vicuna", [user("new")]) == wanted
    whole = prompts.answer_messages(NASTY, "new", NASTY.examples)
    assert by_transformers_in_parts(template, "vicuna", whole) == wanted
    picture = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "new"}]}]
    assert "Say" not in by_transformers(template, "vicuna", picture)  # not what the task takes


def test_tools_that_a_program_has_reach_the_template():
    from transformers.utils.chat_template_utils import render_jinja_template

    form = prompts.chat_form(MORE["tools, listed"], "<s>", "</s>", False)
    template = task_template(NASTY, form, add_bos=False)
    texts, _ = render_jinja_template([[user("new")]], tools=[{"name": "lamp"}], chat_template=template)
    assert "lamp" in texts[0]


def test_a_text_is_written_with_escapes_that_llama_cpp_s_engine_knows():
    """common/jinja/lexer.h: n, t, r, b, f, v, the quotes and the backslash; anything else ends in an error there."""
    template = task_template(NASTY, form_of("chatml", "chat"), add_bos=False)
    assert set(re.findall(r"\\(.)", template, re.DOTALL)) == {"n", "t", "\\", '"'}
    assert "\x07" in template


@pytest.mark.parametrize("kind", KINDS)
def test_further_turns_follow_the_demonstrations(kind):
    form, add_bos = form_of(kind, "chat"), KINDS[kind][3]
    template = task_template(NASTY, form, add_bos=add_bos)
    turns = [user("one"), {"role": "assistant", "content": "first"}, user("two")]
    before = [*prompts.answer_messages(NASTY, "one", NASTY.examples)[:-1], *turns]
    wanted = text_of(prompts.render(form, before))
    assert by_llama_cpp_python(template, kind, turns).endswith(wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_system_message_stays_first(kind):
    form, add_bos = form_of(kind, "chat"), KINDS[kind][3]
    template = task_template(NASTY, form, add_bos=add_bos)
    system = {"role": "system", "content": "Be brief."}
    found = by_llama_cpp_python(template, kind, [system, user("one")])
    wanted = text_of(prompts.render(form, [system, *prompts.answer_messages(NASTY, "one", NASTY.examples)]))
    assert found.endswith(wanted)


@pytest.mark.parametrize("name", ("chat", "plain"))
@pytest.mark.parametrize("kind", KINDS)
def test_our_whole_prompt_is_not_wrapped_twice(kind, name):
    form, add_bos = form_of(kind, name), KINDS[kind][3]
    template = task_template(NASTY, form, add_bos=add_bos)
    whole = text_of(prompts.answer_prompt(NASTY, form, "new"))
    messages = [user(whole)] if name == "plain" else prompts.answer_messages(NASTY, "new", NASTY.examples)
    assert by_llama_cpp_python(template, kind, messages).endswith(whole)
    assert by_llama_cpp_python(template, kind, messages).count('Say "it"') == 1


@pytest.mark.parametrize("messages", ([], [{"role": "user", "content": [{"type": "image"}]}]))
def test_other_conversations_reach_the_base_template_as_they_are(messages):
    base = "{{ messages | length }}"
    template = task_template(NASTY, prompts.Form("chat", base, lead=""), add_bos=False)
    assert by_llama_cpp_python(template, "chatml", messages) == str(len(messages))


@pytest.mark.parametrize(
    "base", ("\n{{ messages[-1].content }}", "  {% if true %}x{% endif %}", "{#- c -#}\n\nx{{ messages[-1].content }}")
)
def test_white_space_at_the_base_templates_start_is_kept(base):
    form = prompts.Form("chat", base + "{{ messages[0].role }}", lead="")
    found = by_llama_cpp_python(task_template(NASTY, form, add_bos=False), "chatml", [user("hi")])
    assert found == text_of(prompts.answer_prompt(NASTY, form, "hi"))


@pytest.mark.parametrize("base", ("{% for m in %}", "{{ prompt }}"))
def test_a_template_that_cannot_carry_a_task_is_refused(base):
    with pytest.raises(SgError, match="template") as caught:
        task_template(NASTY, prompts.Form("chat", base), add_bos=False)
    assert "`export.plain_template=true`" in caught.value.hint


def generator_with(path: Path, spec: TinySpec):
    return open_generator("llama.cpp", write_model(path, spec), EngineSettings(n_ctx=1024, n_parallel=1))


@pytest.mark.parametrize("name", ("chat", "plain"))
@pytest.mark.parametrize("tokenizer", ("bpe", "spm"))
def test_token_ids_of_the_rendered_text_are_those_of_training(tmp_path, tokenizer, name):
    """As llama-cpp-python does it: render, then tokenise the whole text with special tokens and no BOS of its own."""
    import llama_cpp

    generator = generator_with(tmp_path / "m.gguf", TinySpec(tokenizer=tokenizer, layers=1))
    info = generator.info
    form = prompts.form_named(prompts.forms_of(info), name)
    template = task_template(NASTY, form, add_bos=info.add_bos)
    engine = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    kind = "vicuna" if tokenizer == "spm" else "chatml"
    for text in INPUTS[:2]:
        rendered = by_llama_cpp_python(template, kind, [user(text)])
        ids = engine.tokenize(rendered.encode(), add_bos=False, special=True)
        assert tuple(ids) == generator.tokenize(prompts.answer_prompt(NASTY, form, text))
    generator.close()
    engine.close()


@pytest.mark.slow
def test_smollm2_ids_by_transformers_apply_chat_template(embedded, routing):
    from transformers import AutoTokenizer

    generator = open_generator("llama.cpp", embedded, EngineSettings(n_parallel=1))
    info = generator.info
    form = prompts.forms_of(info)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = AutoTokenizer.from_pretrained(embedded.parent, gguf_file=embedded.name)
    template = task_template(routing, form, add_bos=info.add_bos)
    for row in routing.tests:
        ids = tokenizer.apply_chat_template(
            [user(row.input)], chat_template=template, add_generation_prompt=True, return_dict=False
        )
        assert tuple(ids) == generator.tokenize(prompts.answer_prompt(routing, form, row.input))
    generator.close()


def test_the_vicuna_card_s_template_carries_a_task(tmp_path, routing):
    card = models.read_cards(ModelFolders.of(tmp_path))["vicuna-7b-v1.5"]
    form = prompts.forms(card.chat_template, "<s>", "</s>", True)[0]
    found = by_llama_cpp_python(task_template(routing, form, add_bos=True), "vicuna", [user("hi")])
    assert found == "<s>" + text_of(prompts.answer_prompt(routing, form, "hi"))
    assert "billing</s>USER: My parcel" in found
    assert found.endswith("USER: hi ASSISTANT:")


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_comes_apart_into_turns_that_make_it_again(kind):
    form = form_of(kind, "chat")
    turns = turns_of(form)
    made = turns.opening
    for message in prompts.answer_messages(NASTY, "new", NASTY.examples):
        before, after = turns.user if message["role"] == "user" else turns.assistant
        made += before + message["content"] + after
    assert made + turns.cue == text_of(prompts.answer_prompt(NASTY, form, "new"))


def test_the_wrapped_template_survives_the_file(tmp_path):
    form = form_of("chatml", "chat")
    template = task_template(NASTY, form, add_bos=False)
    base = write_model(tmp_path / "m.gguf", TinySpec(layers=1))
    gguf.copy_with_fields(base, tmp_path / "n.gguf", {"tokenizer.chat_template": template})
    assert gguf.check_model(tmp_path / "n.gguf").chat_template == template
    assert dataclasses.asdict(form)["template"] == CHATML
