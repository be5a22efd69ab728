"""`sg-local review RUN` as a person meets it: the real program in a pseudo-terminal, key by key."""

from __future__ import annotations

import json
import re
import shutil
import signal
import termios

import pytest
from click.testing import CliRunner
from terminal import Terminal

from sg_local.cli.app import app
from sg_local.run import Run

COLOURS = re.compile(rb"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7])[0-9;]*m")


@pytest.fixture(scope="module")
def synthesised(tmp_path_factory):
    """A folder with one filtered run of the scripted backend."""
    folder = tmp_path_factory.mktemp("synthesised")
    runs, home = ["--runs", str(folder / "runs")], {"SG_LOCAL_HOME": str(folder / "home")}
    for line in (
        ["synth", "support_routing", "--backend", "scripted", "--name", "trial", "--set", "synth.n_inputs=64"],
        ["filter", "trial"],
    ):
        done = CliRunner().invoke(app, [*line, *runs], env=home)
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def folder(synthesised, tmp_path):
    """A copy of that folder."""
    shutil.copytree(synthesised / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture
def start(folder):
    """Starts a review, and ends it when the test has not."""
    begun = []

    def begin(*options, size=(80, 24), **env):
        terminal = Terminal(["review", "trial", *options], folder, size, SG_LOCAL_HOME=str(folder / "home"), **env)
        begun.append(terminal)
        return terminal

    yield begin
    for terminal in begun:
        terminal.child.close(force=True)


def judged(folder):
    """The people's verdicts in the journal, in its order."""
    rows = map(json.loads, (folder / "runs" / "trial" / "verdicts.jsonl").read_text().splitlines())
    return [row for row in rows if row["judge"] != "filters"]


def kept_inputs(folder):
    """The inputs of the rows past the filters, in the order of the file."""
    run = Run(folder / "runs" / "trial")
    verdicts = [json.loads(line) for line in run.path("verdicts.jsonl").read_text().splitlines()]
    kept = {row["id"]: row["keep"] for row in verdicts if row["judge"] == "filters"}
    rows = map(json.loads, run.path("candidates.jsonl").read_text().splitlines())
    return [row["input"] for row in rows if kept[row["id"]]]


def test_a_card_with_its_panels_fits_80_by_24(folder, start):
    review = start()
    text = review.wait("open. a accepts")
    first = kept_inputs(folder)[0]
    for words in ("not judged", "INPUT", first[:40], "OUTPUT", "votes", "label", "rules", "Progress", "Kept by label",
                  "1 billing", "Funnel", "a accept", "r reject", "1-3 label", "? keys", "q quit"):  # fmt: skip
        assert words in text
    assert len(text.splitlines()) == 24


def test_a_key_is_on_disk_before_the_next_card(folder, start):
    review = start()
    review.wait("○ #")
    for n in range(1, 4):
        review.press("a")
        review.wait(f"{n} of {len(kept_inputs(folder))} judged")
        assert len(judged(folder)) == n


def test_quitting_and_coming_back_shows_the_same_card(folder, start):
    review = start()
    review.wait("○ #")
    review.press("arr1")
    text = review.wait("3 of 64 judged")
    card = re.search(r"○ (#\d+)", text)[1]
    review.press("q")
    assert review.end() == 0
    assert b"1 accepted, 2 rejected" in review.raw and b"Next: sg-local train trial" in review.raw
    again = start()
    assert f"○ {card} not judged" in again.wait("still open")
    again.press("u")
    again.wait("Taken back")
    assert [row["keep"] for row in judged(folder)] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("r", "is rejected. Why?"),
        ("n", "Note:"),
        ("T", "The task"),
        ("d", "labellers disagree most"),
        ("S", "surest"),
        ("f", "Show which rows?"),
        ("?", "without limit, notes too"),
        ("?\x1b[6~", "another answer of the model"),
        ("A", "open rows? y or n"),
        ("t", "Move a threshold and see"),
        ("o", "most doubtful first"),
        ("i", "INPUT typing"),
        ("/", "Search:"),
        ("g", "Row number:"),
        ("\x1b[1;5C", "open. a accepts"),
        ("\x1b[15~", "open. a accepts"),
    ],
    ids=repr,
)
def test_every_mode_draws_and_esc_leaves_it(start, keys, words):
    review = start()
    review.wait("open. a accepts")
    review.press(keys)
    review.wait(words)
    review.press("\x1b")
    review.wait("INPUT", "a accept")
    review.press("q")
    assert review.end() == 0 and review.is_restored()


def test_moved_thresholds_show_at_once_what_they_do_and_are_kept_on_enter(folder, start):
    review = start()
    review.wait("○ #")
    review.press("t")
    review.wait("▸ input_length.sigmas")
    review.press("\x1b[B\x1b[B\x1b[B")
    review.wait("▸ near_duplicate.threshold  0.7")
    review.press("\x1b[D" * 8)
    review.wait("0.3  was 0.7", "→", "Rows at the edge")
    review.press("\r")
    review.wait("judged all rows again")
    assert json.loads((folder / "runs/trial/run.json").read_text())["set"]["filter"]["near_duplicate"] == {
        "threshold": 0.3
    }


def test_a_pasted_text_is_text_and_its_lines_are_no_keys(folder, start):
    review = start()
    review.wait("○ #")
    review.press("i\x15")
    review.wait("INPUT typing")
    review.press("\x1b[200~pasted\r\nAy qr1\x1b[201~")
    review.wait("▏ pasted", "▏ Ay qr1")
    assert judged(folder) == []
    review.press("\r")
    review.wait("Saved and accepted")
    assert judged(folder)[0]["input"] == "pasted\nAy qr1"
    review.press("\x1b[200~rrr\x1b[201~")
    review.wait("Pasted text does nothing here")
    assert len(judged(folder)) == 1


def test_both_texts_can_be_edited_in_an_editor(folder, start):
    editor = folder / "editor.sh"
    editor.write_text('#!/bin/sh\nsed -i "s/^[A-Z].*/Written elsewhere./" "$1"\n')
    editor.chmod(0o755)
    review = start(EDITOR=str(editor), VISUAL="")
    review.wait("○ #")
    review.press("E")
    review.wait("Written elsewhere.", "Saved and accepted")
    assert judged(folder)[0]["input"] == "Written elsewhere."


def test_another_answer_comes_from_the_engine(start):
    review = start()
    review.wait("○ #")
    review.press("G")
    review.wait("The model answers")


@pytest.mark.parametrize(
    ("size", "shown", "gone"),
    [((60, 20), "? keys", "Progress"), ((40, 12), "a accept", "Progress"), ((132, 50), "t thresholds", "")],
    ids=str,
)
def test_it_follows_the_window(start, size, shown, gone):
    review = start()
    review.wait("Progress")
    review.resize(*size)
    text = review.wait("INPUT", shown, gone=gone)
    assert all(len(line) <= size[0] for line in text.splitlines())


def test_no_color_is_respected_and_says_the_same(start):
    plain = start(NO_COLOR="1")
    text = plain.wait("open. a accepts")
    plain.press("q")
    assert plain.end() == 0
    coloured = start()
    assert coloured.wait("open. a accepts") == text
    assert COLOURS.search(coloured.raw) and not COLOURS.search(plain.raw)


def test_a_terminal_without_unicode_shows_what_it_can(start):
    review = start(PYTHONIOENCODING="ascii")
    review.wait("INPUT", "a accept")
    review.press("aq")
    assert review.end() == 0 and review.is_restored()


def test_a_sample_ends_with_a_bound(folder, start):
    review = start("--sample", "5")
    review.wait("1 of 5")
    review.press("aaaar")
    review.wait("1 bad of 5 judged", "at most 65.7% bad (95%)")
    review.press("q")
    assert review.end() == 0
    said = "1 of 5 sampled rows was bad. With 95 % confidence at most 65.7% of all 64 rows that passed"
    assert said in " ".join(review.raw.decode().split())


@pytest.mark.parametrize("way", ["q", "ctrl-c", "terminate", "hang up", "failure"])
def test_the_terminal_is_given_back_on_any_way_out(folder, start, way):
    review = start()
    before = review.modes()
    review.wait("○ #")
    assert not review.modes()[3] & termios.ICANON
    if way == "failure":
        (folder / "runs/trial/verdicts.jsonl").unlink()
        (folder / "runs/trial/verdicts.jsonl").mkdir()
    keys = {"q": "q", "ctrl-c": "\x03", "failure": "a"}
    signals = {"terminate": signal.SIGTERM, "hang up": signal.SIGHUP}
    review.press(keys[way]) if way in keys else review.child.kill(signals[way])
    codes = {"q": 0, "ctrl-c": 130, "terminate": 143, "hang up": 129, "failure": 1}
    assert review.end() == codes[way] and review.is_restored() and review.left == before
    assert b"Traceback" not in review.raw


@pytest.mark.parametrize("keys", ["a", "r", "r2", "nask bob\r", "Ay", "2u"], ids=repr)
def test_what_a_key_did_outlives_a_kill(folder, start, keys):
    review = start()
    review.wait("○ #")
    before = (folder / "runs/trial/verdicts.jsonl").read_text()
    review.press(keys)
    words = {"a": "1 of 64 judged", "r": "Why?", "r2": "off the task", "Ay": "Accepted 64", "2u": "Taken back"}
    review.wait(words.get(keys, "Noted"))
    review.child.kill(signal.SIGKILL)
    review.end()
    journals = {name: folder / "runs/trial" / name for name in ("verdicts.jsonl", "notes.jsonl")}
    kept = {name: path.read_text() for name, path in journals.items() if path.exists()}
    assert kept != {"verdicts.jsonl": before}
    again = start()
    again.wait("INPUT")
    if keys.startswith("n"):
        again.press("k")
        again.wait("ann: ask bob")
    again.press("u")
    again.wait("Nothing to undo" if keys == "2u" else "aken back")
    assert all(path.read_text().startswith(kept[name]) for name, path in journals.items() if name in kept)


@pytest.mark.parametrize("size", [(60, 20), (80, 24)], ids=str)
def test_progress_pace_and_labels_are_in_sight(start, size):
    review = start(size=size)
    review.wait("INPUT")
    review.press("a")
    review.wait("1 of 64 judged")
    review.press("a")
    review.wait("2 of 64 judged")
    review.press("r")
    review.wait("3 of 64 judged", "1 rejected" if size[0] == 60 else "rejected              1", "s a row", "left")
    review.press("f")
    review.wait("Show which rows?")
    review.press("l\r")
    review.wait("label: billing", "3 of 64 judged", "1 billing", "2 delivery", "3 technical")


@pytest.mark.parametrize("kind", ["pipe", "dumb"])
def test_where_no_screen_can_be_drawn_it_says_what_to_do_instead(folder, start, kind):
    if kind == "pipe":
        done = CliRunner().invoke(app, ["review", "trial", "--runs", str(folder / "runs")])
        assert done.exit_code == 2 and "--export" in done.stderr
        return
    review = start(TERM="dumb")
    assert review.end() == 2 and b"--export" in review.raw
