"""Small evaluations over a scripted generator, for the tests of evaluate and report."""

import dataclasses
from pathlib import Path

from sg_local import prompts
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.evaluate import EvalSettings, Evaluation
from sg_local.records import Candidate, Pair, Score, Task, TestRow
from sg_local.run import ADAPTER, CANDIDATES, Run

LABELS = ("red", "blue")
TASK = Task(
    name="colours",
    kind="classification",
    instruction="Say red or blue.",
    examples=(Pair("a fire engine", "red"), Pair("the deep sea", "blue")),
    labels=LABELS,
    tests=tuple(
        TestRow(f"test number {word}", (LABELS[i % 2],)) for i, word in enumerate(["one", "two", "three", "four"])
    ),
)
REWRITE = Task(
    name="lower",
    kind="generation",
    instruction="Write it in lower case.",
    examples=(Pair("HELLO THERE", "hello there"),),
    tests=tuple(TestRow(f"SENTENCE NUMBER {word}", (f"sentence number {word}".lower(),)) for word in "ABCDEFGH"),
)
PAIRS = tuple(Pair(f"synthetic {word}", LABELS[i % 2]) for i, word in enumerate(["north", "south", "east", "west"]))
SETTINGS = EvalSettings(chunk_size=3, resamples=200, ensemble=0)  # a fake knows no text by its label


def asked_input(prompt):
    """The input that a scripted prompt ends with."""
    turn = prompt.rpartition("<|im_start|>user\n")[2] if "<|im_start|>" in prompt else prompt.rpartition("Input: ")[2]
    return turn.partition("<|im_end|>")[0].partition("\nOutput:")[0].split("\n\n")[-1]


class FakeGenerator(ScriptedGenerator):
    """Says red to everything; with the adapter it knows the answers. Labels score as the map says."""

    def __init__(self, answers, label_scores=None):
        super().__init__(Path("fake"), lambda prompt, rng: self.say(asked_input(prompt), prompt))
        self.answers, self.label_scores, self.n_scored = answers, label_scores or {}, 0

    def say(self, text, prompt):
        return self.answers.get(text, "blue") if self.adapter else "red"

    def score(self, asked):
        for one in asked:
            self.n_scored += 1
            text = asked_input("".join(segment.text for segment in one.segments))
            yield Score(one.id, self.label_scores.get(text, (-1.0, -2.0)))


def job_of(root, task=TASK, generator=None, pairs=PAIRS, settings=SETTINGS):
    run = Run(root)
    run.write_json("run.json", {"task": dataclasses.asdict(task), "model": {"name": "fake"}})
    if not run.path(ADAPTER).exists():
        run.path(ADAPTER).write_text("adapter")
        run.append(CANDIDATES, [Candidate(str(i), p.input, p.output, {}, 1, 1.0) for i, p in enumerate(pairs)])
    answers = {row.input: row.outputs[0] for row in task.tests}
    generator = generator or FakeGenerator(answers)
    forms = prompts.forms_of(generator.info)
    return Evaluation(run, task, forms[0], forms, generator, settings, pairs)
