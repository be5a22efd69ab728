"""The form of a new task, answer by answer, and the schema that JSON outputs have in common."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sg_local.records import SgError, from_dict, to_json
from sg_local.schemas import misfit, unfit
from sg_local.tasks.draft import Draft
from sg_local.tasks.form import DONE, Form, answered, form_of, kept_form, question_of
from sg_local.tasks.shape import schema_of

MAIL = "Hello,\n\nthe box was empty.\n.\nAnn"
START = ("Sort the mail.", "c", "billing, delivery")


def filled(*answers: str, draft: Draft = Draft("x")) -> Form:  # noqa: B008 (a frozen record)
    form = form_of(draft)
    for answer in answers:
        form = answered(form, answer)
    return form


def test_a_classification_task_is_asked_for_step_by_step():
    form = filled(*START, MAIL, "2", "Where is the refund?", "Billing.", "", "And my invoice?", "billing", "")
    assert form.step == DONE
    draft = form.draft
    assert draft.kind == "classification" and draft.labels == ("billing", "delivery")
    assert draft.examples == ((MAIL, "delivery"), ("Where is the refund?", "billing"))
    assert [(row.input, row.outputs) for row in draft.tests] == [("And my invoice?", ("billing",))]


def test_a_number_that_is_a_label_is_that_label():
    assert filled("Count.", "1", "2, 1, 0", "one pear", "1").draft.examples == (("one pear", "1"),)


@pytest.mark.parametrize(
    ("answers", "says", "step"),
    [
        ([" "], "A sentence or two", "instruction"),
        ([START[0], "x"], "Type c or g", "kind"),
        ([START[0], ""], "Type c or g", "kind"),
        ([*START[:2], "one"], "two labels", "labels"),
        ([*START, ""], "Give at least one example", "input"),
        ([*START, "a", "3"], "not one of the labels", "output"),
        ([*START, "a", ""], "an output", "output"),
        ([*START, "a", "1", "A!"], "an example already", "input"),
        ([*START, "a", "1", "", "a"], "sees its answer", "test input"),
        ([*START, "a", "1", "", "b", "1", "B"], "a test row already", "test input"),
        (["Do.", "g", "a", '{"n": 1}', "y", "b", "text"], "not JSON like the other", "output"),
        (["Do.", "g", "a", '{"n": 1}', "maybe"], "Type y or n", "schema"),
        (["Do.", "g", "a", '{"n": 1}', "", "", "b", '{"m": 1}'], "does not fit the examples' schema", "test output"),
    ],
)
def test_an_answer_that_cannot_be_taken_is_asked_again(answers, says, step):
    form = filled(*answers)
    assert says in form.message and form.step == step


def test_questions_show_the_labels_by_number_and_where_lines_may_be_several():
    assert question_of(filled(*START)).is_text and not question_of(filled(*START, "a")).is_text
    assert question_of(filled(*START, "a")).text == "Example 1, output (1 billing, 2 delivery):"
    assert question_of(filled("Do.", "g", "a")).is_text


def test_a_schema_is_offered_and_grows_with_the_outputs():
    begun = ("Do.", "g", "a", '{"n": 1, "to": null}')
    assert filled(*begun).step == "schema"
    assert filled(*begun, "n").draft.schema == "" and filled(*begun, "n", "b", "text").draft.schema == ""
    schema = json.loads(filled(*begun, "y", "b", '{"n": 1.5, "by": "x"}').draft.schema)
    assert schema["properties"]["n"]["type"] == "number" and schema["required"] == ["n"]
    assert filled("Do.", "g", "a", "17").step == "input"


def test_what_is_known_is_not_asked():
    known = Draft("x", "classification", None, ("a", "b"), (("i", "a"),), tests_beside=True)
    assert filled("Sort.", draft=known).step == DONE


def test_a_form_that_is_left_is_kept_whole():
    form = filled(*START, MAIL)
    assert from_dict(Form, json.loads(to_json(form))) == form and form.pending == MAIL


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), min_size=1, max_size=3))
def test_the_shape_fits_every_output_it_was_made_of(outputs):
    texts = [json.dumps(output) for output in outputs]
    schema = schema_of(texts)
    assert unfit(json.loads(schema)) == "" and [misfit(schema, text) for text in texts] == [""] * len(texts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ('{"draft": {"name": 5}, "step": "kind"}', "draft.name is not a text"),
        ('{"draft": {"name": "x"}, "step": "[", "typed": ""}', "there is no step '['"),
    ],
)
def test_a_form_that_was_kept_is_one_or_is_refused(tmp_path, text, words):
    path = tmp_path / "x.toml.draft"
    path.write_text(to_json(filled("Sort.")))
    assert kept_form(path) == filled("Sort.")
    path.write_text(text)
    with pytest.raises(SgError) as caught:
        kept_form(path)
    assert words in caught.value.message and "x.toml.draft" in caught.value.message and caught.value.hint
