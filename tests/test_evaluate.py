"""The evaluation stage over the scripted backend: fairness, resuming, leaks, verdict and gates."""

import dataclasses

import pytest
from tiny_runs import PAIRS, REWRITE, SETTINGS, TASK, FakeGenerator, job_of

from sg_local.evaluate import SYSTEMS, evaluate, judged_rows, parse_gate, require
from sg_local.evaluate.answering import Restricted
from sg_local.evaluate.job import dev_questions, held_out_questions
from sg_local.evaluate.retain import PASSAGES, perplexity, split_passage
from sg_local.evaluate.scoreboard import Scoreboard
from sg_local.records import Answer, Pair, Score, ScoredPrompt, SgError, TestRow
from sg_local.report import read_report
from sg_local.report.records import Excluded
from sg_local.run import ADAPTER, ANSWERS, REPORT, Run
from sg_local.serve.batch import Answerer


def test_the_report_holds_every_system_with_score_interval_and_n(tmp_path):
    report = evaluate(job_of(tmp_path))
    assert report.systems["tuned_vote"].score == 100
    assert report.tuned.score == 100 and report.base.score == 50
    assert all(found.low <= found.score <= found.high and found.n == 4 for found in report.systems.values())
    assert read_report(Run(tmp_path)) == report


def test_classification_meets_restricted_calibrated_and_trivial_systems(tmp_path):
    report = evaluate(job_of(tmp_path))
    wanted = {f"{role}_{kind}" for role in ("base", "tuned") for kind in ("restricted", "calibrated")}
    assert wanted | {"base_chat", "base_plain", "majority_label", "random_output"} <= set(report.systems)
    assert report.confusion.tables["base"] == ((2, 0, 0), (2, 0, 0))


def test_generation_meets_the_copied_input(tmp_path):
    pairs = (Pair("SOME TEXT", "some text"),)
    report = evaluate(job_of(tmp_path, REWRITE, pairs=pairs))
    assert report.systems["copy_input"].score == 100
    assert report.gain("tuned", "base").reached_by == ("copy_input",)
    assert "trivial baseline does as well (copy the input)" in report.outcomes[0].sentence
    assert "base_restricted" not in report.systems


def test_the_base_answers_without_the_adapter_and_gets_the_generator_back(tmp_path):
    job = job_of(tmp_path)
    evaluate(job)
    assert job.generator.adapter is None


def test_calibration_subtracts_means_of_synthetic_inputs_only(tmp_path):
    scores = {pair.input: (-1.0, -3.0) for pair in PAIRS}
    scores |= {row.input: (-1.0, -2.9 if row.outputs == ("blue",) else -3.1) for row in TASK.tests}
    report = evaluate(job_of(tmp_path, generator=FakeGenerator({}, scores)))
    assert report.systems["base_restricted"].score == 50
    assert report.systems["base_calibrated"].score == 100


class ByInput(FakeGenerator):
    """Scores of inputs after a label as well: `channel` by (input, label), with a bias to red."""

    def score(self, asked):
        for one in asked:
            prompt = "".join(segment.text for segment in one.segments)
            if not prompt.endswith("\nInput:"):
                yield from super().score([one])
                continue
            label = prompt.rpartition("Output: ")[2].partition("\n")[0]
            right = {row.input: row.outputs[0] for row in TASK.tests}
            said = [text.strip() for text in one.continuations]
            yield Score(one.id, tuple(-30.0 + 9 * (label == "red") + 2 * (right.get(text) == label) for text in said))


def test_the_ensemble_adds_how_likely_labels_make_the_inputs(tmp_path):
    for n_orders in (0, 1, 3):
        settings = dataclasses.replace(SETTINGS, ensemble=n_orders)
        report = evaluate(job_of(tmp_path / str(n_orders), generator=ByInput({}), settings=settings))
        assert ("base_ensemble" in report.systems) == (n_orders > 0)
        assert report.systems["base_calibrated"].score == 50
        if n_orders:
            assert report.systems["base_ensemble"].score == 100
            assert report.systems["base_ensemble"].form == report.chosen["base_calibrated"]


class OneGoodForm(FakeGenerator):
    """Right in the plain form only on rows that are no test rows, in the chat form only on test rows."""

    def say(self, text, prompt):
        right = {pair.input: pair.output for pair in (*TASK.examples, *PAIRS)}
        plain = "Input: " in prompt
        if text in right:
            return right[text] if plain else "neither"
        return "neither" if plain else self.answers[text]


def test_the_form_of_the_base_is_never_chosen_on_test_rows(tmp_path):
    answers = {row.input: row.outputs[0] for row in TASK.tests}
    report = evaluate(job_of(tmp_path, generator=OneGoodForm(answers)))
    assert report.chosen["base"] == "plain"
    assert report.base.score == 0 and report.systems["base_chat"].score == 100


def test_the_verdict_meets_the_strongest_base_of_its_own_family(tmp_path):
    answers = {row.input: row.outputs[0] for row in TASK.tests}
    report = evaluate(job_of(tmp_path, generator=OneGoodForm(answers)))
    first = report.outcomes[0]
    assert (first.tuned, first.base, first.family) == ("tuned", "base_chat", "free")
    restricted = [one for one in report.outcomes if one.family == "restricted"]
    assert len(restricted) == 2
    assert all(("restricted" in one.base or "calibrated" in one.base) for one in restricted)


def test_label_scores_are_asked_together_by_the_demonstrations_that_are_shown(tmp_path):
    calls: list[list[ScoredPrompt]] = []

    class Calls(FakeGenerator):
        def score(self, asked):
            calls.append(list(asked))
            yield from super().score(calls[-1])

    job = job_of(tmp_path, generator=Calls({}))
    questions = dev_questions(job)
    ids = [str(i) for i in range(len(questions))]
    together = Restricted(job.form).replies(job, questions, ids)
    shown = {question.examples: set() for question in questions}
    for id, question in zip(ids, questions, strict=True):
        shown[question.examples].add(id)
    assert len(shown) > 1 and [{one.id for one in call} for call in calls] == list(shown.values())
    singly = [Restricted(job.form).replies(job, [q], [id])[0] for id, q in zip(ids, questions, strict=True)]
    assert together == singly


def test_dev_rows_show_a_demonstration_only_the_others(tmp_path):
    for question in dev_questions(job_of(tmp_path)):
        assert question.input not in [pair.input for pair in question.examples]


def test_generation_chooses_its_prompt_on_the_demonstrations_alone(tmp_path, fluent):
    job = dataclasses.replace(job_of(tmp_path), task=fluent)
    assert [question.input for question in dev_questions(job)] == [pair.input for pair in fluent.examples]


def test_a_vote_that_elects_nothing_falls_back_to_greedy(tmp_path):
    job = dataclasses.replace(job_of(tmp_path), elect=lambda input, votes: "")
    report = evaluate(job)
    rows = [row for row in job.run.read(ANSWERS, Answer) if row.system == "base_vote"]
    assert [row.text for row in rows] == ["red"] * 4 and report.systems["base_vote"].n == 4


def test_another_gate_votes_anew_and_asks_nothing_else_again(tmp_path):
    evaluate(job_of(tmp_path))
    job = dataclasses.replace(job_of(tmp_path), gate="stricter")
    with pytest.raises(SgError, match="gate"):
        evaluate(job)
    job.run.clear_stage("eval")
    evaluate(job)
    asked = {prompt.sampling.temperature for prompt in job.generator.asked}
    assert asked == {SETTINGS.vote_temperature}


def test_leaked_test_rows_are_excluded_and_counted(tmp_path):
    tests = (*TASK.tests, TestRow("A fire engine!", ("red",)), TestRow("south synthetic", ("blue",)))
    report = evaluate(job_of(tmp_path, dataclasses.replace(TASK, tests=tests)))
    assert report.excluded == Excluded((4,), (5,))
    assert report.n == 4 and [row.index for row in report.rows] == [0, 1, 2, 3]


def test_a_row_is_asked_about_without_the_blanks_around_it_as_predict_asks(tmp_path):
    tests = (*TASK.tests, TestRow("  a blue boat", ("blue",)))
    task = dataclasses.replace(TASK, tests=tests)
    job = job_of(tmp_path, task)
    asked = held_out_questions(job, [False] * len(tests))[-1]
    assert asked.input == Answerer(job.generator, task, job.form).trimmed(tests[-1].input) == "a blue boat"
    shown = dataclasses.replace(task, examples=(Pair("  a grey cat", "red"), *task.examples))
    assert held_out_questions(dataclasses.replace(job, task=shown), [False] * len(tests))[-1].input == "  a blue boat"


def test_nothing_but_leaks_is_refused(tmp_path):
    task = dataclasses.replace(TASK, tests=(TestRow("a fire engine", ("red",)),))
    with pytest.raises(SgError, match="Every test row"):
        evaluate(job_of(tmp_path, task))


def test_a_task_without_tests_and_a_run_without_adapter_say_so(tmp_path):
    with pytest.raises(SgError, match="no test rows"):
        evaluate(job_of(tmp_path, dataclasses.replace(TASK, tests=())))
    job = job_of(tmp_path)
    job.run.path(ADAPTER).unlink()
    with pytest.raises(SgError, match="no adapter"):
        evaluate(job)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.77, 0.99])
def test_killed_anywhere_and_resumed_gives_the_same_bytes(tmp_path, share):
    evaluate(job_of(tmp_path / "whole"))
    whole = (tmp_path / "whole" / ANSWERS).read_bytes()
    job = job_of(tmp_path / "killed")
    (tmp_path / "killed" / ANSWERS).write_bytes(whole[: int(share * len(whole))])
    evaluate(job)
    assert (tmp_path / "killed" / ANSWERS).read_bytes() == whole


def test_a_finished_evaluation_asks_nothing_again(tmp_path):
    first = evaluate(job_of(tmp_path))
    again = job_of(tmp_path)
    assert evaluate(again) == first
    assert not again.generator.asked and not again.generator.n_scored


def test_a_report_that_was_deleted_is_made_again_from_the_answers(tmp_path):
    first = evaluate(job_of(tmp_path))
    (tmp_path / REPORT).unlink()
    again = job_of(tmp_path)
    assert evaluate(again).systems == first.systems and (tmp_path / REPORT).exists()
    assert not again.generator.asked and not again.generator.n_scored


def test_answers_on_disk_are_not_asked_again(tmp_path):
    job = job_of(tmp_path)
    evaluate(job)
    job.run.clear_stage("eval")
    again = job_of(tmp_path)
    evaluate(again)
    assert not again.generator.asked and not again.generator.n_scored


def test_another_adapter_is_answered_anew_and_the_old_answers_go(tmp_path):
    evaluate(job_of(tmp_path))
    before = (tmp_path / ANSWERS).read_text().splitlines()
    (tmp_path / ADAPTER).write_text("another adapter")
    job = job_of(tmp_path)
    with pytest.raises(SgError, match=r"another adapter\.gguf"):
        evaluate(job)
    job.run.clear_stage("eval")
    evaluate(job)
    after = (tmp_path / ANSWERS).read_text().splitlines()
    assert len(after) == len(before)
    assert {line for line in before if '"base_chat"' in line} <= set(after)
    assert not {line for line in before if '"system":"tuned"' in line} & set(after)


def test_events_count_every_row_of_every_asked_system(tmp_path):
    seen = []
    evaluate(job_of(tmp_path), seen.append)
    tuned = [(event.done, event.wanted) for event in seen if event.system == "tuned"]
    assert tuned == [(0, 4), (3, 4), (4, 4)]


def test_events_say_in_words_what_is_answered(tmp_path):
    seen = {}
    job = job_of(tmp_path, settings=dataclasses.replace(SETTINGS, retain=True))
    evaluate(job, lambda event: seen.update({event.system: event.title}))
    wanted = {
        "tuned": "tuned",
        "tuned_restricted": "tuned, labels only",
        "base_vote_raw": "base, voting",
        "base_restricted_chat": "base, labels only (chat prompt)",
        "dev_plain": "choosing the prompt: base (plain prompt)",
        "dev_restricted_chat": "choosing the prompt: base, labels only (chat prompt)",
        "calibration_chat": "calibrating: base (chat prompt)",
        "calibration_tuned": "calibrating: tuned",
        "retain_text_base": "texts outside the task: base",
    }
    assert {name: seen[name] for name in wanted} == wanted


def test_synthetic_pairs_in_context_come_on_request(tmp_path):
    settings = dataclasses.replace(SETTINGS, n_context=2)
    job = job_of(tmp_path, settings=settings)
    report = evaluate(job)
    assert "base_synthetic" in report.systems
    texts = ["".join(segment.text for segment in prompt.segments) for prompt in job.generator.asked]
    assert any(text.count("synthetic ") == 2 and "test number one" in text for text in texts)


class Adapters(FakeGenerator):
    """Right with the run's adapter; with any other it says blue, and labels score for blue."""

    def say(self, text, prompt):
        if self.adapter is not None and self.adapter.name != ADAPTER:
            return "blue"
        return super().say(text, prompt)


def test_a_tune_on_the_examples_alone_is_a_base_to_beat(tmp_path):
    other = tmp_path / "other.gguf"
    other.write_text("trained on the examples")
    generator = Adapters({row.input: row.outputs[0] for row in TASK.tests})
    job = dataclasses.replace(job_of(tmp_path / "run", generator=generator), examples_adapter=other)
    report = evaluate(job)
    found = report.systems["tuned_examples"]
    assert (found.score, found.role, found.title) == (50, "base", "tuned on the examples alone")
    assert {"tuned_examples_restricted", "tuned_examples_calibrated"} <= set(report.systems)
    assert report.gain("tuned", "tuned_examples").gain == 50
    assert report.tuned.score == 100
    other.write_text("trained otherwise")
    with pytest.raises(SgError, match="examples adapter"):
        evaluate(job)


def test_a_context_too_small_drops_demonstrations_then_refuses(tmp_path):
    job = job_of(tmp_path, settings=dataclasses.replace(SETTINGS, n_ctx=48))
    evaluate(job)
    assert all(
        len(job.generator.tokenize(prompt.segments)) + prompt.sampling.max_tokens <= 48
        for prompt in job.generator.asked
    )
    texts = ["".join(s.text for s in prompt.segments) for prompt in job.generator.asked]
    assert any("fire engine" not in text and "deep sea" in text and "test number" in text for text in texts)
    job = job_of(tmp_path / "tiny", settings=dataclasses.replace(SETTINGS, n_ctx=15))
    with pytest.raises(SgError, match="does not fit"):
        evaluate(job)


def test_what_tuning_cost_elsewhere_is_measured_on_request(tmp_path):
    job = job_of(tmp_path, settings=dataclasses.replace(SETTINGS, retain=True))
    found = evaluate(job).retain
    assert found.perplexity.base == found.perplexity.tuned > 1
    assert [one.base for one in found.answers] == ["red"] * 6
    assert [one.tuned for one in found.answers] == ["blue"] * 6
    assert evaluate(job_of(tmp_path / "without")).retain is None


def test_perplexity_weighs_passages_by_their_tokens():
    assert perplexity([(-2.0, 1.0), (-4.0, 5.0)]) == pytest.approx(2.718, abs=1e-3)


def test_a_passage_splits_without_losing_a_letter():
    for passage in PASSAGES:
        head, rest = split_passage(passage)
        assert head + rest == passage and len(head.split()) == 6


@pytest.mark.parametrize(
    "show, system, indices",
    [
        ("wrong", "base", [1, 3]),
        ("right", "base", [0, 2]),
        ("wrong", "tuned", []),
        ("better", "tuned", [1, 3]),
        ("worse", "tuned", []),
        ("all", "tuned", [0, 1, 2, 3]),
    ],
)
def test_single_answers_can_be_browsed(tmp_path, show, system, indices):
    job = job_of(tmp_path)
    evaluate(job)
    assert [row.index for row in judged_rows(job.run, show, system)] == indices


def test_single_answers_stand_beside_the_base_that_answers_alike(tmp_path):
    scores = {row.input: (-1.0, -3.0) for row in TASK.tests}
    job = job_of(tmp_path, generator=FakeGenerator({}, scores))
    report = evaluate(job)
    assert [report.systems[name].against for name in ("tuned", "tuned_restricted", "majority_label")] == [
        "base",
        "base_restricted",
        "base",
    ]
    rows = judged_rows(job.run, "all", "tuned_restricted")
    assert {row.base for row in rows} == {"red"} and {row.base_score for row in rows} == {0, 100}


@pytest.mark.parametrize("show, system", [("wrongs", "tuned"), ("wrong", "nobody")])
def test_browsing_what_is_not_there_is_a_usage_error(tmp_path, show, system):
    job = job_of(tmp_path)
    evaluate(job)
    with pytest.raises(SgError) as error:
        judged_rows(job.run, show, system)
    assert error.value.exit_code == 2 and error.value.hint


def test_a_report_of_other_answers_is_noticed(tmp_path):
    job = job_of(tmp_path)
    evaluate(job)
    job.run.replace(ANSWERS, job.run.read(ANSWERS, Answer)[:1])
    with pytest.raises(SgError, match=r"answers\.jsonl has no answer of \w+ to test row") as caught:
        judged_rows(job.run, "all")
    assert "redo" in caught.value.hint


# Outcomes and gates


def board_of(**texts):
    wanted = [("red",), ("blue",)] * 20
    task = dataclasses.replace(TASK, tests=())
    rows = {system: list(texts[system.name]) * 20 for system in SYSTEMS if system.name in texts}
    return Scoreboard(task, rows, ["in", "red"] * 20, wanted, 0, 200)


def gain_of(**texts):
    board = board_of(**texts)
    return board.gain(board.systems("tuned")[0], board.systems("base")[0])


def test_a_gain_over_everything_is_better_and_unmarked():
    gain = gain_of(base=("red", "red"), tuned=("red", "blue"), majority_label=("red", "red"))
    assert (gain.gain, gain.outcome, gain.reached_by) == (50, "better", ())


def test_a_gain_that_the_majority_label_reaches_is_marked():
    gain = gain_of(base=("none", "none"), tuned=("red", "red"), majority_label=("blue", "blue"))
    assert gain.reached_by == ("majority_label",)


def test_a_loss_is_worse_and_unmarked():
    gain = gain_of(base=("red", "blue"), tuned=("red", "red"), majority_label=("red", "red"))
    assert (gain.outcome, gain.reached_by) == ("worse", ())


def test_free_text_against_restricted_is_not_like_with_like():
    texts = {"base_restricted": ("red", "blue"), "tuned": ("red", "blue")}
    assert gain_of(**texts).like is False
    assert board_of(**texts).outcomes() == ()


def test_irrelevant_answers_name_no_label():
    found = board_of(base=("it is red I think", "no idea")).results()["base"]
    assert (found.irrelevant, found.score, found.metrics["authors_label"]) == (50, 0, 50)


def test_answers_that_repeat_the_input_are_counted_where_text_is_written():
    board = board_of(base=(" in", "In"), tuned=("red", "red"))
    written = dataclasses.replace(board, task=dataclasses.replace(board.task, kind="generation", labels=()))
    assert {name: found.copied for name, found in written.results().items()} == {"base": 50, "tuned": 50}
    assert board.results()["base"].copied is None


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A report with a score of 40 (30 to 50) for the base, 43 for the tuned model, and a gain of 3 (-1 to 6)."""
    report = evaluate(job_of(tmp_path_factory.mktemp("judged")))
    base = dataclasses.replace(report.base, score=40.0, low=30.0, high=50.0)
    gain = dataclasses.replace(report.gain("tuned", "base"), gain=3.0, low=-1.0, high=6.0)
    tuned = dataclasses.replace(report.tuned, score=43.0)
    systems = {**report.systems, "base": base, "tuned": tuned}
    return dataclasses.replace(report, systems=systems, gains={"tuned-base": gain})


@pytest.mark.parametrize(
    "text, met",
    [
        ("tuned-base>=2", True),
        ("tuned-base >= 3", True),
        ("tuned - base > 3", False),
        ("tuned-base.low>0", False),
        ("tuned-base.high<=6", True),
        ("tuned>=42.5", True),
        ("base.low>=30", True),
        ("base<-1", False),
    ],
)
def test_gates(judged, text, met):
    gate = parse_gate(text)
    if met:
        require(judged, [gate])
        return
    with pytest.raises(SgError, match="not met") as error:
        require(judged, [gate])
    assert error.value.exit_code == 3


@pytest.mark.parametrize("text", ["", "tuned", "tuned-base", "tuned=3", "tuned-base>=two", "a-b-c>1", "tuned.mid>1"])
def test_what_is_no_gate_is_a_usage_error(text):
    with pytest.raises(SgError) as error:
        parse_gate(text)
    assert error.value.exit_code == 2


def test_a_gate_on_an_unknown_system_lists_the_known_ones(judged):
    with pytest.raises(SgError, match="names a system that was not measured") as error:
        require(judged, [parse_gate("tuned-base_synthetic>1")])
    assert "tuned-base" in error.value.hint
    with pytest.raises(SgError) as error:
        require(judged, [parse_gate("tnued>1")])
    assert error.value.hint.startswith("Did you mean tuned?") and len(error.value.hint) < 400


def test_the_most_typical_of_many_samples_is_an_untuned_system_where_it_is_asked_for(tmp_path):
    plain = evaluate(job_of(tmp_path / "plain", REWRITE))
    settings = dataclasses.replace(SETTINGS, mbr=6)
    report = evaluate(job_of(tmp_path / "asked", REWRITE, settings=settings))
    assert "base_mbr" not in plain.systems and report.systems["base_mbr"].role == "base"
    assert any(gain.endswith("-base_mbr") for gain in report.gains)
    assert "base_mbr" not in evaluate(job_of(tmp_path / "labels", settings=settings)).systems
