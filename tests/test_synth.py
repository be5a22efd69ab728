"""Synthesis: both passes on the scripted backend, and what a kill at any byte leaves behind."""

import itertools
import os
import random
from collections import Counter
from dataclasses import replace

import pytest

from sg_local import filters, prompts, synth
from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.scripted import ScriptedGenerator, default_reply
from sg_local.channel import Channel, backward_scores, orders_of
from sg_local.filters import FilterSettings
from sg_local.prompts import Room, answer_room
from sg_local.records import Candidate, InputRow, ScoredPrompt, SgError
from sg_local.run import Run
from sg_local.synth import Synthesis, SynthSettings
from sg_local.synth.inputs import write_inputs
from sg_local.synth.job import fitted, in_order

SETTINGS = SynthSettings(n_inputs=40, n_asked=200, round_size=16, chunk_size=16)


def job_of(run, task, generator, settings=SETTINGS, form="chat"):
    chosen = prompts.form_named(prompts.forms_of(generator.info), form)
    return Synthesis(run, task, chosen, generator, settings, filters.input_gate(task, FilterSettings()), seed=7)


def rows_of(run):
    return run.read("inputs.jsonl", InputRow), run.read("candidates.jsonl", Candidate)


def test_every_accepted_input_becomes_a_candidate_with_votes_and_scores(run, routing, scripted):
    synth.synthesise(job_of(run, routing, scripted), lambda event: None)
    inputs, candidates = rows_of(run)
    accepted = [row for row in inputs if not row.rejected]
    assert len(accepted) >= 40 and [row.input for row in accepted] == [row.input for row in candidates]
    assert all(sum(row.votes.values()) == 5 and len(row.label_scores) == 3 for row in candidates)


def test_with_channel_each_input_is_scored_after_every_label(run, routing, scripted):
    settings = replace(SETTINGS, channel=True, n_orders=2)
    job = job_of(run, routing, scripted, settings)
    synth.synthesise(job, lambda event: None)
    inputs, candidates = rows_of(run)
    assert all(len(row.channel_scores) == len(row.label_scores) == 3 for row in candidates)
    text = candidates[7].input
    said = [
        [
            prompts.continue_input_prompt(routing, pairs, label)
            for pairs in (routing.examples, routing.examples[1:] + routing.examples[:1])
        ]
        for label in routing.labels
    ]
    asks = [[ScoredPrompt("", segments, (f" {text}",)) for segments in each] for each in said]
    scores = [sum(one.logprobs[0] for one in scripted.score(each)) / 2 for each in asks]
    assert candidates[7].channel_scores == pytest.approx(scores, abs=1e-4)


def test_labels_are_asked_in_balance(run, routing, scripted):
    synth.write_inputs(job_of(run, routing, scripted), lambda event: None)
    counts = Counter(row.label_asked for row in rows_of(run)[0])
    assert max(counts.values()) - min(counts.values()) <= 2


def test_generation_writes_the_output_first(run, fluent, scripted):
    synth.synthesise(job_of(run, fluent, scripted), lambda event: None)
    assert all(row.label_asked and row.label_scores == () for row in rows_of(run)[1])


def test_some_inputs_of_a_label_are_asked_for_with_the_same_draw_and_side_by_side(run, routing, scripted):
    synth.synthesise(job_of(run, routing, scripted), lambda event: None)
    asked = [one for one in scripted.asked if one.id in {row.id for row in rows_of(run)[0]}]
    second = [one.segments for one in asked[16:32]]
    sizes = [len(list(group)) for _, group in itertools.groupby(second)]
    assert set(sizes) <= {1, 2} and sizes.count(2) >= 6 and len(set(second)) == len(sizes)
    assert len({one.seed for one in asked}) == len(asked)


def test_without_shared_draws_every_prompt_shows_its_own(run, routing, scripted):
    synth.synthesise(job_of(run, routing, scripted, replace(SETTINGS, n_per_draw=1)), lambda event: None)
    rows = {row.id: row for row in rows_of(run)[0]}
    asked = [one for one in scripted.asked if one.id in rows]
    later = [one.segments for one in asked if rows[one.id].round > 0]
    assert len(set(later)) > 0.8 * len(later), "draws may be alike by chance"


def test_the_last_round_asks_for_what_is_likely_to_be_needed(run, routing, scripted):
    synth.synthesise(job_of(run, routing, scripted), lambda event: None)
    inputs, _ = rows_of(run)
    sizes = [n for _, n in sorted(Counter(row.round for row in inputs).items())]
    n_accepted = sum(not row.rejected for row in inputs)
    assert sizes[0] == 16 and all(size <= 16 for size in sizes) and sizes[-1] < 16
    assert 40 <= n_accepted < 40 + 8


def test_a_last_round_that_an_earlier_version_asked_for_in_full_stays(run, routing, scripted):
    job = job_of(run, routing, scripted)
    synth.synthesise(job, lambda event: None)
    inputs, _ = rows_of(run)
    last = inputs[-1].round
    small = [row for row in inputs if row.round == last]
    extra = [replace(small[0], id=f"x{i}", index=16 - i, input=f"another {i}") for i in range(16 - len(small))]
    run.replace("inputs.jsonl", [*inputs, *extra])
    asked = len(scripted.asked)
    write_inputs(job, lambda event: None)
    assert len(scripted.asked) == asked and len(rows_of(run)[0]) == len(inputs) + len(extra)


def test_paper_settings_ask_a_fixed_number(run, routing, scripted):
    settings = replace(SETTINGS, n_inputs=None, n_asked=48, style="paper", n_votes=3)
    synth.synthesise(job_of(run, routing, scripted, settings), lambda event: None)
    assert len(rows_of(run)[0]) == 48


def test_events_end_at_what_was_wanted(run, routing, scripted):
    events = []
    synth.synthesise(job_of(run, routing, scripted), events.append)
    last = {event.phase: event for event in events}
    assert last["inputs"].done >= last["inputs"].wanted == 40
    assert last["outputs"].done == last["outputs"].wanted and len(last["outputs"].latest) == 3


def whole(tmp_path, task, name="whole"):
    run = Run(tmp_path / name)
    run.write_json("run.json", {})
    synth.synthesise(job_of(run, task, ScriptedGenerator(tmp_path / "m.gguf")), lambda event: None)
    return run


@pytest.mark.parametrize("journal", ["inputs.jsonl", "candidates.jsonl"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.31, 0.5, 0.77, 0.999])
def test_killed_at_any_byte_it_ends_with_the_same_bytes(tmp_path, routing, journal, share):
    run = whole(tmp_path, routing)
    wanted = {name: run.path(name).read_bytes() for name in ("inputs.jsonl", "candidates.jsonl")}
    os.truncate(run.path(journal), int(share * len(wanted[journal])))
    if journal == "inputs.jsonl":
        run.path("candidates.jsonl").unlink()
    whole(tmp_path, routing)
    assert {name: run.path(name).read_bytes() for name in wanted} == wanted


def test_the_order_of_completions_does_not_matter(tmp_path, routing):
    class Shuffled(ScriptedGenerator):
        def generate(self, asked):
            answers = list(super().generate(asked))
            random.Random(3).shuffle(answers)
            yield from answers

    run = Run(tmp_path / "other")
    run.write_json("run.json", {})
    synth.synthesise(job_of(run, routing, Shuffled(tmp_path / "m.gguf")), lambda event: None)
    assert run.path("candidates.jsonl").read_bytes() == whole(tmp_path, routing).path("candidates.jsonl").read_bytes()


def test_a_collapsed_yield_stops_early_and_keeps_everything(run, routing, tmp_path):
    generator = ScriptedGenerator(tmp_path / "m.gguf", lambda prompt, rng: "Hm")
    with pytest.raises(SgError, match="rule input_length rejected") as error:
        synth.synthesise(job_of(run, routing, generator), lambda event: None)
    assert "filter.input_length" in error.value.hint and len(rows_of(run)[0]) == 128


def test_duplicates_raise_the_temperature(run, routing, tmp_path):
    generator = ScriptedGenerator(
        tmp_path / "m.gguf", lambda p, rng: default_reply(p, random.Random(rng.randint(0, 3)))
    )
    with pytest.raises(SgError):
        synth.write_inputs(job_of(run, routing, generator), lambda event: None)
    temperatures = {prompt.sampling.temperature for prompt in generator.asked}
    assert temperatures == {SETTINGS.temperature, SETTINGS.temperature + SETTINGS.hotter}


def test_prompts_that_do_not_fit_drop_pool_rows_then_demonstrations(run, routing, scripted):
    def build(pool, examples):
        return prompts.continue_input_prompt(routing, [*examples, *pool], "billing")

    pool = routing.examples * 2
    drops = []
    job = job_of(run, routing, scripted)
    for n_ctx in (400, 150, 100, 50):
        segments, dropped = fitted(job, Room(scripted.tokenize, n_ctx, 8), pool, routing.examples, build)
        assert routing.instruction in segments[0].text
        drops.append(dropped)
    assert drops[0] == "" and "pool rows" in drops[1] and "demonstrations" in drops[-1]
    with pytest.raises(SgError, match="does not fit"):
        fitted(job, Room(scripted.tokenize, 20, 8), pool, routing.examples, build)


@pytest.mark.parametrize(
    ("votes", "winner"),
    [({"a": 2, "b": 3}, "b"), ({"long": 2, "b": 2}, "b"), ({"b": 1, "a": 1}, "a"), ({}, "")],
)
def test_vote(votes, winner):
    assert prompts.majority(Counter(votes)) == winner


def test_a_tied_vote_goes_to_the_output_that_makes_the_input_likeliest():
    scores = {"a": -9.0, "bb": -2.0, "c": -1.0}
    assert prompts.majority({"a": 2, "bb": 2, "c": 1}, scores) == "bb"
    assert prompts.majority({"a": 1, "bb": 2}, scores) == "bb" and prompts.majority({"a": 2, "bb": 2}, {}) == "a"


def test_backward_scores_settle_the_ties_of_free_texts_and_nothing_else(tmp_path, fluent):
    def reply(prompt, rng):
        is_vote = prompt.endswith("<|im_start|>assistant\n")
        return rng.choice(["It is so.", "So it is, I think.", "No."]) if is_vote else default_reply(prompt, rng)

    found = {}
    for is_on in (False, True):
        run = Run(tmp_path / f"{is_on}")
        run.write_json("run.json", {})
        settings = replace(SETTINGS, backward=is_on, n_orders=2, n_votes=4)
        job = job_of(run, fluent, ScriptedGenerator(tmp_path / "a.gguf", reply), settings)
        synth.synthesise(job, lambda event: None)
        found[is_on] = rows_of(run)[1]
    tied = [row for row in found[True] if row.backward]
    assert 3 < len(tied) < len(found[True]) and not any(row.backward for row in found[False])
    for plain, row in zip(found[False], found[True], strict=True):
        counts = row.votes.values()
        assert bool(row.backward) == (sorted(counts) in ([2, 2], [1, 1, 2]))
        assert row.votes == plain.votes and (row == plain or row.backward)
        best = [output for output, n in row.votes.items() if n == max(counts)]
        assert not row.backward or row.output == max(best, key=lambda output: row.backward[output])
    row = tied[0]
    for output, score in row.backward.items():
        orders = (fluent.examples, fluent.examples[::-1])
        asks = [
            ScoredPrompt(str(i), prompts.continue_input_prompt(fluent, pairs, output), (f" {row.input}",))
            for i, pairs in enumerate(orders)
        ]
        assert score == pytest.approx(sum(one.logprobs[0] for one in job.generator.score(asks)) / 2, abs=1e-4)
    assert any(plain.output != row.output for plain, row in zip(found[False], found[True], strict=True))


@pytest.mark.slow
def test_a_real_model_finds_the_input_likelier_after_the_output_that_says_as_much(embedded, fluent, tmp_path):
    settings = EngineSettings(n_ctx=512, n_parallel=4, n_threads=1, fast_copy=False, cache=tmp_path)
    generator = open_generator("llama.cpp", embedded, settings)
    rows = [
        (
            "Where can I uh where do I park near the the museum?",
            ("Where do I park?", "Where do I park near the museum?"),
        ),
        ("How far is Rome no Milan from um Turin?", ("How far is Turin?", "How far is Milan from Turin?")),
    ]
    room = answer_room(generator.tokenize, fluent, 512, 64, "synth")
    found = backward_scores(generator, Channel(fluent, room, orders_of(fluent.examples)), rows)
    too_long = backward_scores(generator, Channel(fluent, room, orders_of(fluent.examples)), [("word " * 600, ("a",))])
    generator.close()
    assert too_long == [{}]
    for (_, outputs), scores in zip(rows, found, strict=True):
        assert (
            prompts.majority(Counter(outputs), scores) == outputs[1]
            and prompts.majority(Counter(outputs)) == outputs[0]
        )


@pytest.mark.slow
def test_a_real_engine_settles_ties_between_the_votes_of_a_chunk_and_the_next(run, fluent, embedded, tmp_path):
    settings = EngineSettings(n_ctx=512, n_parallel=4, n_threads=1, fast_copy=False, cache=tmp_path)
    generator = open_generator("llama.cpp", embedded, settings)
    few = replace(
        SETTINGS, n_inputs=6, n_asked=24, round_size=8, chunk_size=4, n_votes=4, vote_temperature=1.2, backward=True
    )
    synth.synthesise(job_of(run, fluent, generator, few), lambda event: None)
    generator.close()
    tied = [row for row in rows_of(run)[1] if row.backward]
    assert tied and all(row.output in row.backward and max(row.backward.values()) < 0 for row in tied)


@pytest.mark.parametrize(("n_asked", "n_inputs"), [(8, None), (8, 40), (40, None), (16, None)])
def test_no_more_inputs_are_asked_for_than_may_be(run, routing, scripted, n_asked, n_inputs):
    settings = replace(SETTINGS, n_inputs=n_inputs, n_asked=n_asked)
    synth.synthesise(job_of(run, routing, scripted, settings), lambda event: None)
    assert len(rows_of(run)[0]) == n_asked


def test_a_prompt_is_made_to_fit_the_engine_s_context(run, routing, scripted):
    narrow = replace(job_of(run, routing, scripted), engine_ctx=120)
    assert (narrow.n_ctx, narrow.input_room.n_ctx, narrow.output_room.n_ctx) == (120, 120, 120)
    assert job_of(run, routing, scripted).n_ctx == SETTINGS.n_ctx


def test_in_order_waits_for_its_turn():
    class Ask:
        def __init__(self, id):
            self.id = self.prompt_id = id

    asks = [Ask(i) for i in "abc"]
    assert [a.prompt_id for a in in_order(asks, reversed(asks))] == list("abc")
