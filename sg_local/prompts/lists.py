"""Prompts that are lists which the model goes on with: inputs, outputs, or inputs behind their outputs."""

from __future__ import annotations

from collections.abc import Sequence

from sg_local.records import Pair, Segment, Segments, Task


def continue_input_prompt(task: Task, shown: Sequence[Pair], label: str | None) -> Segments:
    """A list of inputs to go on with. With a label, output first: the label steers the input that follows."""
    if label is None:
        rows = "".join(f"Input: {pair.input}\n\n" for pair in shown)
        text = f"{task.instruction}\n\nDifferent inputs for this task:\n\n{rows}Input:"
    else:
        rows = "".join(f"Output: {pair.output}\nInput: {pair.input}\n\n" for pair in shown)
        text = f"{task.instruction}\n\n{rows}Output: {label}\nInput:"
    return (Segment(text, trusted=False),)


def continue_output_prompt(task: Task, shown: Sequence[Pair]) -> Segments:
    """A list of outputs to go on with."""
    rows = "".join(f"Output: {pair.output}\n\n" for pair in shown)
    return (Segment(f"{task.instruction}\n\nDifferent outputs of this task:\n\n{rows}Output:", trusted=False),)
