"""Task and template to prompt text, model text back to rows: pure functions, no engine.

Two forms lay out the same task. `chat` is SELF-GUIDE's multi-turn prompt through the model's own chat template:
the instruction and the first demonstration's input as the first user turn, its output as the assistant turn, the
other demonstrations likewise, then the new input. `plain` is the few-shot text that base models continue. User
text is never trusted: special-token strings inside it stay text (records.Segment).

Stage A asks for inputs in one of two styles: `paper` (the authors' request in words: role, instruction, good
examples, machine-made examples, rules) and `continue` (a list that the model goes on with, output first for
classification, so that the label steers what is written).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jinja2
import jinja2.sandbox

from sg_local.records import Pair, Segment, Segments, SgError, Task

MARK = re.compile("\ue000(\\d+)\ue001")
BOS_MARK = "\ue002"
QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "`": "`"}


@dataclass(frozen=True)
class Form:
    """How a prompt is laid out. `template` is Jinja source for `chat` and None for `plain`.

    `lead` is what stands between the prompt and the answer's first character ('' in ChatML, ' ' in Vicuna).
    `add_bos` says whether the tokenizer adds `bos` by itself (None: unknown).
    """

    name: str
    template: str | None = None
    bos: str = ""
    eos: str = ""
    lead: str = " "
    add_bos: bool | None = None


PLAIN = Form("plain")


def forms(template: str | None, bos: str = "", eos: str = "", add_bos: bool | None = None) -> tuple[Form, ...]:
    """The forms a model can answer in: `chat` first where there is a template, then `plain`."""
    plain = replace(PLAIN, bos=bos, eos=eos, add_bos=add_bos)
    if template is None:
        return (plain,)
    chat = Form("chat", template, bos, eos, lead="", add_bos=add_bos)
    return (replace(chat, lead=_lead(chat)), plain)


def form_named(choices: Sequence[Form], name: str) -> Form:
    """The form with this name; SgError when the model has no such form."""
    for form in choices:
        if form.name == name:
            return form
    known = ", ".join(form.name for form in choices)
    raise SgError(f"This model has no prompt form {name!r}.", f"It has: {known}.", exit_code=2)


def render(form: Form, messages: Sequence[dict[str, str]], *, generation: bool = True) -> Segments:
    """Messages through a chat template, contents untrusted. A template error raises SgError.

    The beginning-of-sequence token is cut off at the start where the tokenizer adds it. Its string alone proves
    nothing: SmolLM2's is ChatML's `<|im_start|>`, with which every turn begins and which its tokenizer never adds.
    """
    assert form.template is not None
    marked = [{**message, "content": f"\ue000{i}\ue001"} for i, message in enumerate(messages)]
    try:
        text = (
            _environment()
            .from_string(form.template)
            .render(messages=marked, add_generation_prompt=generation, bos_token=BOS_MARK, eos_token=form.eos)
        )
    except jinja2.TemplateError as error:
        raise SgError(f"The chat template cannot render this prompt: {error}.", "Try `--form plain`.") from error
    parts = MARK.split(_without_bos(form, text))
    segments = [
        Segment(messages[int(part)]["content"], trusted=False) if i % 2 else Segment(part)
        for i, part in enumerate(parts)
    ]
    return tuple(segment for segment in segments if segment.text)


def _without_bos(form: Form, text: str) -> str:
    """A rendered template without the leading token that the tokenizer will add, BOS_MARK elsewhere spelt out."""
    if form.add_bos is not False and text.startswith(BOS_MARK):
        text = text[len(BOS_MARK) :]
    elif form.add_bos and form.bos and text.startswith(form.bos):
        text = text[len(form.bos) :]
    return text.replace(BOS_MARK, form.bos)


def answer_prompt(task: Task, form: Form, text: str, examples: Sequence[Pair] | None = None) -> Segments:
    """The prompt that training, evaluation and serving share: instruction, demonstrations, the new input.

    `examples` defaults to the task's own; fewer are given where the context is too small.
    """
    shown = task.examples if examples is None else examples
    if form.template is None:
        return _plain_answer_prompt(task, text, shown)
    return render(form, answer_messages(task, text, shown))


def answer_messages(task: Task, text: str, examples: Sequence[Pair]) -> list[dict[str, str]]:
    """The chat turns of `answer_prompt`: the instruction opens the first user turn."""
    messages = []
    for pair in (*examples, Pair(text, "")):
        messages.append({"role": "user", "content": pair.input})
        messages.append({"role": "assistant", "content": pair.output})
    messages[0]["content"] = f"{task.instruction}\n\n{messages[0]['content']}"
    return messages[:-1]


def _plain_answer_prompt(task: Task, text: str, examples: Sequence[Pair]) -> Segments:
    shown = "".join(f"Input: {pair.input}\nOutput: {pair.output}\n\n" for pair in examples)
    return (Segment(f"{task.instruction}\n\n{shown}Input: {text}\nOutput:", trusted=False),)


def answer_text(form: Form, output: str) -> str:
    """What follows the prompt when the answer is `output`, without end-of-sequence."""
    return form.lead + output


def answer_stops(task: Task, form: Form) -> tuple[str, ...]:
    """Strings that end an answer besides end-of-sequence: the layout's own, and a line end for one-line tasks."""
    layout = ("\n\nInput:", "\nInput:", "\nOutput:") if form.template is None else ()
    multiline = any("\n" in pair.output for pair in task.examples)
    return layout if multiline else ("\n", *layout)


def paper_input_prompt(
    task: Task, form: Form, inputs: Sequence[str], pool: Sequence[str], label: str | None
) -> Segments:
    """Stage A as the authors ask: good inputs, machine-made inputs, rules, a cue (arXiv 2407.12874, code)."""
    wanted = f' whose correct output is "{label}"' if label is not None else ""
    good = "\n".join(f"{i}. {text}" for i, text in enumerate(inputs, 1))
    made = "\n".join(f"{i}. {text}" for i, text in enumerate(pool, 1))
    request = (
        f"You write new inputs for a task. Write one input{wanted} that is new, distinct and differs in subject "
        f"and wording from every input below.\n\nThe task: {task.instruction}\n\nInputs of high quality:\n{good}\n\n"
    )
    if pool:
        request += f"Machine-made inputs, whose format may be wrong:\n{made}\n\n"
    request += (
        f"Rules: write one input only{wanted}; keep the format of the inputs of high quality; "
        "do not write the output; do not explain.\n\nNew input:"
    )
    if form.template is None:
        return (Segment(request, trusted=False),)
    return render(form, [{"role": "user", "content": request}])


def continue_input_prompt(task: Task, shown: Sequence[Pair], label: str | None) -> Segments:
    """Stage A as a list to go on with. With a label, output first: the label steers the input that follows."""
    if label is None:
        rows = "".join(f"Input: {pair.input}\n\n" for pair in shown)
        text = f"{task.instruction}\n\nDifferent inputs for this task:\n\n{rows}Input:"
    else:
        rows = "".join(f"Output: {pair.output}\nInput: {pair.input}\n\n" for pair in shown)
        text = f"{task.instruction}\n\n{rows}Output: {label}\nInput:"
    return (Segment(text, trusted=False),)


def continue_output_prompt(task: Task, shown: Sequence[Pair]) -> Segments:
    """Stage A for generation, output first: a list of outputs to go on with."""
    rows = "".join(f"Output: {pair.output}\n\n" for pair in shown)
    return (Segment(f"{task.instruction}\n\nDifferent outputs of this task:\n\n{rows}Output:", trusted=False),)


def output_stops(task: Task) -> tuple[str, ...]:
    """Strings that end a synthesised output: a line end where every demonstration's output is one line."""
    multiline = any("\n" in pair.output for pair in task.examples)
    return ("\n\n", "\nInput:", "\nOutput:") if multiline else ("\n",)


def input_stops(task: Task) -> tuple[str, ...]:
    """Strings that end a synthesised input: a line end where every demonstration's input is one line."""
    if all("\n" not in pair.input for pair in task.examples):
        return ("\n",)
    return ("\n\n", "\nOutput:", "\nInput:")


def parse_input(raw: str) -> str:
    """A synthesised input as a row: trimmed, a repeated cue and one matching pair of quotes removed."""
    text = re.sub(r"^(?:new )?input:\s*", "", raw.strip(), flags=re.IGNORECASE)
    text = re.sub(r"^1[.)]\s+", "", text)
    return unquote(text.strip())


def parse_output(task: Task, raw: str) -> str:
    """A sampled output as a row's output: a label in its canonical spelling where it names one, else the text."""
    text = re.sub(r"^output:\s*", "", raw.strip(), flags=re.IGNORECASE).strip()
    label = match_label(task.labels, text)
    return text if label is None else label


def majority(votes: Mapping[str, int]) -> str:
    """The output with the most votes; ties go to the shortest, then to the first in the alphabet. No votes: empty."""
    return min(votes, key=lambda output: (-votes[output], len(output), output), default="")


def match_label(labels: Sequence[str], text: str) -> str | None:
    """The label that equals the text after normalising, else None."""
    wanted = normalise(text)
    return next((label for label in labels if normalise(label) == wanted), None)


def normalise(text: str) -> str:
    """Lower case, punctuation removed, white space folded: the form in which exact match compares."""
    bare = re.sub(r"[^\w\s]", "", text.lower())
    folded = " ".join(bare.split())
    return folded or " ".join(text.lower().split())


def unquote(text: str) -> str:
    """The text without one pair of quotes that encloses all of it."""
    if len(text) >= 2 and QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        return text[1:-1].strip()
    return text


def _lead(form: Form) -> str:
    """What the template puts between its generation prompt and an assistant turn's content."""
    user = {"role": "user", "content": "u"}
    asked = "".join(s.text for s in render(form, [user]))
    turn = render(form, [user, {"role": "assistant", "content": "a"}], generation=False)
    index = max(i for i, segment in enumerate(turn) if not segment.trusted)
    before = "".join(s.text for s in turn[:index])
    return before[len(asked) :] if before.startswith(asked) else ""


def _environment() -> jinja2.Environment:
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.Undefined, extensions=["jinja2.ext.loopcontrols"]
    )
    env.globals["raise_exception"] = _refuse
    return env


def _refuse(message: str) -> str:
    raise jinja2.TemplateError(message)
