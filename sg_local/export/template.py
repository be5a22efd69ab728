"""Chat templates that carry a task: a bare user message is answered as if it had come with the whole prompt.

The template puts the task's turns (instruction and demonstrations) in front of the conversation and hands over to
the model's own template, so that what it renders for one user message is, character for character, the prompt of
training. A system message stays first; further turns follow the demonstrations; a conversation whose first user
message already brings the instruction is left alone. In the plain form, where the model has no template or the
adapter was trained without it, the template writes the few-shot text itself.

Special-token strings inside the task's own text become special tokens when a program tokenises the rendered text as
a whole; sg-local itself never lets them. Where a template alters its contents (trims them, say), it does so here too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jinja2
import jinja2.nodes

from sg_local.prompts import DATE, Form, Manner, answer_messages, check_syntax, manner_of, render
from sg_local.records import Pair, SgError, Task

_SPLIT = (
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
_EACH = (
    "{%- set sg_all = namespace(turns=[]) -%}{%- for sg_turn in messages -%}"
    "{%- set sg_all.turns = sg_all.turns + [TURN] -%}{%- endfor -%}{%- set messages = sg_all.turns -%}"
)
# For a template that takes contents as lists of parts: contents become texts, and behind the task's turns parts again.
_JOIN = _EACH.replace(
    "TURN",
    "sg_turn if sg_turn['content'] is string or sg_turn['content'] is not iterable"
    " or (sg_turn['content'] | rejectattr('type', 'equalto', 'text') | list)"
    " else {'role': sg_turn['role'], 'content': sg_turn['content'] | map(attribute='text') | join('')}",
)
_PART = _EACH.replace(
    "TURN",
    "{'role': sg_turn['role'], 'content': [{'type': 'text', 'text': sg_turn['content']}]}"
    " if sg_turn['content'] is string else sg_turn",
)
_PLAIN = (
    "{%- if sg_has_system -%}{{- messages[0]['content'] + '\\n\\n' -}}{%- endif -%}"
    "{%- if sg_bare -%}{{- TEXT -}}{%- endif -%}"
    "{%- for message in sg_turns -%}"
    "{%- if message['role'] == 'assistant' -%}{{- ' ' + message['content'] + '\\n\\n' -}}"
    "{%- elif loop.first and not sg_bare -%}{{- message['content'] -}}"
    "{%- else -%}{{- 'Input: ' + message['content'] + '\\nOutput:' -}}{%- endif -%}"
    "{%- endfor -%}"
)
_HINT = "Leave the model's own template in the files: `export.plain_template=true`."
_GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


def task_template(task: Task, form: Form, *, add_bos: bool, examples: Sequence[Pair] | None = None) -> str:
    """Jinja source that wraps a bare user message in the task's prompt, in the form that was trained.

    `add_bos`: the model's tokenizer begins every text with its beginning-of-sequence token; programs that leave this
    to the template need it there. Raises SgError for a base template that no wrapper can be put around.
    """
    shown = task.examples if examples is None else tuple(examples)
    split = _SPLIT.replace("INSTRUCTION", literal(task.instruction))
    if form.template is None:
        return split + _bos(add_bos) + _PLAIN.replace("TEXT", literal(plain_head(task, shown)))
    tree, manner = _tree(form.template), manner_of(form.template, form.eos)
    bos = _bos(add_bos and not _writes_bos(form))
    turns = split + _wrapped(task, shown)
    turns = _JOIN + turns + _PART if manner.parts else turns
    head = _fixed(tree, manner) + turns + (bos or "{{- '' }}")
    return head + _everywhere(_unindented(form.template)) + _cue(form)


def literal(text: str) -> str:
    """A text as a Jinja string literal, with the escapes that every engine knows: llama.cpp's has none by number."""
    return f'"{text.translate(_ESCAPES)}"'


_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\0": r"\u0000"})


def plain_head(task: Task, examples: Sequence[Pair]) -> str:
    """The plain prompt up to where the new input's cue begins (prompts.answer_prompt)."""
    shown = "".join(f"Input: {pair.input}\nOutput: {pair.output}\n\n" for pair in examples)
    return f"{task.instruction}\n\n{shown}"


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


def _unindented(template: str) -> str:
    """The template as it renders at the start of a file: with lstrip_blocks, blanks before a first tag vanish."""
    bare = template.lstrip(" \t")
    return bare if bare.startswith(("{%", "{#")) and not bare.startswith(("{%+", "{#+")) else template


def _writes_bos(form: Form) -> bool:
    """Whether the base template itself begins with the beginning-of-sequence token."""
    hello = [{"role": "user", "content": "hello"}]
    return bool(form.bos) and _text(replace(form, add_bos=False), hello, True).startswith(form.bos)


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


def _cue(form: Form) -> str:
    """What the prompt ends with after the base template's own text, as templates.render adds it."""
    return "{{- " + literal(form.cue) + " if add_generation_prompt else '' }}" if form.cue else ""


def _tree(template: str) -> jinja2.nodes.Template:
    """The template's tree. The wrapper works by setting `messages`; one that never reads it cannot carry a task."""
    try:
        tree = check_syntax(template)
    except jinja2.TemplateError as error:
        raise SgError(f"The model's chat template is not valid Jinja: {error}.", _HINT) from error
    if not any(node.name == "messages" for node in tree.find_all(jinja2.nodes.Name)):
        raise SgError("The model's chat template does not read `messages`.", _HINT)
    return tree


@dataclass(frozen=True)
class Turns:
    """A chat template taken apart by rendering it: the text around each role's content.

    `opening` comes first where no system message is given; `cue` asks for the next answer. `system` is None where the
    template has no such turn: it refuses one (Gemma 2, Mistral) or writes it into a user's turn.
    """

    opening: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    cue: str

    def joined(self, messages: Sequence[dict[str, str]]) -> str:
        """A conversation put together, asking for an answer."""
        around = {"system": self.system or ("", ""), "user": self.user, "assistant": self.assistant}
        parts = [
            before + message["content"] + after for message in messages for before, after in [around[message["role"]]]
        ]
        return ("" if messages[0]["role"] == "system" else self.opening) + "".join(parts) + self.cue


def turns_of(form: Form) -> Turns | None:
    """The parts of a template that is a plain concatenation of turns, or None for one that is not."""
    if form.template is None:
        return Turns("", ("", "\n\n"), ("Input: ", "\nOutput:"), (" ", "\n\n"), "")
    turns = next((found for ending in ("", form.eos) for found in [_tried(form, ending)] if found is not None), None)
    if turns is None:
        return None
    try:
        whole = replace(turns, system=_system(form, turns))
        return whole if _fits(form, whole, _SYSTEM_TRIALS) else turns
    except SgError:
        return turns


def _tried(form: Form, ending: str) -> Turns | None:
    """The parts, where they make the template's text again. `ending` stands behind a text that asks for no answer, as
    in Phi-3's template.
    """
    try:
        turns = _taken_apart(form, ending)
        return turns if _fits(form, turns, _TRIALS) else None
    except SgError:
        return None


def _fits(form: Form, turns: Turns, trials: Sequence[list[dict[str, str]]]) -> bool:
    """Whether the parts, put together, are what the template writes."""
    return all(turns.joined(messages) == _text(form, messages, True) for messages in trials)


_USER, _ANSWER, _SYSTEM = ({"role": role, "content": role[0] * 3} for role in ("user", "assistant", "system"))
_TRIALS = ([_USER], [_USER, _ANSWER, _USER, _ANSWER, _USER])
_SYSTEM_TRIALS = ([_SYSTEM, _USER, _ANSWER, _USER],)


def _taken_apart(form: Form, ending: str) -> Turns:
    """What the parts must be if the template has any; whether they are is for the caller to try."""
    marks = [{"role": role, "content": mark} for role, mark in (("user", "\ue010"), ("assistant", "\ue011"))]
    pieces = [*re.split("[\ue010\ue011]", _text(form, marks * 2, False).removesuffix(ending)), *[""] * 4]
    start, between, seam, _, tail = pieces[:5]
    lone, asked = _text(form, marks[:1], False).removesuffix(ending), _text(form, marks[:1], True)
    after_user, before_user = lone.partition("\ue010")[2], seam[len(tail) :]
    return Turns(
        opening=start.removesuffix(before_user),
        system=None,
        user=(before_user, after_user),
        assistant=(between.removeprefix(after_user), tail),
        cue=asked[len(lone) :],
    )


def _system(form: Form, turns: Turns) -> tuple[str, str]:
    """What stands around a system message, if it has a turn of its own. Raises SgError where it is refused."""
    messages = [{"role": role, "content": mark} for role, mark in (("system", "\ue012"), ("user", "\ue010"))]
    before, _, rest = _text(form, messages, False).partition("\ue012")
    return before, rest.partition("\ue010")[0].removesuffix(turns.user[0])


def _text(form: Form, messages: list[dict[str, str]], generation: bool) -> str:
    return "".join(segment.text for segment in render(form, messages, generation=generation))
