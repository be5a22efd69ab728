"""The docs as a site in a real browser, opened from a disk: the search finds, and nothing but files is asked for."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest
from test_site import built

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="Chromium is not installed: apt-get install chromium"
)
__all__ = ["built"]  # a fixture
SEARCH = """
const until = find => new Promise(done => {
  const turn = setInterval(() => { const found = find(); if (found) { clearInterval(turn); done(found) } }, 50)
})
onload = async () => {
  const inside = document.querySelector('iframe').contentWindow, page = inside.document
  ;(await until(() => page.querySelector('.md-search__button'))).click()
  const root = (await until(() => [...page.querySelectorAll('*')].find(one => one.shadowRoot))).shadowRoot
  const field = await until(() => root.querySelector('input'))
  field.value = 'WORDS'
  field.dispatchEvent(new inside.Event('input', {bubbles: true, composed: true}))
  const found = await until(() => root.querySelectorAll('a[href]').length && [...root.querySelectorAll('a[href]')])
  const asked = [...page.querySelectorAll('script[src], link[href], img[src], iframe')]
    .map(one => one.src || one.href).filter(Boolean)
  document.body.textContent = JSON.stringify({found: found.map(one => one.href), asked})
}
"""


def found_in(site, words):
    """What the search of the site finds, and what the page holds by then, when it is opened from the disk."""
    outer = site / "outer.html"
    frame = '<iframe src="index.html" width="1280" height="900"></iframe>'
    outer.write_text(f"<meta charset='utf-8'><script>{SEARCH.replace('WORDS', words)}</script>{frame}", "utf-8")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom")
    profile = f"--user-data-dir={site.parent / 'profile'}"
    command = ["chromium", *flags, "--virtual-time-budget=60000", profile, outer.as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return json.loads(html.unescape(re.search(r"<body>(.*)</body>", done.stdout, re.DOTALL)[1]))


def test_the_search_works_from_a_disk_and_asks_nobody(built):
    told = found_in(built, "exposure canaries")
    assert any("privacy.html" in link for link in told["found"])
    assert len(told["asked"]) > 5 and [one for one in told["asked"] if re.match("https?:", one)] == []
