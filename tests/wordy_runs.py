"""Evaluated runs that are hard to set on a page: ten long labels, long texts, every stage's settings, a full funnel."""

import dataclasses
import random

from tiny_runs import REWRITE, SETTINGS, TASK, FakeGenerator, asked_input, job_of

from sg_local.backends.settings import TrainSettings
from sg_local.evaluate import evaluate
from sg_local.export import ExportSettings
from sg_local.filters import FilterSettings
from sg_local.records import Pair, Score, TestRow
from sg_local.report import FileScore, Gain, Report, write_report
from sg_local.report.records import FIELD_METRICS
from sg_local.run import TRAIN
from sg_local.synth import SynthSettings
from sg_local.training import TrainingRow

LABELS = (
    "Account access and password problems",
    "Billing: refund requested",
    "Billing: charged twice by mistake",
    "Delivery delayed or lost in transit",
    "Technischer_Fehler_in_der_Warenkorbberechnung",
    "Return or exchange of an item",
    "Product question before buying",
    "Complaint about staff behaviour",
    "Newsletter and marketing opt-out",
    "Something else entirely",
)
RULES = ("near_duplicate", "empty", "input_length", "copied_example", "consistency", "vote_share", "refusal", "noise")
CURVE = [[step, 2.0 - step / 40, 2.1 - step / 50 if step % 10 == 0 else None] for step in range(41)]


class Unsure(FakeGenerator):
    """Names any label; with the adapter mostly the right one."""

    def say(self, text, prompt):
        return self.answers[text] if self.knows(text) else random.Random(text).choice(LABELS)

    def score(self, asked):
        for one in asked:
            text = asked_input("".join(segment.text for segment in one.segments))
            right = LABELS.index(self.answers[text]) if self.knows(text) else -1
            yield Score(one.id, tuple(0.0 if i == right else -1.0 - i / 10 for i in range(len(LABELS))))

    def knows(self, text):
        return self.adapter and text in self.answers and random.Random(text).random() < 0.8


def ten_labels(root):
    """A classification run of ten labels whose names are long."""
    said = "and the story goes on and on, as stories of customers do "
    tests = tuple(TestRow(f"Mail {i}: " + said * (1 + i % 9), (LABELS[i % 10],)) for i in range(40))
    task = dataclasses.replace(
        TASK,
        name="what_the_customers_mail_is_about",
        labels=LABELS,
        examples=tuple(Pair(f"An example: {said}{i}", label) for i, label in enumerate(LABELS)),
        tests=tests,
    )
    return finished(root, task, Unsure({test.input: test.outputs[0] for test in tests}), LABELS)


def long_texts(root):
    """A text run with inputs and answers of many words, one of them a single word that has no place to break."""
    words = "PLEASE WRITE ALL OF THIS IN SMALL LETTERS AND LEAVE THE REST AS IT IS "
    texts = [words * (1 + i % 8) + str(i) for i in range(24)] + ["UNBROKEN" * 40]
    tests = tuple(TestRow(text, (text.lower(),)) for text in texts)
    return finished(root, dataclasses.replace(REWRITE, tests=tests), None, ())


def finished(root, task, generator, labels):
    """The run of the task with stamps of all stages, evaluated."""
    pairs = tuple(Pair(f"synthetic {i} {'abc'[i % 3] * 9}", task.tests[i % 10].outputs[0]) for i in range(30))
    job = job_of(root, task, generator, pairs, dataclasses.replace(SETTINGS, retain=True))
    job.run.replace(TRAIN, [TrainingRow(str(i), pair.input, pair.output) for i, pair in enumerate(pairs)])
    job.run.write_stamp("synth", dataclasses.asdict(SynthSettings()), seconds=64.0)
    job.run.write_stamp("filter", dataclasses.asdict(FilterSettings()), seconds=0.1, funnel=funnel(labels))
    job.run.write_stamp("train", dataclasses.asdict(TrainSettings()), seconds=3.5, curve=CURVE)
    job.run.write_stamp("export", dataclasses.asdict(ExportSettings()), seconds=70.0)
    write_report(job.run, with_fields(with_files(evaluate(job))))
    return job.run


def with_files(report: Report) -> Report:
    """The report with the scores of a file whose name is as long as those of real ones."""
    name = "SmolLM2-135M-what-the-customers-mail-is-about-v1.0-F16.gguf"
    gain = Gain(-1.7, -5.0, 1.7, 0.6, "open", True, ())
    systems = {"file": dataclasses.replace(report.tuned, title=f"{name}, its own chat template")}
    gains = {"file-tuned": gain, "file-base": gain}
    file = FileScore(name, "0" * 64, 244_349_824, "Q4_K_M", "chat", systems, gains, {"file": 98.3})
    return dataclasses.replace(report, files=(file,))


def with_fields(report: Report) -> Report:
    """A text report as a task with a schema has it: more columns for every system, and a table of fields."""
    if report.kind == "classification":
        return report
    fields = {f"order.items.{name}": 62.5 for name in ("number", "article", "quantity_ordered", "price")}
    systems = {
        name: dataclasses.replace(one, by_field=fields, metrics={**one.metrics, **dict.fromkeys(FIELD_METRICS, 62.5)})
        for name, one in report.systems.items()
    }
    return dataclasses.replace(report, systems=systems)


def funnel(labels):
    """An account of the filters in which every rule rejected something."""
    return {
        "asked": 200,
        "parsed": 190,
        "accepted": 150,
        "kept": 30,
        "rules": {rule: 3 + 5 * i for i, rule in enumerate(RULES)},
        "examples": {
            rule: [[f"A row against {rule} " * 7, "a reason that takes its words, too"]] * 2 for rule in RULES
        },
        "labels": {label: [20, 3] for label in labels},
        "policy": "asked",
        "why": "votes < asked",
    }
