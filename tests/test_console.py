"""What the screens draw from plain views, at every size, by Rich's recorder."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from rich.console import Console

from sg_local.console import cards
from sg_local.console import verdict as verdicts
from sg_local.console.live import LiveNarrator
from sg_local.console.review import Screenful
from sg_local.console.review_card import DECISIONS
from sg_local.console.verdict import verdict
from sg_local.filters import FilterSettings
from sg_local.job.review import thresholds
from sg_local.views.records import (
    CardView,
    ConfusionView,
    FindingView,
    FunnelCard,
    GainView,
    PlayView,
    Progress,
    ReviewView,
    SystemScore,
    VerdictCard,
)
from sg_local.views.review import KEYS, view_of
from sg_local.views.review_words import MEANINGS

CARD = CardView(
    number=7,
    id="x",
    decision="open",
    who="the filters keep it",
    input="[bold]not markup[/bold] " + "many words " * 40,
    output="billing",
    votes=(("billing", 3), ("delivery", 1), ("a long free answer " * 9, 1), ("x", 1), ("y", 1)),
    n_samples=7,
    labels=(("asked", "billing"), ("voted", "delivery"), ("trains as", "billing")),
    scores=(("billing", 0.784, (0.64, 0.9)), ("delivery", 0.216, (0.36, 0.1)), *((x, 0.0, (0.0, 0.0)) for x in "abc")),
    rule="near_duplicate",
    reason="0.84 like another one",
    neighbour=(3, 0.5, (("many ", False), ("other ", True), ("words", False))),
    doubts=("the votes disagree",),
    facts=("3 tokens",),
)
VIEW = ReviewView(
    title="review of a run with quite a long name",
    position="7 of 92",
    conditions="most doubtful first",
    card=CARD,
    progress=(("accepted", 3), ("rejected", 1)),
    judged=(4, 92),
    funnel=(("asked", 200), ("kept now", 92)),
    labels=tuple((f"label number {i}", i) for i in range(30)),
    mode="cards",
    keys=KEYS["cards"],
    sample=("1 bad of 5 judged", "at most 65.7% bad (95%)"),
)
FINDINGS = [FindingView("engine", name, name, "found", "why", "fix it") for name in cards.STATUS]
PLAY = PlayView((("near_duplicate.threshold", "0.65", "0.7"),), 0, 92, 88, (80, 92), "how alike", (("a", 40, 38),))


def drawn(what, width, height):
    """The lines of a renderable on a console of that size."""
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=width, height=height, file=nowhere, highlight=False, force_terminal=True)
        console.print(what, height=height, end="")
        return console.export_text().split("\n")


@pytest.mark.parametrize("size", [(80, 24), (200, 70), (70, 10), (60, 20), (30, 8), (12, 4)], ids=str)
@pytest.mark.parametrize("mode", KEYS)
def test_the_review_fills_any_window_exactly(mode, size):
    view = dataclasses.replace(VIEW, mode=mode, keys=KEYS[mode], play=PLAY, buffer="typed " * 50, caret=290)
    lines = drawn(Screenful(view), *size)
    assert len(lines) == size[1] and all(len(line) <= size[0] for line in lines)


def test_a_long_card_scrolls_to_its_end_and_no_further():
    screen = Screenful(dataclasses.replace(VIEW, scroll=500))
    lines = drawn(screen, 80, 24)
    assert "3 tokens" in "\n".join(lines) and 0 < screen.scroll < 30
    assert "the up key scrolls back" in "\n".join(lines)


def test_the_caret_is_in_sight_while_typing():
    view = dataclasses.replace(VIEW, mode="edit", edits="input", buffer="word " * 400 + "END", caret=2003)
    assert "END" in "\n".join(drawn(Screenful(view), 80, 24))


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_a_narrow_window_loses_neither_place_nor_progress_nor_labels(width):
    view = dataclasses.replace(
        VIEW,
        conditions="label: delivery, text: a long text to look for | most doubtful first",
        sample=(),
        pace=("9.5 s a row",),
    )
    lines = drawn(Screenful(view), width, 20)
    assert lines[0].rstrip().endswith(" 7 of 92")
    text = "\n".join(lines)
    assert "4 of 92 judged" in text and "1 label number 0" in text or width >= 70
    assert "9.5 s a row" in text or width < 60


@pytest.mark.parametrize("size", [(60, 34), (80, 34), (100, 34)], ids=str)
def test_a_card_shows_how_likely_each_label_is_in_each_way(size):
    card = dataclasses.replace(CARD, input="short")
    text = "\n".join(drawn(Screenful(dataclasses.replace(VIEW, card=card)), *size))
    columns = ("scores +both ways +label +input", "\u2588\\S+ +78% +64% +90%  billing", " 22% +36% +10%  delivery")
    assert all(re.search(words, text) for words in columns) and "and 1 less likely label" in text
    one_way = dataclasses.replace(card, scores=(("billing", 0.784, ()), ("delivery", 0.216, ())))
    text = "\n".join(drawn(Screenful(dataclasses.replace(VIEW, card=one_way)), *size))
    assert re.search("scores +\u2588\\S+ +78%  billing", text) and "both ways" not in text


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (100, 30)], ids=str)
def test_a_card_stays_in_place_over_the_reasons(size):
    menu = tuple((str(i), f"reason {i}", "") for i in range(1, 7))
    plain = dataclasses.replace(VIEW, card=dataclasses.replace(CARD, input="short"))
    asked = dataclasses.replace(plain, mode="reason", keys=KEYS["reason"], menu=menu, heading="#6 is rejected. Why?")
    before, after = (drawn(Screenful(view), *size) for view in (plain, asked))
    assert before[1:7] == after[1:7]
    text = "\n".join(after)
    assert "#6 is rejected. Why?" in text and "reason 1" in text and "reason 6" in text


def test_in_a_low_window_the_heading_of_the_reasons_is_enough():
    menu = tuple((str(i), f"reason {i}", "") for i in range(1, 7))
    view = dataclasses.replace(VIEW, mode="reason", keys=KEYS["reason"], menu=menu, heading="#6 is rejected. Why?")
    text = "\n".join(drawn(Screenful(view), 40, 12))
    assert "#6 is rejected. Why?" in text and "reason 1" not in text


def test_a_long_message_is_read_to_its_end():
    view = dataclasses.replace(VIEW, message="word " * 20 + "END")
    assert "END" in "\n".join(drawn(Screenful(view), 60, 20)) and "END" not in "\n".join(drawn(Screenful(view), 60, 8))


@pytest.mark.parametrize("mode", ["help", "task", "confirm"])
def test_pages_scroll_to_their_end(mode):
    page = tuple((f"#{i}", f"line {i}") for i in range(40))
    view = dataclasses.replace(VIEW, mode=mode, keys=KEYS[mode], page=page, heading="A page")
    screen = Screenful(view)
    text = "\n".join(drawn(screen, 60, 20))
    assert "line 39" not in text and screen.below > 20
    screen = Screenful(dataclasses.replace(view, scroll=999))
    assert "line 39" in "\n".join(drawn(screen, 60, 20)) and screen.below == 0


def test_every_threshold_that_moves_has_a_meaning_without_jargon():
    names = {one.name for has_labels in (True, False) for one in thresholds(FilterSettings(), has_labels)}
    assert names <= set(MEANINGS) and not re.search(
        "nat|log|sigma|kappa", " ".join(MEANINGS.values()).replace("natural", "")
    )


def test_what_a_model_wrote_is_never_markup():
    assert "[bold]not markup[/bold]" in "\n".join(drawn(Screenful(VIEW), 80, 24))


def test_what_was_searched_for_is_marked_in_the_card():
    with open("/dev/null", "w") as nowhere:
        console = Console(width=80, height=24, file=nowhere, force_terminal=True)
        view = dataclasses.replace(VIEW, find="MANY")
        lines = console.render_lines(Screenful(view), console.options.update(height=24))
    marked = [part.text for line in lines[1:] for part in line if part.style and part.style.reverse]
    assert set(marked) == {"many"}


@pytest.mark.parametrize("mode", KEYS)
def test_words_keep_the_terminals_own_colour(mode):
    view = dataclasses.replace(VIEW, mode=mode, keys=KEYS[mode], menu=(("s", "by the filters", "kept"),), play=PLAY)
    decided = [dataclasses.replace(CARD, decision=decision) for decision in DECISIONS]
    whats = [Screenful(dataclasses.replace(view, card=card)) for card in decided]
    for what in (*whats, verdict(CARD_AT_THE_END, 100), cards.doctor(FINDINGS, "All is well.", 100)):
        assert coloured_words(what) == []


def coloured_words(what):
    """The texts that hold a letter or a digit and are neither in the terminal's foreground nor reversed."""
    console = Console(width=100, height=30, highlight=False, force_terminal=True, color_system="standard")
    lines = console.render(what, console.options.update(height=30))
    styled = [(segment.text, segment.style) for segment in lines if segment.style is not None]
    return [text for text, style in styled if re.search(r"\w", text) and (style.color or style.bgcolor)
            and style.color.name != "default"]  # fmt: skip


def test_labels_that_do_not_fit_are_counted():
    text = "\n".join(drawn(Screenful(VIEW), 80, 24))
    assert "1 label numb" in text and "more" in text and "kept now" in text


def test_a_review_without_rows_draws(routing):
    from sg_local import review

    view = view_of(review.open_review((), (), labels=routing.labels), "review of nothing", ())
    assert "No row matches this view" in "\n".join(drawn(Screenful(view), 80, 24))


CARD_AT_THE_END = VerdictCard(
    title="routing on a model",
    metric="exact match",
    n=60,
    systems=(
        SystemScore("base, calibrated labels", 85.0, 75.0, 93.3, "base", False, 36.7),
        SystemScore("tuned, calibrated labels", 96.7, 91.7, 100.0, "tuned", True, 0.0),
        SystemScore("always the commonest label", 33.3, 21.7, 45.0, "trivial", False, 0.0),
    ),
    gains=(
        GainView("tuned, calibrated labels", "base, calibrated labels", 11.7, 1.7, 23.3, "better", chosen=True),
        GainView("tuned", "base", 15.0, 6.7, 25.0, "better", ("always the commonest label",)),
    ),
    sentences=(),
    outcome="better",
    stages=(("synth", "43.2 s"),),
    artefacts=(("runs/trial/adapter.gguf", "19.6 MB", "f9afa2942152"),),
    commands=(("sg-local predict a-run-with-quite-a-long-name-of-its-own 'TEXT'", "answer one text"),),
)


def test_the_verdict_names_a_tune_on_the_examples_as_such():
    card = dataclasses.replace(CARD_AT_THE_END, rival="training on the examples alone")
    text = "\n".join(drawn(verdict(card, 100), 100, 30))
    assert "The tuned model is better than training on the examples alone: +11.7 points" in text


@pytest.mark.parametrize("width", [80, 100])
def test_the_verdict_begins_with_the_outcome_and_loses_no_figure(width):
    card = dataclasses.replace(CARD_AT_THE_END, headline="38 -> 97 % from untuned to tuned.")
    text = "\n".join(drawn(verdict(card, width), width, 30))
    assert text.index("38 -> 97 %") < text.index("\u2714")
    assert "\u2714 The tuned model is better than the best untuned setup: +11.7 points" in text
    for words in ("96.7", "91.7 \u2013 100.0", "irrelevant", "36.7", "+1.7 to +23.3", "~ tuned", "a trivial baseline",
                  "sha256 f9afa2942152", "predict a-run-with-quite-a-long-name-of-its-own 'TEXT'"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize(("width", "bars", "shares"), [(60, False, False), (80, False, True), (100, True, True)])
def test_in_little_room_the_verdict_keeps_scores_and_drops_bars(width, bars, shares):
    long = "tuned on the examples alone, calibrated labels"
    systems = (*CARD_AT_THE_END.systems, SystemScore(long, 51.7, 38.3, 100.0, "tuned", False, 1.7))
    cramped = dataclasses.replace(CARD_AT_THE_END, systems=systems)
    for card, has_shares in ((CARD_AT_THE_END, shares), (cramped, width > 80)):
        text = "\n".join(drawn(verdict(card, width), width, 50))
        for one in card.systems:
            assert f"{one.score:5.1f}  {one.low:5.1f} \u2013 {one.high:5.1f}" in text
        assert "+11.7  +1.7 to +23.3" in text and " 19.6 MB" in text and "\u2026" not in text
        assert ("\u2501" in text) == bars and (" irrelevant  " in text) == has_shares


@pytest.mark.parametrize("width", [60, 80, 100])
def test_what_is_irrelevant_is_explained_and_whose_answers_are_is_told_at_every_width(width):
    text = " ".join(
        word for word in "\n".join(drawn(verdict(CARD_AT_THE_END, width), width, 50)).split() if word != "\u2502"
    )
    assert "names no label, or says nothing" in text and "36.7" in text
    assert ("percent: base, calibrated labels 36.7" in text) == (width == 60)
    none = dataclasses.replace(CARD_AT_THE_END, systems=CARD_AT_THE_END.systems[1:])
    assert "names no label" not in "\n".join(drawn(verdict(none, width), width, 50))


def test_the_doctor_s_command_is_never_broken():
    verdict = "This machine is ready. Try: sg-local run support_routing --yes"
    for width, n_lines in ((60, 2), (80, 1)):
        lines = [line.strip("\u2502 ") for line in drawn(cards.doctor([], verdict, width), width, 20)]
        said = [line for line in lines if "ready" in line or "sg-local" in line]
        assert len(said) == n_lines and said[-1].endswith("Try: sg-local run support_routing --yes")


def test_a_file_s_name_takes_the_room_that_no_hash_needs():
    name = "SmolLM2-135M-support-routing-v1.0-Q6_K.gguf"
    card = dataclasses.replace(CARD_AT_THE_END, artefacts=((f"runs/demo/{name}", "138.4 MB", "294e25524e7a"),))
    text = "\n".join(drawn(verdict(card, 60), 60, 50))
    assert f"{name}  138.4 MB" in text and "sha256" not in text


@pytest.mark.parametrize("width", [60, 70, 80])
def test_no_stage_is_parted_from_its_time(width):
    stages = (
        ("synth", "1 min 04 s"),
        ("filter", "0.2 s"),
        ("train", "40.1 s"),
        ("export", "19.7 s"),
        ("eval", "52.9 s"),
    )
    text = "\n".join(drawn(verdict(dataclasses.replace(CARD_AT_THE_END, stages=stages), width), width, 50))
    assert all(f"{stage} {time}" in text for stage, time in stages)


@pytest.mark.parametrize("size", [(60, 24), (80, 24), (100, 30)], ids=str)
def test_where_the_verdict_is_taller_than_the_terminal_outcome_and_next_command_are_seen_last(
    monkeypatch, capsys, size
):
    monkeypatch.setattr(verdicts, "stdout", lambda: Console(width=size[0], height=size[1], highlight=False))
    notes = tuple(f"note {i}" for i in range(20))
    card = dataclasses.replace(CARD_AT_THE_END, headline="38 -> 97 % from untuned to tuned.", notes=notes)
    verdicts.show_verdict(card)
    lines = capsys.readouterr().out.splitlines()
    seen = "\n".join(lines[-size[1] :])
    assert len(lines) > size[1] and "38 -> 97 %" in lines[2] + lines[3]
    assert all(words in seen for words in ("38 -> 97 %", "+11.7 points", "sg-local predict"))
    verdicts.show_verdict(dataclasses.replace(card, notes=(), systems=card.systems[:1], gains=()))
    assert capsys.readouterr().out.count("38 -> 97 %") == 1


def test_a_confusion_table_of_many_labels_fits_by_their_numbers():
    labels = tuple(f"is {name}" for name in "abcdefghij")
    view = ConfusionView("tuned, labels only", labels, tuple((10 + i,) * 11 for i in range(10)))
    card = dataclasses.replace(CARD_AT_THE_END, confusion=view)
    narrow, wide = ("\n".join(drawn(verdict(card, width), width, 60)) for width in (60, 200))
    assert "10 is j" in narrow and "19  19" in narrow and "\u2026" not in narrow
    assert "is j  no label" in wide and "10 is j" not in wide


def test_a_gain_that_a_trivial_system_reaches_is_no_success():
    text = "\n".join(drawn(verdict(dataclasses.replace(CARD_AT_THE_END, marked=True), 80), 80, 30))
    assert "~ The tuned model is better, but a trivial baseline does as well" in text and "\u2714 The" not in text


def test_a_run_that_was_not_measured_says_why_in_place_of_scores():
    card = dataclasses.replace(CARD_AT_THE_END, unmeasured="There are no test rows.", systems=(), gains=())
    text = "\n".join(drawn(verdict(card, 100), 100, 30))
    assert "There are no test rows." in text and "interval" not in text and "adapter.gguf" in text


@pytest.mark.parametrize("height", [24, 40])
def test_the_live_view_of_a_run_fits_the_window_with_its_previews(height):
    rules = tuple((f"rule {i}", i, ("one rejected text", "another one")) for i in range(5))
    card = FunnelCard((("asked", 96), ("accepted", 76)), rules, (("billing", 9, 8), ("delivery", 9, 7)))
    live = LiveNarrator(("synth", "filter", "train", "export", "eval"), "a run: its task on a model", lambda: 7.0)
    live.console = Console(width=80, height=height, force_terminal=True)
    live.begin("synth")
    live.progress(Progress("inputs", 76, 64, "rows", {"tokens": "9"}, ("first", "second", "third"), funnel=card))
    lines = drawn(live.view(), 80, height)
    shown = [line.strip() for line in lines if line.strip()]
    assert len(shown) < height and shown[-1].startswith("╰")
    assert all(any(word in line for line in shown) for word in ("› first", "› third", "rule 4", "billing 8 of 9"))


@pytest.mark.parametrize("width", [40, 60, 80])
def test_stages_and_their_times_are_whole_beside_long_notes(width):
    live = LiveNarrator(("synth", "filter", "train"), "a run", lambda: 7.0)
    live.console = Console(width=width, height=20, force_terminal=True)
    live.begin("filter")
    live.end("filter", 75.0, "29 of 31 pairs kept, labels by policy ensemble, and much more to tell of it at length")
    live.begin("train")
    shown = drawn(live.view(), width, 20)
    assert any("filter  1:15  29 of" in line and line.rstrip().endswith("…") for line in shown)
    assert any(line.split()[1:3] == ["train", "0:00"] for line in shown) and all(len(line) <= width for line in shown)


def test_the_live_view_fits_sixty_columns_and_twenty_lines():
    rules = tuple((f"rule {i}", i, ("one rejected text", "another one")) for i in range(5))
    card = FunnelCard((("asked", 96), ("accepted", 76)), rules, (("billing", 9, 8), ("delivery", 9, 7)))
    live = LiveNarrator(("synth", "filter", "train", "export", "eval"), "a run: its task on a model", lambda: 7.0)
    live.console = Console(width=60, height=20, force_terminal=True)
    live.begin("synth")
    facts = {"yield": "79% of 96", "duplicates": "12%", "temperature": "0.9", "tokens": "12,345"}
    live.progress(Progress("inputs", 76, 96, "rows", facts, ("first", "second", "third"), funnel=card))
    shown = [line.strip() for line in drawn(live.view(), 60, 20) if line.strip()]
    assert len(shown) <= 20 and shown[-1].startswith("\u2570")
    for words in (
        "76 of 96 rows",
        "third",
        "rule 4",
        "billing 8 of 9",
        *(f"{name} {told}" for name, told in facts.items()),
    ):
        assert any(words in line for line in shown), words


@pytest.mark.parametrize("width", [40, 60, 100])
def test_the_funnel_keeps_its_numbers_in_little_room(width):
    steps = (("inputs asked for", 12824), ("inputs accepted", 1166), ("pairs kept", 981))
    card = FunnelCard(steps, (), (("billing", 9191, 823), ("delivery", 69, 27)))
    text = "\n".join(drawn(cards.funnel(card, width), width, 20))
    assert all(f"{name} " in text and f" {n}" in text for name, n in steps) and "\u2026" not in text
    assert " 9191 " in text and " 823 " in text


EVIL = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202eabc\u2028\x00"


def harmful(text):
    """What in drawn text would steer a terminal; the recorder's own colours are off."""
    return sorted({c for c in text if (ord(c) < 32 and c not in "\n\t") or c in "\x7f\x9b\u202e\u2028"})


@pytest.mark.parametrize(
    "draw",
    [
        lambda: Screenful(dataclasses.replace(VIEW, card=evil(CARD), title=EVIL, labels=((EVIL, 3),))),
        lambda: verdict(dataclasses.replace(evil(CARD_AT_THE_END), notes=(EVIL,), commands=((EVIL, EVIL),)), 80),
        lambda: cards.funnel(FunnelCard((("asked", 2),), (("rule", 1, (EVIL,)),), ((EVIL, 2, 1),), EVIL), 80),
        lambda: cards.doctor([FindingView("engine", EVIL, "ok", EVIL, EVIL, EVIL)], EVIL, 80),
    ],
    ids=["review", "verdict", "funnel", "doctor"],
)
def test_no_screen_lets_a_text_steer_the_terminal(draw):
    console = Console(width=80, height=24, record=True, color_system=None, force_terminal=False)
    console.print(draw())
    assert not harmful(console.export_text())


def evil(record):
    """A view whose texts all carry what steers a terminal."""
    texts = {f.name: EVIL for f in dataclasses.fields(record) if isinstance(getattr(record, f.name), str)}
    texts.pop("outcome", None), texts.pop("decision", None)
    return dataclasses.replace(record, **texts)


def test_the_live_view_shows_marks_for_what_a_model_writes(capsys):
    live = LiveNarrator(["synth"], EVIL)
    live.begin("synth")
    live.progress(Progress("inputs", 1, 2, latest=(EVIL,), facts={"rejected": EVIL}))
    console = Console(width=80, height=24, record=True, color_system=None)
    console.print(live.view())
    assert "\u241b" in (drawn := console.export_text()) and not harmful(drawn)


def test_this_room_draws_its_own_text_only():
    for path in Path(cards.__file__).parent.glob("*.py"):
        if path.name != "text.py":
            assert "from rich.text" not in path.read_text(encoding="utf-8"), path.name
