"""The page in a real browser: it fits a telephone, a tablet and a screen, and prints on few sheets.

A page of ours holds the report in frames of three widths, and writes what it measures there into itself, which Chromium
then prints. The report itself runs no script.
"""

import html
import json
import re
import shutil
import struct
import subprocess
import zlib

import pytest
from wordy_runs import long_texts, ten_labels

from sg_local import report

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="Chromium is not installed: apt-get install chromium"
)
WIDTHS = (390, 820, 1280)
SHEETS = 5
SMALLEST = 9.0
"""Pixels: text under this is no text on a telephone."""
MEASURE = """
function drawn(one) {
  const at = one.getScreenCTM ? one.getScreenCTM() : {a: 1, b: 0}
  return Math.hypot(at.a, at.b)
}
function seen(frame) {
  const page = frame.contentDocument, width = page.documentElement.clientWidth
  const folded = [...page.querySelectorAll('details')]
  folded.forEach(one => one.open = true)
  const out = [...page.querySelectorAll('main *')].filter(one => {
    const box = one.getBoundingClientRect()
    return box.width > 1 && (box.right > width + 1 || box.left < -1) && !one.closest('.hidden')
  })
  const inner = [...page.querySelectorAll('main *')].filter(one =>
    one.scrollWidth > one.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(one).overflowX))
  const sizes = [...page.querySelectorAll('main *')].filter(one => [...one.childNodes].some(
    node => node.nodeType == 3 && node.data.trim()) && one.getBoundingClientRect().width > 1)
    .map(one => parseFloat(getComputedStyle(one).fontSize) * drawn(one))
  return {width, wide: page.documentElement.scrollWidth, smallest: Math.min(...sizes), n: sizes.length,
    out: out.map(one => one.outerHTML.slice(0, 120)), inner: inner.length}
}
onload = () => {
  document.body.textContent = JSON.stringify([...document.querySelectorAll('iframe')].map(seen))
}
"""


@pytest.fixture(scope="module", params=[ten_labels, long_texts], ids=["ten labels", "long texts"])
def page(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    return report.write_page(request.param(root / "run"), root / "page.html")


def chromium(page, *flags):
    """What the browser writes to its output."""
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", profile, *flags]
    done = subprocess.run([*command, page.absolute().as_uri()], check=True, capture_output=True, timeout=120)
    return done.stdout.decode()


def test_the_page_fits_a_telephone_a_tablet_and_a_screen_with_all_unfolded(page):
    text = html.escape(page.read_text(), quote=True)
    frames = "".join(f'<iframe width="{width}" height="800" srcdoc="{text}"></iframe>' for width in WIDTHS)
    outer = page.with_name("frames.html")
    outer.write_text(f'<meta charset="utf-8"><style>iframe {{border: 0}}</style><script>{MEASURE}</script>{frames}')
    found = json.loads(html.unescape(re.search(r"<body>(.*)</body>", chromium(outer, "--dump-dom"), re.DOTALL)[1]))
    assert [one["width"] for one in found] == list(WIDTHS)
    for one in found:
        assert one["wide"] <= one["width"] and not one["out"] and not one["inner"], one
        assert one["n"] > 100 and one["smallest"] >= SMALLEST, one


def test_the_page_prints_on_five_sheets_at_most(page):
    sheets = page.with_name("page.pdf")
    chromium(page, "--no-pdf-header-footer", f"--print-to-pdf={sheets}")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", sheets.read_bytes())) <= SHEETS


@pytest.mark.parametrize("scheme, dark", [("0", True), ("1", False)])
def test_a_browser_draws_the_page(page, tmp_path, scheme, dark):
    shot = tmp_path / "page.png"
    flags = [f"--blink-settings=preferredColorScheme={scheme}", "--window-size=500,500", f"--screenshot={shot}"]
    chromium(page, *flags)
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
