"""Chat templates that carry a task: a bare user message is answered as if it had come with the whole prompt.

The template puts the task's turns (instruction and demonstrations) in front of the conversation and hands over to the
model's own template, so that what it renders for one user message is, character for character, the prompt of training.
A system message stays first, an empty one counts as none; further turns follow the demonstrations; a conversation whose
first user message already brings the instruction is left alone. Programs render in many ways, and some cut a rendered
answer at its content to see what precedes it: an answer at the end stands right behind the prompt that asks for it,
whether a generation prompt is asked for or not. In the plain form, where the model has no template or the adapter was
trained without it, the template writes the few-shot text itself.

Special-token strings inside the task's own text become special tokens when a program tokenises the rendered text as
a whole; sg-local itself never lets them. Where a template alters its contents (trims them, say), it does so here too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import jinja2
import jinja2.nodes

from sg_local.export.turns import text_of
from sg_local.prompts import DATE, Form, Manner, answer_messages, check_syntax, manner_of, plain_head
from sg_local.records import Pair, SgError, Task

_EACH = (
    "{%- set sg_all = namespace(turns=[]) -%}{%- for sg_turn in messages -%}"
    "{%- set sg_all.turns = sg_all.turns + [TURN] -%}{%- endfor -%}{%- set messages = sg_all.turns -%}"
)
# Contents that are lists of texts become texts; for a template that takes lists, behind the task's turns lists again.
_JOIN = _EACH.replace(
    "TURN",
    "{'role': sg_turn['role'], 'content': sg_turn['content'] | map(attribute='text') | join('')}"
    " if sg_turn['content'] is not string and sg_turn['content'] is iterable and sg_turn['content'] | list"
    " and not (sg_turn['content'] | rejectattr('type', 'equalto', 'text') | list) else sg_turn",
)
_PART = _EACH.replace(
    "TURN",
    "{'role': sg_turn['role'], 'content': [{'type': 'text', 'text': sg_turn['content']}]}"
    " if sg_turn['content'] is string else sg_turn",
)
_INSET = _EACH.replace(
    "TURN",
    "{'role': 'assistant', 'content': INSET + sg_turn['content']} if sg_turn['role'] == 'assistant'"
    " and sg_turn['content'] is string and not sg_turn['tool_calls'] else sg_turn",
)
# Some programs put an empty system message in front, for which a template leaves out its own.
_SPLIT = (
    "{%- if messages and messages[0]['role'] == 'system' and messages[0]['content'] is string"
    " and not (messages[0]['content'] | trim) -%}{%- set messages = messages[1:] -%}{%- endif -%}"
    "{%- set sg_has_system = messages and messages[0]['role'] == 'system' -%}"
    "{%- if sg_has_system -%}{%- set sg_turns = messages[1:] -%}"
    "{%- else -%}{%- set sg_turns = messages -%}{%- endif -%}"
    "{%- set sg_bare = sg_turns and sg_turns[0]['role'] == 'user' and sg_turns[0]['content'] is string"
    " and not sg_turns[0]['content'].startswith(INSTRUCTION) -%}"
)
_CHAT = (
    "{%- if sg_bare -%}{%- set sg_turns = FIRST -%}"
    "{%- if sg_has_system -%}{%- set messages = [messages[0]] + sg_turns -%}"
    "{%- else -%}{%- set messages = sg_turns -%}{%- endif -%}"
    "{%- endif -%}"
)
# A user's last turn asks for an answer, whatever a program says; an answer to it stands where the prompt ends.
_ASKED = (
    "{%- if messages and messages[-1]['role'] == 'user' -%}{%- set add_generation_prompt = true -%}"
    "{%- elif messages | length > 1 and messages[-1]['role'] == 'assistant' and messages[-2]['role'] == 'user'"
    " and messages[-1]['content'] is string -%}"
    "{%- set sg_answer = messages[-1]['content'] -%}{%- set messages = messages[:-1] -%}"
    "{%- set add_generation_prompt = true -%}{%- endif -%}"
)
_ANSWER = "{{ (CUE if add_generation_prompt else '') + (sg_answer + END if sg_answer is defined else '') }}"
_PLAIN = (
    "{%- if sg_has_system -%}{{- messages[0]['content'] + '\\n\\n' -}}{%- endif -%}"
    "{%- if sg_bare -%}{{- TEXT -}}{%- endif -%}"
    "{%- for message in sg_turns -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- ('' if loop.last else LEAD) + message['content'] + '\\n\\n' -}}"
    "{%- elif loop.first and not sg_bare -%}"
    "{{- message['content'] + (CUE if message['content'].endswith('Output:') else '') -}}"
    "{%- else -%}{{- 'Input:' + GAP + message['content'] + '\\nOutput:' + CUE -}}{%- endif -%}"
    "{%- endfor -%}"
)
_HINT = "Leave the model's own template in the files: `export.plain_template=true`."
_WORD = re.compile(r"\b(?:TEXT|LEAD|CUE|GAP|END)\b")
_GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


def task_template(task: Task, form: Form, *, add_bos: bool, examples: Sequence[Pair] | None = None) -> str:
    """Jinja source that wraps a bare user message in the task's prompt, in the form that was trained.

    `add_bos`: the model's tokenizer begins every text with its beginning-of-sequence token; programs that leave this
    to the template need it there. Raises SgError for a base template that no wrapper can be put around.
    """
    shown = task.examples if examples is None else tuple(examples)
    split = _JOIN + _SPLIT.replace("INSTRUCTION", literal(task.instruction))
    if form.template is None:
        return split + _bos(add_bos) + _plain(task, form, shown)
    tree, manner = _tree(form.template), manner_of(form.template, form.eos)
    bos = _bos(add_bos and not _writes_bos(form))
    turns = split + _wrapped(task, shown) + _ASKED
    turns += _INSET.replace("INSET", literal(form.inset)) if form.inset else ""
    turns += _PART if manner.parts else ""
    head = _fixed(tree, manner) + turns + (bos or "{{- '' }}")
    return head + _everywhere(_at_edges(form.template)) + _answer(form)


def literal(text: str) -> str:
    """A text as a Jinja string literal, with the escapes that every engine knows: llama.cpp's has none by number."""
    return f'"{text.translate(_ESCAPES)}"'


_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\0": r"\u0000"})


def _plain(task: Task, form: Form, examples: Sequence[Pair]) -> str:
    """The few-shot text."""
    texts = {"TEXT": plain_head(task, form, examples), "LEAD": form.lead, "CUE": form.cue, "GAP": form.gap}
    return _WORD.sub(lambda word: literal(texts[word[0]]), _PLAIN)


def _bos(wanted: bool) -> str:
    return "{{- bos_token }}" if wanted else ""


def _wrapped(task: Task, examples: Sequence[Pair]) -> str:
    """The part that puts the task's turns in front. Without demonstrations the user's turn takes the instruction."""
    turns = answer_messages(task, "", examples)[:-1]
    if not turns:
        content = f"{literal(task.instruction + chr(10) * 2)} + sg_turns[0]['content']"
        return _CHAT.replace("FIRST", f"[{{'role': 'user', 'content': {content}}}] + sg_turns[1:]")
    listed = ", ".join(f"{{'role': '{turn['role']}', 'content': {literal(turn['content'])}}}" for turn in turns)
    return _CHAT.replace("FIRST", f"[{listed}] + sg_turns")


def _at_edges(template: str) -> str:
    """The template as it renders when it is a whole file: with lstrip_blocks, blanks before a first tag vanish, and
    one line end at the end does.
    """
    bare = template.lstrip(" \t")
    opens = bare.startswith(("{%", "{#")) and not bare.startswith(("{%+", "{#+"))
    return (bare if opens else template).removesuffix("\n")


def _writes_bos(form: Form) -> bool:
    """Whether the base template itself begins with the beginning-of-sequence token."""
    hello = [{"role": "user", "content": "hello"}]
    return bool(form.bos) and text_of(replace(form, add_bos=False), hello, True).startswith(form.bos)


def _fixed(tree: jinja2.nodes.Template, manner: Manner) -> str:
    """What templates.render tells the template and another program would not: no thinking, no tools as `manner` has
    them, and always the same date.
    """
    names = {node.name for node in tree.find_all(jinja2.nodes.Name)}
    known = [_NO_TOOLS[manner.no_tools].replace("NAME", name) for name in ("tools", "documents") if name in names]
    off = "{%- set enable_thinking = false -%}" if "enable_thinking" in names else ""
    return off + "".join(known) + (_dated(tree) if "strftime_now" in names else "")


_NO_TOOLS = {
    True: "{%- if NAME is not defined -%}{%- set NAME = none -%}{%- endif -%}",
    False: "{%- if NAME is none -%}{%- set NAME = sg_unset -%}{%- endif -%}",  # transformers passes none for no tools
}


def _dated(tree: jinja2.nodes.Template) -> str:
    """`strftime_now` as a macro that knows the date in every format that the template asks for."""
    given = (one.args[0] for one in tree.find_all(jinja2.nodes.Call) if _tells_date(one))
    told = {str(one.value) for one in given if isinstance(one, jinja2.nodes.Const)}
    cases = "".join(
        f"{{%- if sg_format == {literal(format)} -%}}{{{{- {literal(DATE.strftime(format))} -}}}}{{%- endif -%}}"
        for format in sorted(told)
    )
    return "{%- macro strftime_now(sg_format) -%}" + cases + "{%- endmacro -%}"


def _tells_date(call: jinja2.nodes.Call) -> bool:
    return (
        isinstance(call.node, jinja2.nodes.Name)
        and call.node.name == "strftime_now"
        and len(call.args) == 1
        and isinstance(call.args[0], jinja2.nodes.Const)
    )


def _everywhere(template: str) -> str:
    """The template without `{% generation %}`, which few programs know: its body is rendered as it is."""
    return _GENERATION.sub(lambda tag: tag[1] + ("endif" if tag[2] else "if true") + tag[3], template)


def _answer(form: Form) -> str:
    """What stands behind the base template's own text: the prompt's end as templates.render adds it, and an answer."""
    mark = "\ue011"
    turns = [{"role": "user", "content": "\ue010"}, {"role": "assistant", "content": mark}]
    _, said, end = text_of(form, turns, False).rpartition(mark)
    texts = {"CUE": form.cue, "END": end if said else ""}
    return _WORD.sub(lambda word: literal(texts[word[0]]), _ANSWER)


def _tree(template: str) -> jinja2.nodes.Template:
    """The template's tree. The wrapper works by setting `messages`; one that never reads it cannot carry a task."""
    try:
        tree = check_syntax(template)
    except jinja2.TemplateError as error:
        raise SgError(f"The model's chat template is not valid Jinja: {error}.", _HINT) from error
    if not any(node.name == "messages" for node in tree.find_all(jinja2.nodes.Name)):
        raise SgError("The model's chat template does not read `messages`.", _HINT)
    return tree
