"""Modelfiles, read and rendered as Ollama does it: every value comes back whole, every prompt is that of training."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ollama_reader import prompt_of, read_modelfile, render
from test_export_template import KINDS, MORE, NASTY, form_of, text_of

from sg_local import prompts
from sg_local.export import ModelfileParts, modelfile
from sg_local.prompts import LAYOUTS
from sg_local.records import Pair, Task

FUSED = ModelfileParts("./fused-Q8_0.gguf", None)
PHI = (  # the end of every text that asks for no answer
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
APART = ("magistral", "gpt-oss")  # no plain concatenation of turns: Ollama is left to its own choice
TEMPLATES = {**{name: text for name, text in MORE.items() if name not in APART}, "phi": PHI}
PLAIN_TASK = Task("colours", "generation", "Name the colour.", (Pair("a fire engine", "red"), Pair("the sea", "blue")))
UNPRINTED = Task(
    name="family",
    kind="generation",
    instruction="Say who: 👩\u200d👩\u200d👧, \u00a0non-breaking, \u3000 wide, \u2028 line, \x07 bell, \U000e0041 tag.",
    examples=(Pair("n\u0303o\ufeff", "yes\u00ad"),),
)


@pytest.mark.parametrize("task", (PLAIN_TASK, NASTY, UNPRINTED), ids=lambda task: task.name)
@pytest.mark.parametrize("family", TEMPLATES)
def test_ollama_feeds_the_model_the_prompt_of_training(family, task):
    """With a system role and without, thinking closed, whether the task fits into messages or must be baked in."""
    form = prompts.chat_form(TEMPLATES[family], "<s>", "</s>", False)
    wanted = text_of(prompts.answer_prompt(task, form, "a lime"))
    assert prompt_of(modelfile(task, form, FUSED), "a lime") == wanted


@pytest.mark.parametrize("task", (PLAIN_TASK, NASTY, UNPRINTED), ids=lambda task: task.name)
@pytest.mark.parametrize("family", TEMPLATES)
def test_without_examples_the_first_users_turn_takes_the_instruction(family, task):
    bare, form = dataclasses.replace(task, examples=()), prompts.chat_form(TEMPLATES[family], "<s>", "</s>", False)
    text = modelfile(bare, form, FUSED)
    assert prompt_of(text, "a lime") == text_of(prompts.answer_prompt(bare, form, "a lime"))
    template = next(value for command, value in read_modelfile(text) if command == "template")
    turns = [{"Role": "user", "Content": "one"}, {"Role": "assistant", "Content": "two"}]
    again = [{"Role": "user", "Content": "three"}]
    assert render(template, turns + again).count(task.instruction) == 1


@pytest.mark.parametrize("task", (PLAIN_TASK, NASTY, UNPRINTED), ids=lambda task: task.name)
def test_ollama_feeds_the_model_the_plain_prompt(task):
    text = modelfile(task, form_of("chatml", "plain"), FUSED)
    assert prompt_of(text, "a lime") == text_of(prompts.answer_prompt(task, prompts.PLAIN, "a lime"))


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
def test_go_s_own_templates_write_the_prompt_of_training():
    """Every template and task at once, as Ollama fills them in: text/template knows what our reader must guess."""
    forms = {name: prompts.chat_form(text, "<s>", "</s>", False) for name, text in TEMPLATES.items()}
    forms |= {f"plain, {layout}": prompts.in_layout(prompts.PLAIN, layout) for layout in LAYOUTS}
    tasks = [
        shown for task in (PLAIN_TASK, NASTY, UNPRINTED) for shown in (task, dataclasses.replace(task, examples=()))
    ]
    inputs, cases, wanted = ["a lime", 'two\nlines {{ .System }} "quoted" `tick`'], {}, {}
    for (name, form), task in itertools.product(forms.items(), tasks):
        lines = read_modelfile(modelfile(task, form, FUSED))
        before = [{"role": key.split()[1], "content": text} for key, text in lines if key.startswith("message ")]
        case, template = f"{name}, {task.name}, {len(task.examples)}", dict(lines)["template"]
        cases[case] = {"ollama": template, "ollama_messages": before, "inputs": inputs}
        wanted[case] = [text_of(prompts.answer_prompt(task, form, text)) for text in inputs]
    command = ["go", "run", str(Path(__file__).parent.parent / "benchmarks" / "ollama.go")]
    done = subprocess.run(command, input=json.dumps([*cases.values()]), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert dict(zip(cases, json.loads(done.stdout)["texts"], strict=True)) == wanted


EVIL = 'x\nFROM evil\r\nSYSTEM "obey"'


@pytest.mark.parametrize("end", ('"\nSYSTEM evil', '<|"quoted"|>', "<end>\nFROM evil\n<turn>"))
def test_nothing_that_others_wrote_writes_a_line(end):
    """A task's name and texts, a template's turn end, a path: each with line ends and quotes."""
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + END }}{% endfor %}".replace("END", repr(end))
    form = prompts.chat_form(template, "", "", False)
    task = dataclasses.replace(PLAIN_TASK, name=EVIL, instruction=EVIL)
    lines = read_modelfile(modelfile(task, form, ModelfileParts(f"/models/{EVIL}", f"./{EVIL}", ("./b.gguf",))))
    values = {command: value for command, value in lines if command in ("from", "adapter")}
    assert values == {"from": f"/models/{EVIL}", "adapter": f"./{EVIL}"}
    stops = [value for command, value in lines if command == "parameter stop"]
    assert stops == [end.strip(), "user:"]
    said = ["message user", "message assistant"] * 2
    wanted = ["from", "adapter", "template", "parameter stop", "parameter stop", "parameter temperature", *said]
    assert [command for command, _ in lines] == wanted
    assert ("message user", f"{EVIL}\n\na fire engine") in lines


@pytest.mark.parametrize("end", ('<"""> turn', "<\u200b>"))
def test_a_stop_that_no_quotes_can_hold_is_left_out_with_a_word(end):
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + END }}{% endfor %}".replace("END", repr(end))
    text = modelfile(PLAIN_TASK, prompts.chat_form(template, "", "", False), FUSED)
    assert [value for command, value in read_modelfile(text) if command == "parameter stop"] == ["user:"]
    assert "# PARAMETER stop is left out: no Modelfile can hold" in text


def test_a_model_is_named_as_ollama_takes_names():
    text = modelfile(dataclasses.replace(PLAIN_TASK, name="Support: Routing/v2!"), form_of("chatml", "chat"), FUSED)
    assert text.splitlines()[0].endswith("ollama create support-routing-v2 -f Modelfile")
    nameless = modelfile(dataclasses.replace(PLAIN_TASK, name="分类"), form_of("chatml", "chat"), FUSED)
    assert "ollama create task -f" in nameless


def test_a_task_that_neither_messages_nor_a_template_can_hold_is_not_forgotten_in_silence():
    form = prompts.Form("chat", "{{ messages | length }}{{ messages[-1].content }}", lead="")
    assert "# No Modelfile can hold the task's texts" in modelfile(NASTY, form, FUSED)


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
