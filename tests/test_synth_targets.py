"""What inputs are asked for: labels in balance, outputs written first, nothing; and how an input speaks for it."""

from collections import Counter
from dataclasses import replace

import pytest

from sg_local import filters, prompts, synth
from sg_local.backends.scripted import ScriptedGenerator, default_reply
from sg_local.filters import FilterSettings
from sg_local.records import InputRow, Score
from sg_local.synth import Synthesis, SynthSettings, targets
from sg_local.synth.outputs import N_OTHERS
from sg_local.synth.targets import Round, drawn_pool, shuffled_examples

SETTINGS = SynthSettings(n_inputs=20, n_asked=200, round_size=12, chunk_size=16)


def targets_of_round(job, index, accepted, temperature=0.9) -> list[str | None]:
    round = Round(index, job.settings.round_size, temperature)
    return [target.text for target in targets.targets_of_round(job, round, accepted)]


def job_of(run, task, generator, settings=SETTINGS):
    form = prompts.forms_of(generator.info)[-1]
    return Synthesis(run, task, form, generator, settings, filters.input_gate(task, FilterSettings()), seed=7)


def rows(*labels):
    return [InputRow(f"r{i}", 0, i, 1, f"input {i}", label) for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"steer": False}, "routing"),
        ({"steer": False}, "fluent"),
        ({"style": "paper"}, "fluent"),
    ],
)
def test_nothing_is_asked_for_where_inputs_are_free(run, scripted, request, changes, kind):
    job = job_of(run, request.getfixturevalue(kind), scripted, replace(SETTINGS, **changes))
    assert targets_of_round(job, 0, [], 0.9) == [None] * 12 and scripted.asked == []


def test_labels_that_lack_inputs_are_asked_for_first(run, routing, scripted):
    accepted = rows(*["billing"] * 8, *["delivery"] * 4)
    counts = Counter(targets_of_round(job_of(run, routing, scripted), 1, accepted, 0.9))
    assert counts == {"technical": 8, "delivery": 4}


def test_labels_are_drawn_uniformly_as_published(run, routing, scripted):
    job = job_of(run, routing, scripted, replace(SETTINGS, balance=False, round_size=600, style="paper"))
    counts = Counter(targets_of_round(job, 0, rows(*["billing"] * 50), 0.9))
    assert set(counts) == set(routing.labels) and all(150 <= n <= 250 for n in counts.values())


def test_outputs_are_written_first_from_the_examples_and_the_pool(run, fluent, scripted):
    accepted = rows("Who wrote the long book?", "Why is the sky blue?")
    found = targets_of_round(job_of(run, fluent, scripted), 0, accepted, 0.8)
    assert len(found) == 12 and all(found)
    shown = "".join(segment.text for segment in scripted.asked[0].segments)
    assert all(f"Output: {pair.output}" in shown for pair in fluent.examples)
    assert any(f"Output: {row.label_asked}" in shown for row in accepted)
    assert {prompt.sampling.temperature for prompt in scripted.asked} == {0.8}


def test_what_an_output_s_prompt_had_no_room_for_is_told(run, fluent, scripted):
    job = job_of(run, fluent, scripted, replace(SETTINGS, n_ctx=300))
    found = targets.targets_of_round(job, Round(0, 12, 0.8), rows("long " * 400, "long " * 500))
    assert {target.dropped for target in found} <= {f"when its output was written: {n} pool rows" for n in (1, 2)}


def test_the_output_stands_before_the_input_that_it_is_asked_for(run, fluent, scripted):
    synth.write_inputs(job_of(run, fluent, scripted), lambda event: None)
    asked = {prompt.id: "".join(segment.text for segment in prompt.segments) for prompt in scripted.asked}
    made = run.read("inputs.jsonl", InputRow)
    assert all(asked[row.id].endswith(f"Output: {row.label_asked}\nInput:") for row in made)


def test_an_output_without_text_asks_for_nothing(run, fluent, tmp_path):
    generator = ScriptedGenerator(tmp_path / "m.gguf", lambda prompt, rng: '""')
    assert targets_of_round(job_of(run, fluent, generator), 0, [], 0.9) == [None] * 12


@pytest.mark.parametrize(("style", "n_orders"), [("continue", 1), ("paper", 2)])
def test_the_examples_are_shuffled_for_each_round_or_as_published_for_each_prompt(
    run, routing, scripted, style, n_orders
):
    job = job_of(run, routing, scripted, replace(SETTINGS, style=style))
    orders = {tuple(shuffled_examples(job, 0, place)) for place in range(12)}
    assert len(orders) >= n_orders and (style == "paper" or len(orders) == 1)
    assert all(sorted(order, key=str) == sorted(routing.examples, key=str) for order in orders)


def test_the_pool_is_drawn_without_replacement(run, routing, scripted):
    import random

    pool = rows(*["billing"] * 9)
    drawn = [drawn_pool(job_of(run, routing, scripted), pool, random.Random(i)) for i in range(50)]
    assert {len(one) for one in drawn} == {1, 2, 3, 4} and all(len(set(one)) == len(one) for one in drawn)
    assert drawn_pool(job_of(run, routing, scripted), [], random.Random(0)) == []


# Relevance: what stage B measures


class Telling(ScriptedGenerator):
    """An output is likely after the input that was written for it, and unlikely after others."""

    def score(self, asked):
        for one in asked:
            own = "".join(segment.text for segment in one.segments)
            yield Score(one.id, tuple(-1.0 if f"about {text.strip()}" in own else -7.0 for text in one.continuations))


def telling(tmp_path):
    def reply(prompt, rng):
        output = prompt.rpartition("Output: ")[2].partition("\n")[0]
        return f"about {output}" if prompt.endswith("Input:") else default_reply(prompt, rng)

    return Telling(tmp_path / "m.gguf", reply)


def test_relevance_is_the_likelihood_over_other_inputs_per_token(run, fluent, tmp_path):
    generator = telling(tmp_path)
    synth.synthesise(job_of(run, fluent, generator), lambda event: None)
    from sg_local.records import Candidate, Segment

    for row in run.read("candidates.jsonl", Candidate):
        n_tokens = 1 + len(generator.tokenize((Segment(row.label_asked, False),), bos=False))
        assert row.relevance == pytest.approx(6.0 / n_tokens, abs=1e-3)


@pytest.mark.parametrize("n_inputs", [1, N_OTHERS])
def test_too_few_inputs_beside_it_leave_relevance_open(run, fluent, tmp_path, n_inputs):
    job = job_of(run, fluent, telling(tmp_path))
    asked = [InputRow(f"i{i}", 0, i, 1, f"about {i}", str(i)) for i in range(n_inputs)]
    assert [row.relevance for row in synth.answer(job, asked)] == [None] * n_inputs


def test_the_temperature_comes_down_when_duplicates_cease(run, routing, tmp_path):
    import random

    def reply(prompt, rng):
        n_asked = len(generator.asked)
        return default_reply(prompt, rng if n_asked > 24 else random.Random(n_asked % 3))

    generator = ScriptedGenerator(tmp_path / "m.gguf", reply)
    synth.write_inputs(job_of(run, routing, generator, replace(SETTINGS, n_inputs=30)), lambda event: None)
    by_round = [prompt.sampling.temperature for prompt in generator.asked][::12]
    assert by_round[:3] == [0.9, 1.0, 1.0] and by_round[3] == 0.9
