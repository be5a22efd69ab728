"""The docs as a site and as plain Markdown: links lead somewhere in both, every page is found, nothing is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pages import DOCS, PAGES, PAPERS, ROOT, anchors, headings, links, on_a_code_host, prose

SITE = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=[\"']?(?:https?:)?//|<link\b[^>]*\bhref=[\"']?(?:https?:)?//"
)
STYLED = re.compile(r"@import|url\(\s*[\"']?(?:https?:)?//")
FENCED_OR_LISTED = re.compile(r"(?:- |\d+\. |\|)")


def ids(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("page", PAPERS, ids=ids(PAPERS))
def test_every_link_leads_to_a_page_and_a_heading_that_is_there(page):
    gone = []
    for link in links(page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not re.match(r"[a-z]+:", link) and not (target.exists() and (not anchor or anchor in anchors(target))):
            gone.append(link)
    assert gone == []


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_no_page_of_the_site_links_out_of_it(page):
    outside = [link for link in links(page.read_text(encoding="utf-8")) if link.startswith("../")]
    assert outside == [], "the site holds docs/ alone: name the file instead"


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_a_page_has_one_title_and_no_two_headings_of_one_name(page):
    lines = list(prose(page.read_text(encoding="utf-8")))
    assert sum(line.startswith("# ") for line in lines) == 1
    slugs = [on_a_code_host(one) for one in headings("\n".join(lines))]
    assert len(slugs) == len(set(slugs))


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_lists_and_tables_stand_behind_a_blank_line(page):
    """A code host shows them without one, too; the site takes them for text."""
    text, glued = page.read_text(encoding="utf-8").splitlines(), []
    for before, line in zip(text, prose("\n".join(text[1:])), strict=False):
        starts = FENCED_OR_LISTED.match(line) and not FENCED_OR_LISTED.match(before)
        if starts and before.strip() and not before.startswith(("#", "  ")):
            glued.append(line)
    assert glued == []


def nav(entries):
    """The pages of a navigation, in its order."""
    for entry in entries:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from nav(value)


def test_the_navigation_leads_to_every_page_once():
    pages = list(nav(SITE["nav"]))
    assert pages[0] == "index.md"
    assert sorted(pages) == [page.name for page in PAGES], (
        "zensical.toml lists the pages: put a new one where it belongs"
    )


def test_the_theme_asks_nobody():
    theme = "".join(path.read_text(encoding="utf-8") for path in (ROOT / SITE["theme"]["custom_dir"]).rglob("*.*"))
    assert SITE["theme"]["font"] is False and "://" not in theme
    assert not {"extra_css", "extra_javascript", "site_url", "repo_url"} & set(SITE) and "analytics" not in str(SITE)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site, built as strictly as the generator can."""
    pytest.importorskip("zensical", reason="the extra `docs` is not installed")
    place = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "zensical.toml", place)
    shutil.copytree(DOCS, place / "docs")
    shutil.copytree(ROOT / "theme", place / "theme")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "site"


def test_the_site_has_every_page(built):
    assert {page.stem for page in PAGES} <= {path.stem for path in built.glob("*.html")}


def test_no_page_of_the_site_fetches_anything(built):
    asked = [
        (path.name, found[0]) for path in built.rglob("*.html") if (found := FETCHED.search(path.read_text("utf-8")))
    ]
    assert asked == []
    assert [path.name for path in built.rglob("*.css") if STYLED.search(path.read_text("utf-8"))] == []


def test_the_search_knows_every_page_without_a_server(built):
    index = (built / "search.js").read_text(encoding="utf-8")
    assert index.startswith("var __index =")
    assert [page.name for page in PAGES if f'"{page.stem}.html' not in index and page.stem != "index"] == []
    assert "assets/frame_worker.js" in (built / "index.html").read_text(encoding="utf-8")
    assert (built / "assets" / "frame_worker.js").is_file()


def test_links_of_the_site_lead_to_anchors_that_are_there(built):
    held = {path.name: set(re.findall(r'\bid="([^"]+)"', path.read_text("utf-8"))) for path in built.glob("*.html")}
    gone = []
    for page in PAGES:
        for link in links(page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            if anchor and "://" not in link:
                target = Path(name or page.name).with_suffix(".html").name
                gone += [(page.name, link)] if anchor not in held[target] else []
    assert gone == []
