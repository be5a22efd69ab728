"""What stage A asks the model, and its replies as rows: pure functions of texts.

Inputs are asked for in one of two styles: `paper` (the authors' request in words: role, instruction, good examples,
machine-made examples, rules) and `continue` (a list that the model goes on with, output first for classification, so
that the label steers what is written).
"""

from __future__ import annotations

from collections.abc import Sequence

from sg_local.parsing import trimmed, uncued, unfenced, unheld, unquoted, unthought
from sg_local.prompts import Form, render
from sg_local.records import Segment, Segments, Task


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


def output_stops(task: Task) -> tuple[str, ...]:
    """Strings that end a synthesised output: a line end where every demonstration's output is one line."""
    shown = [pair.output for pair in task.examples]
    return unheld(("\n\n", "\nInput:", "\nOutput:"), shown) if any("\n" in text for text in shown) else ("\n",)


def input_stops(task: Task) -> tuple[str, ...]:
    """Strings that end a synthesised input: a line end where every demonstration's input is one line."""
    shown = [pair.input for pair in task.examples]
    return unheld(("\n\n", "\nOutput:", "\nInput:"), shown) if any("\n" in text for text in shown) else ("\n",)


def parse_input(task: Task, raw: str, lead: str = " ") -> str:
    """A synthesised input as a row: trimmed, without a repeated cue or number, a fence, one matching pair of quotes.

    Thoughts are left out; of a model that is still thinking nothing is left.
    Each stays where a demonstration's input has it. `lead` is what stands between the prompt and its first character.
    """
    shown = [pair.input for pair in task.examples]
    said = unthought(raw, shown) or ""
    text = uncued(trimmed(said, shown, lead), r"(?:new )?input:\s*", shown)
    text = uncued(text, r"1[.)]\s+", shown)
    return unquoted(unfenced(trimmed(text, shown), shown), shown)


def is_thinking(task: Task, raw: str) -> bool:
    """Whether an input that the model writes ends inside a thought."""
    return unthought(raw, [pair.input for pair in task.examples]) is None


def parse_target(task: Task, raw: str) -> str:
    """An output that the model wrote first, read as an answer is (prompts.parse_output), and without its quotes."""
    shown = [pair.output for pair in task.examples]
    text = trimmed(uncued(trimmed(unthought(raw, shown) or "", shown, " "), r"output:\s*", shown), shown)
    return unquoted(unfenced(text, shown), shown)
