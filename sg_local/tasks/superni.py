"""Super-NaturalInstructions tasks, read as they are published.

The definition is the instruction, the first three positive examples are shown, the instances are the test rows. One
counts as classification when its instances use at most ten different outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sg_local.reading import parse_json, read_text
from sg_local.records import Kind, Pair, Task, TestRow
from sg_local.tasks.source import TaskSource
from sg_local.words import brief

SHOWN = 3
MAX_LABELS = 10
ROWS_A_LABEL = 4


def is_superni(path: Path) -> bool:
    """Whether a JSON file is a task rather than a list of rows. Raises SgError (usage) for what is no JSON."""
    return not read_text(path).lstrip().startswith("[")


def from_superni(source: TaskSource) -> Task:
    """The task of a Super-NI file, not yet checked. Raises SgError (usage) where it is no such file."""
    data = parse_json(source.text, str(source.path), "Check the file.")
    try:
        definition = data["Definition"]
        instruction = _text(definition if isinstance(definition, str) else definition[0], "Definition")
        shown = data["Positive Examples"]
        examples = tuple(Pair(_text(e["input"]), _text(e["output"])) for e in shown)
        tests = tuple(_test(row) for row in data["Instances"])
    except (KeyError, IndexError, TypeError) as error:
        hint = "It needs Definition, Positive Examples and Instances, with texts as input and output."
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise source.error(f"this is not a Super-NaturalInstructions task ({brief(why, 100)}).", hint) from error
    labels = _labels(tests, examples)
    kind: Kind = "classification" if labels else "generation"
    return Task(source.path.stem, kind, instruction.strip(), examples[:SHOWN], labels, tests)


def _test(row: dict[str, Any]) -> TestRow:
    outputs = row["output"]
    texts = [outputs] if isinstance(outputs, str) else outputs
    if not isinstance(texts, list) or not texts:
        raise TypeError("output is neither a text nor a list of texts")
    return TestRow(_text(row["input"]), tuple(_text(text) for text in texts))


def _text(value: Any, name: str = "an input or output") -> str:
    """A text of the file; TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a text")
    return value.strip()


def _labels(tests: tuple[TestRow, ...], examples: tuple[Pair, ...]) -> tuple[str, ...]:
    """The label set where the outputs form one: few distinct ones against the number of rows; else empty."""
    outputs = {output for row in tests for output in row.outputs}
    if len(outputs) > MAX_LABELS or len(tests) < ROWS_A_LABEL * len(outputs):
        return ()
    return tuple(sorted(outputs | {pair.output for pair in examples}))
