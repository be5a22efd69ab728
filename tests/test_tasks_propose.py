"""A task proposed from labelled rows: what it takes them for, what it shows, and that no row stands in two places."""

import csv
import json
import random
from collections import Counter

import pytest

from sg_local.metrics import leaks
from sg_local.prompts import normalise
from sg_local.records import SgError
from sg_local.tables import read_table
from sg_local.tasks.draft import Draft
from sg_local.tasks.propose import are_labels, propose

SUBJECTS = {
    "Billing": "I was charged {n} euros twice, please look at invoice {n}",
    "Delivery": "the parcel {n} has not come and the courier of route {n} says nothing",
    "Technical": "after update {n} the screen shows error {n} and stays dark",
}
WORDS = (
    "amber birch cedar daisy elder fern gorse hazel iris juniper kelp larch maple nettle oak pine quince rose".split()
)

TEAMS = Draft("teams")


def mail(subject: str, n: int) -> str:
    """A mail of its own: no two of them nearly repeat each other."""
    about = " ".join(random.Random(n).sample(WORDS, 12))
    return f"Dear team,\n\n{SUBJECTS[subject].format(n=n)}; {about}.\n\nAnn"


def mails(n: int) -> list[tuple[str, str]]:
    return [(mail(team, n), team) for n, team in zip(range(n), [*SUBJECTS] * n, strict=False)]


@pytest.fixture
def proposed(tmp_path):
    """Makes a proposal from rows, written as a spreadsheet first."""

    def make(rows, draft=TEAMS):
        with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("input", "output"), *rows])
        return propose(read_table(tmp_path / "rows.csv"), draft)

    return make


def inputs(proposal) -> list[list[str]]:
    draft = proposal.draft
    return [[text for text, _ in draft.examples], [row.input for row in draft.tests], [row.input for row in draft.rows]]


@pytest.mark.parametrize(("n", "n_tests", "n_rest"), [(12, 9, 0), (50, 30, 17), (303, 150, 150), (903, 200, 700)])
def test_every_row_stands_in_one_place(proposed, n, n_tests, n_rest):
    rows = mails(n) if n < 100 else [(f"{i} {i * i} {i**3} {i**5} {i**7}", "yes" if i % 2 else "no") for i in range(n)]
    shown, tests, rest = inputs(proposed(rows))
    assert (len(shown), len(tests), len(rest)) == (3, n_tests, n_rest)
    assert len({normalise(text) for text in (*shown, *tests, *rest)}) == n
    assert not any(leaks(tests, shown))


def test_labels_are_found_and_each_is_shown_and_tested(proposed):
    draft = proposed(mails(60)).draft
    assert draft.kind == "classification" and draft.labels == ("Billing", "Delivery", "Technical")
    assert [output for _, output in draft.examples] == ["Billing", "Delivery", "Technical"]
    counts = Counter(row.outputs[0] for row in draft.tests)
    assert set(counts) == set(draft.labels) and max(counts.values()) - min(counts.values()) <= 1


def test_a_rare_label_is_tested_before_a_common_one_takes_all(proposed):
    rare = [(mail("Billing", 900 + i) + " " * i, "Rare") for i in range(3)]
    draft = proposed([*mails(300), *rare]).draft
    assert "Rare" in {row.outputs[0] for row in draft.tests} and "Rare" in {output for _, output in draft.examples}


def test_spellings_of_a_label_are_one_label_and_a_slip_is_pointed_at(proposed):
    rows = mails(30)
    rows[3], rows[7] = (rows[3][0], " billing."), (rows[7][0], "Biling")
    rows[7] = (mail("Delivery", 77), "Biling")
    proposal = proposed(rows)
    assert proposal.draft.labels[:3] == ("Billing", "Delivery", "Technical")
    told = "\n".join(proposal.told)
    assert "1 other spelling is read as the commonest one" in told
    assert ":37: the label 'Biling' occurs once: if you mean 'Billing'" in told


def test_repeats_are_taken_once_and_contradictions_left_out(proposed):
    rows = mails(30)
    rows += [rows[0], (rows[1][0].upper(), rows[1][1]), (rows[2][0], "Billing")]
    proposal = proposed(rows)
    found = [normalise(text) for place in inputs(proposal) for text in place]
    assert len(found) == len(set(found)) == 29 and normalise(rows[2][0]) not in found
    told = "\n".join(proposal.told)
    assert "2 rows repeat an input: each is taken once" in told
    assert "have one input and other labels: left out" in told


def test_free_texts_are_a_generation_task_and_show_three_lengths(proposed):
    rows = [(f"{'word ' * i}{i * 37}", f"Answer {i} of many.") for i in range(1, 60)]
    draft = proposed(rows).draft
    assert draft.kind == "generation" and draft.labels == ()
    lengths = [len(text) for text, _ in draft.examples]
    assert len(lengths) == 3 and lengths == sorted(lengths) and lengths[2] > 1.5 * lengths[0]


def test_the_same_input_with_several_right_texts_is_one_test_row(proposed):
    rows = [(mail("Delivery", i), f"Answer {i}.") for i in range(19)]
    draft = proposed([*rows, *((text, f"Another {answer}") for text, answer in rows)]).draft
    assert all(len(row.outputs) == 2 for row in draft.tests) and len(draft.tests) == 16


def test_an_instruction_that_is_the_same_in_every_row_is_the_tasks(tmp_path):
    rows = [{"instruction": "Sort it.", "input": text, "output": team} for text, team in mails(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    draft = propose(read_table(tmp_path / "rows.jsonl"), TEAMS).draft
    assert draft.instruction == "Sort it." and "Sort it." not in draft.examples[0][0]


def test_what_is_given_stands(proposed):
    given = Draft(
        "x", "classification", "Sort.", ("Technical", "Billing", "Delivery"), ((mail("Billing", 0), "Billing"),)
    )
    draft = proposed(mails(40), given).draft
    assert draft.labels == given.labels and draft.examples == given.examples and draft.instruction == "Sort."
    assert mail("Billing", 0) not in [row.input for row in (*draft.tests, *draft.rows)]
    assert proposed(mails(40), Draft("x", kind="generation")).draft.labels == ()


@pytest.mark.parametrize(
    ("rows", "draft", "says"),
    [
        ([("a", ""), ("b", "")], Draft("x"), "no row with an output"),
        ([("a", "yes"), ("b", "yes")], Draft("x", kind="classification"), "all rows have the output 'yes'"),
        ([("a", "yes"), ("b", "maybe")], Draft("x", labels=("yes", "no")), "rows.csv:3: the output 'maybe' is not one"),
        ([("a", "yes"), ("a", "no")], Draft("x", kind="classification"), "no row to show"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rows_that_make_no_task_are_refused(proposed, rows, draft, says):
    with pytest.raises(SgError, match=says) as refused:
        proposed(rows, draft)
    assert refused.value.exit_code == 2 and refused.value.hint


@pytest.mark.parametrize(
    ("outputs", "wanted"),
    [
        (["yes", "no"] * 3, True),
        (["yes"] * 9, False),
        (["yes", "no", "maybe"], False),
        (["a " * 40, "b " * 40] * 9, False),
        (["a\nb", "c"] * 9, False),
        ([str(i) for i in range(31)] * 5, False),
    ],
)
def test_few_short_outputs_that_repeat_are_labels(outputs, wanted):
    assert are_labels(outputs) is wanted


def test_examples_are_short_where_many_are_shown(proposed):
    rows = [(f"{i} {'word ' * (i % 7 * 200)}{i * i}", f"label {i % 10}") for i in range(200)]
    draft = proposed(rows).draft
    assert len(draft.examples) == 10 and sum(len(text) for text, _ in draft.examples) < 9000
