"""The HTML page: complete, self-contained, escaped, accessible, and rendered by a real browser where there is one."""

import dataclasses
import re
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser

import pytest
from tiny_runs import PAIRS, REWRITE, SETTINGS, TASK, job_of

from sg_local import report
from sg_local.evaluate import evaluate
from sg_local.records import Pair, SgError, TestRow
from sg_local.report import SystemResult, charts
from sg_local.report.differing import compare
from sg_local.run import TRAIN, Run
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
    assert not [attrs for _, attrs in tags if {"src", "href", "onload", "onclick"} & set(attrs)]
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


def test_model_and_task_text_is_escaped_everywhere(page):
    assert EVIL not in page and "<script" not in page
    assert page.count("&lt;script&gt;") >= 3


def test_every_part_is_there(page):
    for words in ("Scores", "Answers, base against tuned", "Synthetic rows", "Training", "How it was made"):
        assert f">{words}</h2>" in page
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
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) == 8
    for plot in plots:
        title, said = re.search(r"<title id=\S+>(.+?)</title><desc id=\S+>(.+?)</desc>", plot, re.DOTALL).groups()
        assert title and re.search(r"\d", said)
        assert 'role="img"' in plot[:200]


def test_ids_are_unique(page):
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_every_reference_to_a_clip_path_is_met(page):
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(re.findall(r'\sid="([^"]+)"', page))


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_contrast_with_the_paper(scheme):
    """WCAG AA: 4.5 for text, and for marks the same, which is more than the 3 that graphics need."""
    css = (report.Path(report.__file__).parent / "page.html").read_text()
    colours = dict(re.findall(r"--(\w+): (#\w{6})", css.split(":root {")[1 + scheme].split("}")[0]))
    for name in ("ink", "soft", "base", "tuned", "trivial"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    for name in ("gone", "new", "card"):
        assert contrast(colours["ink"], colours[name]) >= 4.5, name


def contrast(one, other):
    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_scores_tell_roles_apart_by_shape_too():
    systems = [SystemResult(50.0, 40.0, 60.0, 4, {}, 0.0, role, role, "free") for role in charts.ROLES]
    drawn = re.findall(r'aria-roledescription="point"[^>]* d="([^"]+)"', charts.scores(systems, "exact match"))
    assert len(set(drawn)) == 3


def test_a_generation_run_needs_no_labels_no_curve_and_no_funnel(tmp_path):
    job = job_of(tmp_path, REWRITE, pairs=(Pair("SOME TEXT", "some text"),))
    evaluate(job)
    text = report.write_page(job.run, job.run.path("report.html")).read_text()
    Reader(text)
    assert "<td>copy the input</td>" in text and "Which label" not in text and ">Training</h2>" not in text


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


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("scheme, dark", [("0", True), ("1", False)])
def test_a_browser_draws_the_page(run, tmp_path, scheme, dark):
    shot = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=900,1400"]
    flags += [f"--blink-settings=preferredColorScheme={scheme}", f"--user-data-dir={tmp_path}", f"--screenshot={shot}"]
    address = run.path("report.html").absolute().as_uri()
    subprocess.run(["chromium", *flags, address], check=True, capture_output=True, timeout=60)
    pixels = decode_png(shot.read_bytes())
    corner = sum(pixels[0][:3])
    assert (corner < 150) is dark
    assert len({row[i : i + 3] for row in pixels[::7] for i in range(0, len(row) - 3, 33)}) > 20


def decode_png(data):
    """Rows of RGB bytes of an 8-bit RGB or RGBA image, as browsers write them."""
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert depth == 8 and kind in (2, 6)
    chunks, at = b"", 8
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        chunks += data[at + 8 : at + 8 + size] if name == b"IDAT" else b""
        at += size + 12
    raw, step = zlib.decompress(chunks), 3 if kind == 2 else 4
    rows, before = [], bytearray(width * step)
    for y in range(height):
        line = raw[y * (width * step + 1) : (y + 1) * (width * step + 1)]
        before = unfilter(line[0], bytearray(line[1:]), before, step)
        rows.append(bytes(b for i, b in enumerate(before) if step == 3 or i % 4 != 3))
    return rows


def unfilter(kind, line, above, step):
    """One row of a PNG with its filter undone (PNG specification, section 9)."""
    for i in range(len(line)):
        left = line[i - step] if i >= step else 0
        corner = above[i - step] if i >= step else 0
        up = above[i]
        guess = left + up - corner
        paeth = min((left, up, corner), key=lambda value: abs(guess - value))
        line[i] = (line[i] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
    return line


def test_the_reliability_says_what_a_threshold_leaves(tmp_path):
    job = job_of(tmp_path)
    evaluate(dataclasses.replace(job, settings=dataclasses.replace(SETTINGS, abstain=0.7), valid=PAIRS))
    page = report.render(job.run)
    assert "sure enough" in page and "0.7, as <code>abstain</code> has it" in page
    assert "fitted on 4 rows" in page


def test_a_report_from_before_there_were_probabilities_has_no_such_part(tmp_path):
    job = job_of(tmp_path)
    found = evaluate(job)
    bare = {name: dataclasses.replace(one, reliability=None) for name, one in found.systems.items()}
    report.write_report(job.run, dataclasses.replace(found, systems=bare))
    assert "mean what they say" not in report.render(job.run)
