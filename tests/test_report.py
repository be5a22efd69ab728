"""The HTML page: complete, self-contained, escaped, accessible, and rendered by a real browser where there is one."""

import dataclasses
import re
import shutil
from html.parser import HTMLParser

import pytest
from tiny_runs import PAIRS, REWRITE, SETTINGS, TASK, job_of

from sg_local import report
from sg_local.evaluate import evaluate
from sg_local.records import Pair, SgError, TestRow, Verdict
from sg_local.report.differing import compare
from sg_local.run import TRAIN, VERDICTS, Run
from sg_local.training import TrainingRow

EVIL = "<script>alert('x')</script>"
FUNNEL = {
    "asked": 9,
    "parsed": 8,
    "accepted": 7,
    "kept": 4,
    "rules": {"near_duplicate": 3, "empty": 1},
    "examples": {"near_duplicate": [[f"{EVIL} again", "equals row 3 & more"]]},
    "labels": {"red": [5, 2], "blue": [4, 2]},
    "policy": "asked",
    "why": "votes < asked",
}
CURVE = [[0, 2.0, 2.1], [1, 1.5, None], [2, 1.2, 1.4]]
EVIL_ROW = TestRow(f"test {EVIL}", ("blue",))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    settings = dataclasses.replace(SETTINGS, retain=True)
    job = job_of(root, dataclasses.replace(TASK, tests=(*TASK.tests, EVIL_ROW)), settings=settings)
    job.run.replace(
        TRAIN, [TrainingRow(str(i), pair.input, pair.output) for i, pair in enumerate((*PAIRS, Pair(EVIL, "red")))]
    )
    job.run.write_stamp("filter", {"near_duplicate": {"on": True}}, seconds=0.1, funnel=FUNNEL)
    job.run.write_stamp("train", {"epochs": 2}, seconds=3.5, curve=CURVE)
    evaluate(job)
    report.write_page(job.run, job.run.path("report.html"))
    return job.run


@pytest.fixture(scope="module")
def page(run):
    return run.path("report.html").read_text()


VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """Collects tags with their attributes, and complains of unbalanced ones."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(page):
    tags = Reader(page).tags
    assert not [tag for tag, _ in tags if tag in ("script", "link", "img", "iframe", "object", "video")]
    assert not [attrs for _, attrs in tags if {"src", "onload", "onclick"} & set(attrs)]
    assert all(attrs["href"].startswith("#") for _, attrs in tags if "href" in attrs)
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


def test_model_and_task_text_is_escaped_everywhere(page):
    assert EVIL not in page and "<script" not in page
    assert page.count("&lt;script&gt;") >= 3


def test_every_part_is_there(page):
    headings = re.findall(r"<h2[^>]*>([^<]+)</h2>", page)
    assert headings == ["Result", "Answers", "What changed", "Rows", "Settings"]
    for words in (
        "near_duplicate.on",
        "equals row 3 &amp; more",
        "votes &lt; asked",
        "adapter.gguf",
        "macro-F1",
        "What was forgotten",
        "colours on fake",
        "(what predict and serve answer with)",
        "strongest on the test rows",
        "never on test rows",
        "Do the probabilities mean what they say?",
        "validated the training, never on test rows",
    ):
        assert words in page


def test_every_plot_has_a_title_and_a_description_in_words(page):
    told = re.findall(r'<svg [^>]*role="img".*?</desc>', page, re.DOTALL)
    assert len(told) == 4  # the first figure, reliability, lengths, losses
    for plot in told:
        title, said = re.search(r"<title id=\S+>(.+?)</title><desc id=\S+>(.+?)</desc>", plot, re.DOTALL).groups()
        assert title and re.search(r"\d", said)
    others = [tag for tag in re.findall("<svg [^>]*>", page) if 'role="img"' not in tag]
    points = [tag for tag in others if 'overflow="visible"' in tag]  # inside a figure or a mark
    assert all('aria-hidden="true"' in tag for tag in others if tag not in points)


def test_headings_and_landmarks_lead_through_the_page(page):
    tags = Reader(page).tags
    levels = [int(tag[1]) for tag, _ in tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    names = [tag for tag, _ in tags]
    assert all(names.count(landmark) == 1 for landmark in ("header", "nav", "main"))
    ids = {attrs["id"] for _, attrs in tags if "id" in attrs}
    sections = [attrs["aria-labelledby"] for tag, attrs in tags if tag == "section"]
    targets = [attrs["href"][1:] for tag, attrs in tags if tag == "a"]
    assert targets == ["result", *sections] and set(targets) <= ids
    assert ":focus-visible" in page


def test_cells_that_become_cards_carry_the_names_of_their_columns(page):
    for table in re.findall(r'<table class="stack.*?</table>', page, re.DOTALL):
        head, body = table.split("</thead>")
        heads = re.findall(r"<th[^>]*>([^<]+)</th>", head)
        assert set(re.findall(r'data-th="([^"]+)"', body)) <= set(heads)
        assert body.count("<td") == body.count('role="cell"') and "<tr>" not in body


def test_nothing_needs_a_pointer_or_a_script(page):
    for tag, attrs in Reader(page).tags:
        assert "tabindex" not in attrs and not any(name.startswith("on") for name in attrs), tag


def test_ids_are_unique(page):
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_every_reference_to_a_clip_path_is_met(page):
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(re.findall(r'\sid="([^"]+)"', page))


CSS = (report.Path(report.__file__).parent / "page.css").read_text()


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_contrast_with_what_is_behind_them(scheme):
    """WCAG AA: 4.5 for text, and for marks the same, which is more than the 3 that graphics need."""
    colours = dict(re.findall(r"--(\w+): (#\w{6})", CSS.split(":root {")[1 + scheme].split("}")[0]))
    for name in ("ink", "soft", "base", "tuned", "trivial"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    for name in ("gone", "new", "card"):
        assert contrast(colours["ink"], colours[name]) >= 4.5, name
    assert contrast(colours["soft"], colours["card"]) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_contrast_with_tinted_ground(scheme):
    """Counts on the deepest shade of a confusion table, names and points on the first figure's band."""
    colours = dict(re.findall(r"--(\w+): (#\w{6})", CSS.split(":root {")[1 + scheme].split("}")[0]))
    shade = float(re.search(r"var\(--share\) \* ([.\d]+)", CSS)[1])
    tint = float(re.search(r"\.band \{ opacity: ([.\d]+)", CSS)[1])
    for name in ("tuned", "trivial"):
        assert contrast(colours["ink"], mixed(colours[name], colours["card"], shade)) >= 4.5, name
        band = mixed(colours[name], colours["paper"], tint)
        for mark in ("ink", "soft"):
            assert contrast(colours[mark], band) >= 4.5, (mark, name)
        for mark in ("base", "tuned", "trivial"):
            assert contrast(colours[mark], band) >= 3, (mark, name)


def mixed(one, other, share):
    """The colour of which `share` is the first and the rest the second."""
    pairs = ((int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


def contrast(one, other):
    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_generation_run_needs_no_labels_no_curve_and_no_funnel(tmp_path):
    job = job_of(tmp_path, REWRITE, pairs=(Pair("SOME TEXT", "some text"),))
    evaluate(job)
    text = report.write_page(job.run, job.run.path("report.html")).read_text()
    Reader(text)
    assert ">copy the input <" in text and "Which label" not in text and "Loss while training" not in text


def test_a_run_without_an_evaluation_says_what_to_do(tmp_path):
    with pytest.raises(SgError, match="no report yet"):
        report.write_page(Run(tmp_path), tmp_path / "page.html")


@pytest.mark.parametrize(
    "one, other, gone, new",
    [
        ("the red car", "the blue car", ["red"], ["blue"]),
        ("a b", "a b", [], []),
        ("", "new words", [], ["new words"]),
        ("yes!", "yes", ["!"], []),
    ],
)
def test_differing_words_are_found_and_the_text_survives(one, other, gone, new):
    left, right = compare(one, other)
    assert "".join(piece.text for piece in left) == one and "".join(piece.text for piece in right) == other
    assert [piece.text for piece in left if piece.differs] == gone
    assert [piece.text for piece in right if piece.differs] == new


def test_the_reliability_says_what_a_threshold_leaves(tmp_path):
    job = job_of(tmp_path)
    evaluate(dataclasses.replace(job, settings=dataclasses.replace(SETTINGS, abstain=0.7), valid=PAIRS))
    page = report.render(job.run)
    assert "sure enough" in page and "0.7, as <code>abstain</code> has it" in page
    assert "fitted on 4 rows" in page


def test_rows_judged_by_people_are_counted_as_they_stand(run, tmp_path):
    rejected = Verdict("a", False, "ann", step=1)
    journal = [rejected, dataclasses.replace(rejected, reason="wrong output"), Verdict("b", True, "filters")]
    taken_back = [Verdict("c", True, "ann", step=2), Verdict("c", True, "ann", "undo", step=-2)]
    shutil.copytree(run.root, tmp_path / "run")
    copy = Run(tmp_path / "run")
    copy.append(VERDICTS, [*journal, *taken_back])
    report.write_page(copy, tmp_path / "page.html")
    assert "1 row was judged by people." in (tmp_path / "page.html").read_text()
    assert "judged by people" not in run.path("report.html").read_text()


def test_a_notice_stands_above_the_first_figure_and_is_escaped(run):
    text = report.render(run, f"Out of date: {EVIL}")
    assert EVIL not in text and 0 < text.index("Out of date: &lt;script&gt;") < text.index("<figure>")
    assert 'role="note"' not in report.render(run)


def test_a_report_from_before_there_were_probabilities_has_no_such_part(tmp_path):
    job = job_of(tmp_path)
    found = evaluate(job)
    bare = {name: dataclasses.replace(one, reliability=None) for name, one in found.systems.items()}
    report.write_report(job.run, dataclasses.replace(found, systems=bare))
    assert "mean what they say" not in report.render(job.run)
