"""The task inside the chat template: the same text and the same token ids as our own prompt, by others' renderers."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pytest
from tiny_models import CHATML, VICUNA, TinySpec, write_model

from sg_local import gguf, models, prompts
from sg_local.backends import EngineSettings, open_generator
from sg_local.export import ModelfileParts, modelfile, task_template
from sg_local.export.template import turns_of
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


@pytest.mark.parametrize("messages", ([], [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]))
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_modelfile_holds_the_task_as_messages(kind, routing):
    text = modelfile(routing, form_of(kind, "chat"), ModelfileParts("./fused-Q8_0.gguf", None))
    lines = text.splitlines()
    assert "FROM ./fused-Q8_0.gguf" in lines
    assert "PARAMETER temperature 0" in lines
    assert text.count("MESSAGE user") == text.count("MESSAGE assistant") == 3
    assert f'MESSAGE user """{routing.instruction}\n\n{routing.examples[0].input}"""' in text
    stop = "<|im_end|>" if kind == "chatml" else "</s>"
    assert f'PARAMETER stop "{stop}"' in lines


def test_a_modelfile_with_an_adapter(routing):
    text = modelfile(routing, form_of("chatml", "chat"), ModelfileParts("base.gguf", "./adapter.gguf"))
    assert "FROM base.gguf\nADAPTER ./adapter.gguf\n" in text


def test_triple_quotes_in_a_task_do_not_end_a_modelfile_value():
    text = modelfile(NASTY, form_of("chatml", "chat"), ModelfileParts("x.gguf", None))
    assert text.count('"""') == 2
    assert "MESSAGE" not in text
    assert '\\"\\"\\" end.' in text


def test_plain_form_modelfile_spells_out_the_prompt(fluent):
    text = modelfile(fluent, form_of("chatml", "plain"), ModelfileParts("x.gguf", None))
    assert "Output: When does the bakery open?\\n\\n" in text
    assert "MESSAGE" not in text
    assert "<|im_start|>" not in text
    assert 'TEMPLATE """{{ if .System }}{{ .System }}{{ "\\n\\n" }}{{ end }}{{ "Rewrite' in text


def test_a_template_without_a_plain_turn_layout_is_left_to_ollama(fluent):
    form = prompts.Form("chat", "{{ messages | length }}{{ messages[-1].content }}", lead="")
    assert "TEMPLATE" not in modelfile(fluent, form, ModelfileParts("x.gguf", None))


def test_the_wrapped_template_survives_the_file(tmp_path):
    form = form_of("chatml", "chat")
    template = task_template(NASTY, form, add_bos=False)
    base = write_model(tmp_path / "m.gguf", TinySpec(layers=1))
    gguf.copy_with_fields(base, tmp_path / "n.gguf", {"tokenizer.chat_template": template})
    assert gguf.check_model(tmp_path / "n.gguf").chat_template == template
    assert dataclasses.asdict(form)["template"] == CHATML
