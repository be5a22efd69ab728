"""Every family's chat form to the token, in llama.cpp: what is trained is what is served, scored and written.

One tiny model whose vocabulary has the thinking tags as tokens of their own, as Qwen3's and SmolLM3's have.
"""

from __future__ import annotations

import pytest
from test_prompts_templates import FAMILIES
from tiny_models import TinySpec, tokens_of, write_model
from tiny_walk import TASK, asked, scored_tokens, small_settings, trained_row

import sg_local as sg
from sg_local import prompts, serve
from sg_local.parsing import trimmed
from sg_local.records import Prompt, Sampling
from sg_local.synth.outputs import label_grammar

pytest.importorskip("llama_cpp")

TAGS = (("<think>", 4), ("</think>", 4), ("[THINK]", 3), ("[/THINK]", 3))  # llama.cpp: 4 user-defined, 3 control
SPEC = TinySpec(layers=1, context=2048, tags=TAGS)
TEXT = "Where is <think> my </s> parcel?"  # special strings in a user's text stay text


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("constructs") / "m.gguf", SPEC)


@pytest.fixture(scope="module")
def opened(model, tmp_path_factory):
    """A job whose form the tests change."""
    folder = tmp_path_factory.mktemp("job")
    settings = {**small_settings(), "engine": {"fast_copy": False}}
    with sg.open_job(TASK, model=model, home=folder, runs=folder / "runs", form="plain", settings=settings) as job:
        yield job.opened


@pytest.fixture(params=FAMILIES)
def form(request, opened):
    """A family's chat form on the model, and the job told to use it."""
    info = opened.generator.info
    form = prompts.chat_form(FAMILIES[request.param][0], info.bos, info.eos, info.add_bos, info.ends)
    opened.__dict__["form"] = form
    return form


def text_of(opened, tokens) -> str:
    return b"".join(opened.generator._vocab.piece(token) for token in tokens).decode()


def test_training_serving_and_scoring_see_the_same_tokens(opened, form):
    scored = scored_tokens(opened, TEXT)
    free = asked(opened, TEXT, restricted=False)
    for label in opened.task.labels:
        row = trained_row(opened, TEXT, label)
        assert row.tokens == scored[label]
        assert row.tokens[: row.n_prompt] == opened.generator.tokenize(free.segments)
        assert row.tokens[row.n_prompt : -1] == prompts.answer_tokens(
            opened.generator.tokenize, free.segments, prompts.answer_text(form, label)
        )


def test_an_answer_as_it_was_trained_survives_stops_and_parsing(opened, form):
    """It begins with itself: no stop cuts it short, and nothing of a thought is left in it."""
    free = asked(opened, TEXT, restricted=False)
    for label in opened.task.labels:
        row = trained_row(opened, TEXT, label)
        written = text_of(opened, row.tokens[row.n_prompt : -1])
        assert not any(stop in written for stop in free.sampling.stop)
        assert prompts.parse_output(opened.task, written, form.lead) == label
        assert trimmed(written, [label], form.lead) == label


def test_a_grammar_of_labels_writes_one_right_behind_the_prompt(opened, form):
    free = asked(opened, TEXT, restricted=False)
    sampling = Sampling(max_tokens=20, stop=free.sampling.stop, grammar=label_grammar(opened.task.labels, form.lead))
    (done,) = opened.generator.generate([Prompt("a", free.segments, sampling, 0)])
    assert prompts.parse_output(opened.task, done.text, form.lead) in opened.task.labels
    assert done.text.startswith(form.lead)


def test_what_is_served_is_a_label_by_its_score(opened, form):
    (answer,) = serve.predict(opened.generator, opened.task, form, [TEXT], opened.serve_settings())
    assert answer in opened.task.labels


@pytest.mark.parametrize("family", ["qwen 3", "smollm 3", "r1, open", "magistral"])
def test_a_closed_thought_is_of_special_tokens_in_the_prompt_and_plain_text_in_a_users(opened, family):
    info = opened.generator.info
    form = prompts.chat_form(FAMILIES[family][0], info.bos, info.eos, info.add_bos, info.ends)
    opening, closing = ("[THINK]", "[/THINK]") if family == "magistral" else ("<think>", "</think>")
    ids = opened.generator.tokenize(prompts.answer_prompt(opened.task, form, "[THINK] then"))
    n_thoughts = 1 if family != "smollm 3" else 4  # SmolLM3 writes one into each of its turns
    assert [ids.count(tokens_of(SPEC).index(tag)) for tag in (opening, closing)] == [n_thoughts] * 2
