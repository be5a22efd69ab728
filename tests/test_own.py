"""A person's own data in a job: files read, rows copied into the run, what each is for, and the stages with them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import replace

import pytest
from click.testing import CliRunner
from rich.console import Console

import sg_local as sg
from sg_local import filters
from sg_local.cli.app import app
from sg_local.console.review_card import main
from sg_local.job import review
from sg_local.job.begun import job_for_run, job_for_task
from sg_local.job.options import Home, Options
from sg_local.job.own import OwnSettings, held_back, weight_of
from sg_local.job.stages import perform, perform_all
from sg_local.records import LABELLED, OWN, Candidate, InputRow, MadeOtherwise, Pair, TestRow, Verdict
from sg_local.run import CANDIDATES, INPUTS, TRAIN, VALID, VERDICTS
from sg_local.training import TrainingRow
from sg_local.views.review import view_of

LABELS = ("billing", "delivery", "technical")
SETTINGS = {"synth": {"n_inputs": 24, "n_asked": 96, "round_size": 8, "chunk_size": 8, "n_votes": 2}}
WORDS = (
    "amber birch cedar delta ember fjord grove heath inlet jetty knoll larch marsh north ocean plain quay river".split()
)


def text(i):
    """A message unlike any other one."""
    return f"My {WORDS[i % 18]} {WORDS[i // 18 % 18]} parcel number {i} has a {WORDS[(7 * i + 3) % 18]} problem."


def write_inputs(folder, n=10, name="mails.csv", more=()):
    path = folder / name
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["Body"], *[[text(i)] for i in range(n)], *[[one] for one in more]])
    return path


def write_rows(folder, n=30, name="labelled.csv", first=1000):
    path = folder / name
    rows = [[text(first + i), LABELS[i % 3].upper() + "."] for i in range(n)]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *rows])
    return path


def options(tmp_path, **given):
    settings = {**SETTINGS, **given.pop("settings", {})}
    chosen = {"backend": "scripted", "form": "plain", "name": "r", **given}
    return Options(runs=tmp_path / "runs", settings=settings, given=frozenset(given), **chosen)


def job(task, tmp_path, **given):
    return job_for_task(task, options(tmp_path, **given), Home(tmp_path / "home"))


def done(task, tmp_path, stages=("synth",), **given):
    """A run whose stages were performed, and what it told."""
    heard = []
    with job(task, tmp_path, **given) as found, found.lock():
        perform_all(found, heard.append, stages)
    return found, [event.text for event in heard if isinstance(event, sg.Said)]


def inputs_of(job):
    return job.run.read(INPUTS, InputRow)


# Own inputs


def test_enough_own_inputs_take_the_place_of_stage_a(routing, tmp_path):
    found, said = done(routing, tmp_path, inputs=write_inputs(tmp_path, 40))
    rows, candidates = inputs_of(found), found.run.read(CANDIDATES, Candidate)
    assert {row.source for row in rows} == {OWN} and len(rows) == len(candidates) == 24
    assert {row.source for row in candidates} == {OWN} and all(row.n_samples == 2 for row in candidates)
    funnel = filters.funnel(found.run, found.task)
    assert (funnel.asked, funnel.own, funnel.accepted) == (0, 24, 24)
    assert "mails.csv: " in said[0] and "40 rows" in said[0] and "24 of 24 own inputs taken" in said[1]


def test_fewer_own_inputs_are_what_stage_a_goes_on_from(routing, tmp_path):
    found, _ = done(routing, tmp_path, inputs=write_inputs(tmp_path, 10))
    rows = inputs_of(found)
    assert [row.source for row in rows[:10]] == [OWN] * 10 and {row.source for row in rows[10:]} == {""}
    assert sum(not row.rejected for row in rows) >= 24 and {row.input for row in rows[:10]} == {
        text(i) for i in range(10)
    }
    candidates = found.run.read(CANDIDATES, Candidate)
    assert [row.input for row in candidates] == [row.input for row in rows if not row.rejected]
    assert all(row.label_asked for row in rows[10:])  # the list shows pairs: own inputs were answered first


@pytest.mark.parametrize("settings", [{"style": "paper", "n_inputs": None, "n_asked": 24}, {"steer": False}])
def test_they_serve_every_way_of_asking(routing, fluent, tmp_path, settings):
    for task in (routing, fluent):
        chosen = {"synth": {**SETTINGS["synth"], **settings}}
        found, _ = done(task, tmp_path, name=task.name, inputs=write_inputs(tmp_path, 10), settings=chosen)
        counts = Counter(row.source for row in inputs_of(found))
        assert counts[OWN] == 10 and counts[""] >= 8
        assert settings.get("style") != "paper" or counts[""] >= 14  # rounds are whole


def test_free_text_goes_on_from_answered_own_inputs(fluent, tmp_path):
    found, _ = done(fluent, tmp_path, inputs=write_inputs(tmp_path, 10))
    rows = inputs_of(found)
    assert sum(row.source == OWN for row in rows) == 10 and all(row.label_asked for row in rows if not row.source)


def test_what_teaches_nothing_or_is_a_test_row_is_left_out_with_its_reason(routing, tmp_path):
    test = routing.tests[0].input
    odd = [text(3).upper(), test.upper(), f"{test} ", routing.examples[0].input, "...", "word " * 3000]
    found, said = done(routing, tmp_path, inputs=write_inputs(tmp_path, 10, more=odd))
    rejected = Counter(row.rejected.partition(":")[0] for row in inputs_of(found) if row.source and row.rejected)
    assert rejected == {"duplicate": 2, "test_row": 1, "copied_example": 1, "empty": 1, "context": 1}
    assert any("10 of 16 own inputs taken (" in text and "test_row 1" in text for text in said)
    assert filters.funnel(found.run, found.task).rules["test_row"] == 1
    assert not any(filters.leak_check(routing, 0.9)(row.input) for row in found.run.read(CANDIDATES, Candidate))


def test_real_inputs_may_be_long_and_may_thank(routing, tmp_path):
    odd = ["Thanks for asking. " + "It is the same story every week, you see. " * 12, "Why?"]
    found, _ = done(routing, tmp_path, ("synth", "filter"), inputs=write_inputs(tmp_path, 10, more=odd))
    taken = {row.input for row in inputs_of(found) if not row.rejected}
    assert {one.strip() for one in odd} <= taken
    verdicts = {v.id: v for v in found.run.read(VERDICTS, Verdict)}
    rules = {verdicts[row.id].rule for row in found.run.read(CANDIDATES, Candidate) if row.source == OWN}
    assert not rules & {"noise", "input_length"}


def test_going_on_needs_no_file_and_another_one_is_refused_until_redo(routing, tmp_path):
    path = write_inputs(tmp_path, 30)
    done(routing, tmp_path, inputs=path)
    other = write_inputs(tmp_path, 28, "other.csv", more=["A message that is nowhere else."])
    path.unlink()
    again, said = done(routing, tmp_path, ("synth", "filter"))
    assert {row.source for row in inputs_of(again)} == {OWN} and not any("taken" in one for one in said)
    with pytest.raises(MadeOtherwise, match="other own rows") as refused:
        job(routing, tmp_path, inputs=other)
    assert "redo" in refused.value.hint
    anew, said = done(routing, tmp_path, inputs=other, redo=True)
    assert said[0].startswith("Other own rows: ") and anew.run.settings["own"]["inputs"]["file"] == "other.csv"
    assert {row.input for row in inputs_of(anew)} <= {text(i) for i in range(28)} | {"A message that is nowhere else."}
    with job_for_run("r", options(tmp_path), Home(tmp_path / "home")) as known:
        assert known.own == replace(anew.own, said=())


def test_the_same_file_again_goes_on(routing, tmp_path):
    path = write_inputs(tmp_path, 30)
    done(routing, tmp_path, inputs=path)
    before = (tmp_path / "runs" / "r" / INPUTS).read_bytes()
    done(routing, tmp_path, ("synth", "filter"), inputs=path)
    assert (tmp_path / "runs" / "r" / INPUTS).read_bytes() == before


def test_a_run_killed_anywhere_ends_with_the_same_rows(routing, tmp_path):
    path = write_inputs(tmp_path, 10)
    whole, _ = done(routing, tmp_path, name="whole", inputs=path, rows=write_rows(tmp_path))
    wanted = [(whole.run.root / name).read_bytes() for name in (INPUTS, CANDIDATES)]
    for stop in (1, 5, 12, 20, 33, 48):
        name, seen = f"cut{stop}", 0

        def hear(event, stop=stop):
            nonlocal seen
            seen += isinstance(event, sg.Moved)
            if seen == stop:
                raise KeyboardInterrupt

        with job(routing, tmp_path, name=name, inputs=path, rows=tmp_path / "labelled.csv") as cut, cut.lock():
            with pytest.raises(KeyboardInterrupt):
                perform(cut, "synth", hear)
        again, _ = done(routing, tmp_path, name=name)
        assert [(again.run.root / name).read_bytes() for name in (INPUTS, CANDIDATES)] == wanted


def test_nothing_is_written_for_a_file_that_cannot_be_read(routing, tmp_path):
    for name, text_, says in (("no.csv", None, "no.csv"), ("bad.jsonl", '{"input": 1}\n', "bad.jsonl:1")):
        if text_ is not None:
            (tmp_path / name).write_text(text_)
        with pytest.raises(sg.SgError) as failed:
            job(routing, tmp_path, inputs=tmp_path / name)
        assert failed.value.exit_code == 2 and says in failed.value.message
    assert not (tmp_path / "runs").exists()


def test_columns_are_named_for_both_files(routing, tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("id,Mail,Team\n" + "".join(f"{i},{text(i)},{LABELS[i % 3]}\n" for i in range(30)))
    with job(routing, tmp_path, inputs=path, rows=path, own_columns="input=Mail,output=Team") as found:
        assert Counter(row.part for row in found.own.rows) == {"row": 30, "input": 30}


def test_the_python_face_takes_both(routing, tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("Mail,Team\n" + "".join(f"{text(i)},{LABELS[i % 3]}\n" for i in range(30)))
    names = {"input": "Mail", "output": "Team"}
    chosen = {"backend": "scripted", "settings": SETTINGS, "runs": tmp_path / "runs"}
    with sg.open_job(routing, inputs=write_inputs(tmp_path), name="a", **chosen) as found:
        assert Counter(row.source for row in found.synth())[OWN] == 10
    with sg.open_job(routing, rows=str(path), columns=names, name="b", **chosen) as found:
        assert Counter(row.source for row in found.synth())[LABELLED] == 30
    with pytest.raises(sg.SgError, match="columns has no option 'label'"):
        sg.open_job(routing, rows=path, columns={"label": "Team"}, **chosen)


def test_the_command_line_takes_both_and_tells_of_them(routing, own_folder):
    job = ["run", "support_routing", "--backend", "scripted", "--yes", "--name", "mine", "--set", "synth.n_inputs=24"]
    files = ["--inputs", str(write_inputs(own_folder)), "--rows", str(write_rows(own_folder))]
    done = CliRunner().invoke(app, [*job, *files])
    assert done.exit_code == 0, done.output
    assert "10 of 10 own inputs taken" in done.stderr and "30 of 30 labelled rows taken" in done.stderr
    shown = CliRunner().invoke(app, ["runs", "show", "mine"]).stdout
    assert "labelled.csv (30 rows), mails.csv (10 inputs): 10 as inputs, 30 training or validating" in shown
    assert "your labelled rows" in shown and "your inputs" in shown
    wrong = CliRunner().invoke(app, [*job, "--rows", "nowhere.csv", "--redo"])
    assert wrong.exit_code == 2 and "nowhere.csv" in wrong.stderr


def test_the_review_says_whose_row_it_is(routing, tmp_path):
    found, _ = done(routing, tmp_path, ("synth", "filter"), inputs=write_inputs(tmp_path), rows=write_rows(tmp_path))
    state = review.open_state(found, "me")
    state = state.but(view=replace(state.view, show="all"))
    for row in state.rows[:45:5]:
        card = view_of(state.but(cursor=row.id), "mine", ()).card
        whose = {OWN: "own input", LABELLED: "own labelled row", "": ""}[row.candidate.source]
        assert card.source == whose and bool(card.votes) == (row.candidate.source != LABELLED)
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(main(view_of(state.but(cursor=row.id), "mine", ()), 90))
        assert whose in console.export_text()


# Own labelled rows


def test_labelled_rows_train_and_validate_beside_the_others_and_no_rule_rejects_them(routing, tmp_path):
    found, said = done(routing, tmp_path, ("synth", "filter", "train"), rows=write_rows(tmp_path))
    candidates = found.run.read(CANDIDATES, Candidate)
    mine = {row.id: row for row in candidates if row.source == LABELLED}
    assert len(mine) == 30 and {row.output for row in mine.values()} == set(LABELS)
    assert sum(not row.source for row in candidates) >= 24  # they do not count towards what is wanted
    parts = [{row.id: row for row in found.run.read(name, TrainingRow)} for name in (TRAIN, VALID)]
    ours = [set(part) & set(mine) for part in parts]
    assert all(ours) and not ours[0] & ours[1] and ours[0] | ours[1] == set(mine)
    assert len(ours[1]) == min(len(parts[1]), 6)
    n_others = len(parts[0]) + len(parts[1]) - 30
    weights = {row.weight for part in parts for row in part.values() if row.id in mine}
    assert weights == {weight_of(30, n_others, OwnSettings())}
    assert any("Of the labelled rows 30 train or validate." in one for one in said)
    assert filters.funnel(found.run, found.task).labelled == 30


def test_a_person_may_reject_one(routing, tmp_path):
    found, _ = done(routing, tmp_path, ("synth", "filter"), rows=write_rows(tmp_path))
    first = next(row for row in found.run.read(CANDIDATES, Candidate) if row.source == LABELLED)
    found.run.append(VERDICTS, [Verdict(first.id, False, "me", reason="wrong output", step=1)])
    assert first.id not in {row.id for row in filters.kept_rows(found.run)}


def test_a_label_that_the_task_does_not_have_is_named_with_its_line(routing, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("input,output\nWhere is it?,delivery\nIt is broken.,repairs\n")
    with pytest.raises(sg.SgError, match=r"rows\.csv:3: 'repairs' is not a label") as failed:
        job(routing, tmp_path, rows=path)
    assert failed.value.exit_code == 2 and "billing, delivery, technical" in failed.value.hint


def test_labels_that_no_example_shows_are_shown_from_own_rows(routing, tmp_path):
    task = replace(routing, examples=routing.examples[:1])
    found, said = done(task, tmp_path, rows=write_rows(tmp_path))
    assert [pair.output for pair in found.task.examples] == list(LABELS) and len(found.own.of("row")) == 28
    assert "28 train or validate, 2 become examples in the prompt" in said[1]
    shown = {pair.input for pair in found.task.examples}
    assert not shown & {row.input for row in inputs_of(found)}
    with job(task, tmp_path) as again:  # known again without the file
        assert again.task == found.task


def test_free_text_gets_three_examples(fluent, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"input": text(i), "output": f"answer {i}"}) + "\n" for i in range(8)))
    with job(fluent, tmp_path, rows=path) as found:
        assert found.task.examples == (*fluent.examples, Pair(text(0), "answer 0"))


def test_without_test_rows_a_share_is_held_back_and_never_trains(routing, tmp_path):
    found, said = done(
        replace(routing, tests=()),
        tmp_path,
        ("synth", "filter", "train", "eval"),
        rows=write_rows(tmp_path, 60),
        inputs=write_rows(tmp_path, 60, "unlabelled.csv"),  # the same texts: those that test must go
    )
    tests = {row.input for row in found.task.tests}
    assert len(tests) == 18 and Counter(row.outputs[0] for row in found.task.tests) == dict.fromkeys(LABELS, 6)
    assert "42 train or validate, 18 are held back to measure with" in " ".join(said)
    used = {row.input for name in (TRAIN, VALID) for row in found.run.read(name, TrainingRow)}
    assert not tests & (used | {row.input for row in found.run.read(CANDIDATES, Candidate)})
    assert sg.load("r", runs=tmp_path / "runs").report.n == 18


def test_too_few_to_measure_with_are_not_held_back(routing, tmp_path):
    found, said = done(replace(routing, tests=()), tmp_path, rows=write_rows(tmp_path, 9))
    assert not found.task.tests and "9 train or validate, 0 are held back" in " ".join(said)


def test_how_many_are_held_back_is_settled_when_a_run_begins(routing, tmp_path):
    bare, path = replace(routing, tests=()), write_rows(tmp_path)
    with job(bare, tmp_path, rows=path, settings={"own": {"tests": 0.5}}) as found, found.lock():
        assert len(found.task.tests) == 15
        perform(found, "synth", lambda event: None)
    with pytest.raises(sg.SgError, match="settled when a run begins"):
        job(bare, tmp_path, settings={"own": {"tests": 0.1}})


def test_labelled_rows_that_are_test_rows_are_left_out(routing, tmp_path):
    task = replace(
        routing, tests=(*routing.tests, TestRow(text(1000), ("billing",)), TestRow(text(1001), ("delivery",)))
    )
    found, said = done(task, tmp_path, rows=write_rows(tmp_path))
    assert "28 of 30 labelled rows taken (test_row 2)" in " ".join(said)
    assert sum(row.source == LABELLED for row in found.run.read(CANDIDATES, Candidate)) == 28


def test_a_label_with_too_many_rows_loses_synthetic_ones(routing):
    made = [
        Candidate(f"m{i}", text(i), LABELS[i % 3], {LABELS[i % 3]: 2}, 2, 1.0, label_asked=LABELS[i % 3])
        for i in range(60)
    ]
    mine = [Candidate(f"o{i}", text(100 + i), "billing", {"billing": 1}, 1, 1.0, source=LABELLED) for i in range(25)]
    settings = filters.FilterSettings(policy="voted", near_duplicate=filters.Threshold(0.7, on=False))
    verdicts, _ = filters.judge([*mine, *made], routing, settings)
    lost = [verdict.id for verdict in verdicts if verdict.rule == "balance"]
    assert all(verdict.keep for verdict in verdicts if verdict.id.startswith("o")) and len(lost) >= 10
    assert {made[int(id[1:])].output for id in lost} == {"billing"}


@pytest.mark.parametrize(
    ("n_labelled", "n_others", "weight"), [(10, 100, 4.0), (30, 100, 1.43), (100, 100, 1.0), (5, 0, 1.0), (0, 50, 4.0)]
)
def test_few_rows_weigh_more_within_bounds(n_labelled, n_others, weight):
    assert weight_of(n_labelled, n_others, OwnSettings()) == weight


def test_held_back_rows_keep_the_shares_of_labels():
    pairs = [Pair(text(i), "a" if i < 40 else "b") for i in range(60)]
    found = held_back(pairs, 0.3, 1, is_labelled=True)
    assert Counter(pair.output for pair in found) == {"a": 12, "b": 6} and found == held_back(
        pairs, 0.3, 1, is_labelled=True
    )
    assert held_back(pairs, 0.0, 1, is_labelled=True) == held_back(pairs[:10], 0.3, 1, is_labelled=True) == []


# A changed task


def test_a_changed_instruction_asks_for_redo_and_keeps_the_inputs(routing, tmp_path):
    before, _ = done(routing, tmp_path)
    kept = [row.input for row in inputs_of(before) if not row.rejected]
    task = replace(routing, instruction=routing.instruction + " Think of who can help.")
    with pytest.raises(MadeOtherwise, match="another version of task routing.*another instruction") as refused:
        job(task, tmp_path)
    assert f"the {len(kept)} inputs written before are checked and answered again" in refused.value.hint
    again, said = done(task, tmp_path, ("synth", "filter"), redo=True)
    assert said[0].startswith(f"Another instruction: the {len(kept)} inputs written before are checked")
    rows = inputs_of(again)
    assert {row.source for row in rows[: len(kept)]} == {"earlier"} and [row.input for row in rows[: len(kept)]] == kept
    assert [row.label_asked for row in rows] == [row.label_asked for row in inputs_of(before)[:0]] or rows[
        0
    ].label_asked
    assert sum(not row.rejected for row in rows) >= 24 and again.task == task
    done(task, tmp_path, ("synth", "filter"))  # finished: nothing is said against it


def test_free_text_keeps_what_an_input_was_written_for_only_under_the_same_instruction(fluent, tmp_path):
    done(fluent, tmp_path)
    shown = replace(fluent, examples=(*fluent.examples, Pair("Why uh why is it late?", "Why is it late?")))
    with job(shown, tmp_path, redo=True) as found:
        assert all(row.output for row in found.own.of("earlier"))
    again, _ = done(replace(fluent, instruction="Say it as one plain question."), tmp_path, redo=True)
    earlier = [row for row in inputs_of(again) if row.source == "earlier"]
    assert len(earlier) >= 20 and not any(row.label_asked for row in earlier)
    assert len(list(again.run.path("own").iterdir())) == 1


def test_judgements_that_a_change_puts_aside_are_told(routing, tmp_path):
    found, _ = done(routing, tmp_path, ("synth", "filter"))
    first = found.run.read(CANDIDATES, Candidate)[0]
    rejected = Verdict(first.id, False, "me", step=1)
    found.run.append(VERDICTS, [rejected, replace(rejected, reason="wrong output")])  # as r, then a digit write it
    with pytest.raises(MadeOtherwise) as refused:
        job(replace(routing, instruction="Name the team."), tmp_path)
    assert "1 judgement of the review put aside, in verdicts.jsonl.before" in refused.value.hint


def test_a_changed_example_is_told_and_a_changed_label_makes_all_anew(routing, tmp_path):
    done(routing, tmp_path)
    other = replace(routing, examples=(*routing.examples[:2], Pair("The lamp is broken.", "technical")))
    with pytest.raises(MadeOtherwise, match=r"examples changed \(1 new, 1 gone\)"):
        job(other, tmp_path)
    labels = replace(routing, labels=(*routing.labels, "other"))
    with pytest.raises(MadeOtherwise, match="other labels") as refused:
        job(labels, tmp_path)
    assert "everything is made again" in refused.value.hint
    again, said = done(labels, tmp_path, redo=True)
    assert {row.source for row in inputs_of(again)} == {""} and "everything is made again" in said[0]


def test_a_remake_that_was_killed_never_takes_the_old_rows_for_its_own(routing, tmp_path):
    done(routing, tmp_path, ("synth", "filter"))
    task = replace(routing, instruction="Name the team.")
    with job(task, tmp_path, redo=True) as cut, cut.lock():
        cut.worked = True  # killed here: run.json has the new task, the old rows are not put away yet
    with pytest.raises(MadeOtherwise, match="Stage synth .* was made with"):
        done(task, tmp_path)
    again, _ = done(task, tmp_path, redo=True)
    assert {row.source for row in inputs_of(again)} <= {"earlier", ""}
    assert sum(row.source == "earlier" for row in inputs_of(again)) >= 24


def test_an_unfinished_run_of_another_task_is_not_gone_on_with(routing, tmp_path):
    with job(routing, tmp_path) as cut, cut.lock(), pytest.raises(KeyboardInterrupt):
        perform(cut, "synth", _stop_at(30))
    task = replace(routing, instruction="Name the team.")
    again, _ = done(task, tmp_path, redo=True)
    rows = inputs_of(again)
    assert rows[0].source == "earlier" and len({row.id for row in rows}) == len(rows)
    assert sum(not row.rejected for row in rows) >= 24


def _stop_at(n):
    seen = 0

    def hear(event):
        nonlocal seen
        seen += isinstance(event, sg.Moved)
        if seen == n:
            raise KeyboardInterrupt

    return hear


def test_own_rows_whose_label_is_gone_must_be_given_again(routing, tmp_path):
    done(routing, tmp_path, rows=write_rows(tmp_path))
    fewer = replace(routing, labels=LABELS[:2], examples=routing.examples[:2], tests=routing.tests[:2])
    with pytest.raises(sg.SgError, match="have the label 'technical', which task routing no longer has"):
        job(fewer, tmp_path, redo=True)


def test_other_shares_of_the_same_rows_are_told(routing, tmp_path):
    bare, path = replace(routing, tests=()), write_rows(tmp_path)
    done(bare, tmp_path, rows=path)
    with pytest.raises(MadeOtherwise, match="own rows used for other things"):
        job(bare, tmp_path, rows=path, settings={"own": {"tests": 0.5}})


def test_other_tests_are_no_other_task(routing, tmp_path):
    done(routing, tmp_path)
    with job(replace(routing, tests=routing.tests[:1]), tmp_path) as found:
        assert len(found.task.tests) == 1 and not found.said


# A task without examples


def test_labelled_rows_bring_the_examples_that_a_task_lacks(routing, fluent, tmp_path):
    for task in (routing, fluent):
        rows = write_rows(tmp_path)
        bare = replace(task, examples=(), tests=())
        found, _ = done(bare, tmp_path, name=task.name, rows=rows)
        assert len(found.task.examples) == 3 and found.run.read(CANDIDATES, Candidate)
        if task.labels:
            assert {pair.output for pair in found.task.examples} == set(LABELS)
        again = job(bare, tmp_path, name=task.name)  # the file is not needed again
        assert again.task.examples == found.task.examples
        again.close()


def test_without_them_such_a_task_is_refused_before_any_work(routing, tmp_path):
    with pytest.raises(sg.SgError, match="no examples") as caught:
        job(replace(routing, examples=()), tmp_path)
    assert caught.value.exit_code == 2 and not (tmp_path / "runs").exists()
    leaking = tmp_path / "leaking.csv"
    leaking.write_text(f"text,label\n{json.dumps(routing.tests[0].input)},billing\n")
    with pytest.raises(sg.SgError, match="no examples"):
        job(replace(routing, examples=()), tmp_path, rows=leaking)
