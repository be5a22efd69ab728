"""What a model thinks never becomes a row or an answer: a closed thought is cut, and one left open leaves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sg_local import filters, prompts, synth
from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.scripted import ScriptedGenerator, default_reply
from sg_local.filters import FilterSettings
from sg_local.gguf import GgufFile
from sg_local.parsing import THOUGHTS, unthought
from sg_local.records import Candidate, InputRow, Pair, Segment
from sg_local.synth import Synthesis, SynthSettings, asking
from tests.test_gguf_config import write_variant
from tests.tiny_models import TinySpec, write_model

SETTINGS = SynthSettings(n_inputs=20, n_asked=120, round_size=16, chunk_size=16)
MARKS = [mark for pair in THOUGHTS for mark in pair]


@pytest.mark.parametrize(
    ("raw", "left"),
    (
        ("billing", "billing"),
        ("<think>It is about money.</think>billing", "billing"),
        ("<think>\nIt is.\n</think>\n\nbilling", "\n\nbilling"),
        ("It is about money.</think>billing", "billing"),
        ("<think>a</think><think>b</think>billing", "billing"),
        ("[THINK]a[/THINK]billing", "billing"),
        ("<think>It is about mo", None),
        ("<think>a</think>billing<think>or", None),
        ("I think so", "I think so"),
    ),
)
def test_thoughts_are_cut_and_open_ones_told(raw, left):
    assert unthought(raw, ["billing"]) == left


def test_a_task_about_the_marks_keeps_them():
    assert unthought("<think>x</think>", ["<think>a</think>"]) == "<think>x</think>"
    assert unthought("[THINK]x", ["<think>a</think>"]) is None


def test_answers_begin_behind_the_thought(routing, fluent):
    assert prompts.parse_output(routing, " <think>Money.</think> Billing.") == "billing"
    assert prompts.parse_output(routing, " <think>Money") == ""
    assert prompts.parse_output(fluent, "<think>\nHm.\n</think>\n\nOutput: When does it open?") == "When does it open?"


def test_inputs_begin_behind_the_thought(routing):
    assert asking.parse_input(routing, '<think>A new one.</think> "My box is lost."') == "My box is lost."
    assert asking.parse_input(routing, "<think>A new one") == ""
    assert asking.is_thinking(routing, "<think>A new one") and not asking.is_thinking(routing, "<think>a</think>b")


def thinking(prompt, rng):
    """A model that thinks before most answers, and sometimes never comes to an end of it."""
    said = default_reply(prompt, rng)
    opening, closing = THOUGHTS[rng.randint(0, len(THOUGHTS) - 1)]
    return [said, f"{opening}Let me see.{closing} {said}", f"{opening}Let me see, {said}", f"Hm.{closing}{said}"][
        rng.randint(0, 3)
    ]


@pytest.mark.parametrize("form", ("plain", "chat"))
@pytest.mark.parametrize("style", ("continue", "paper"))
@pytest.mark.parametrize("kind", ("routing", "fluent"))
def test_no_row_of_a_reasoning_model_holds_a_thought(request, run, tmp_path, form, style, kind):
    task = request.getfixturevalue(kind)
    generator = ScriptedGenerator(tmp_path / "m.gguf", thinking)
    chosen = prompts.form_named(prompts.forms_of(generator.info), form)
    gate = filters.input_gate(task, FilterSettings())
    synth.synthesise(
        Synthesis(run, task, chosen, generator, replace(SETTINGS, style=style), gate, 7), lambda event: None
    )
    inputs, candidates = run.read("inputs.jsonl", InputRow), run.read("candidates.jsonl", Candidate)
    texts = [row.input for row in inputs] + [row.label_asked or "" for row in inputs]
    texts += [text for row in candidates for text in (row.output, *row.votes)]
    assert candidates and not any(mark in text or "Let me see" in text for mark in MARKS for text in texts)
    open_ones = [row for row in inputs if row.rejected == "unfinished: still thinking"]
    assert open_ones and all(row.raw for row in open_ones)
    assert any(sum(row.votes.values()) < row.n_samples for row in candidates)
    assert any("Let me see" in row.raw and not row.rejected for row in inputs)


def test_a_think_block_that_is_no_block_of_the_model_stays(routing):
    html = replace(routing, examples=(Pair("<think>hm</think>", "billing"), *routing.examples))
    assert asking.parse_input(html, "<think>ho</think>") == "<think>ho</think>"


def test_a_mark_that_is_a_special_token_is_told_by_the_engine(tmp_path):
    """Else what Magistral thinks between its marks would read as its answer."""
    pytest.importorskip("llama_cpp")
    from sg_local.backends.tokenizing import tokenizer

    model = write_model(tmp_path / "m.gguf", TinySpec(layers=1, chat_template=None))
    with GgufFile(model) as file:
        tokens = file.value("tokenizer.ggml.tokens")
    tokens[1] = "[THINK]"
    path = write_variant(tmp_path / "v.gguf", fields=[("tokenizer.ggml.tokens", tokens)])
    generator = open_generator("llama.cpp", path, EngineSettings(n_ctx=64, n_parallel=1, fast_copy=False))
    try:
        vocab = generator._vocab
        assert (vocab.piece(1), vocab.piece(2)) == (b"[THINK]", b"")
    finally:
        generator.close()
    with tokenizer(path, tmp_path) as tokenize:
        assert 1 in tokenize((Segment("[THINK]"),)) and 1 not in tokenize((Segment("[THINK]", trusted=False),))
