"""Markdown as readers meet it: headings with their anchors, links, and what no text is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PAPERS = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")] + PAGES

FENCE = re.compile(r"^(?:```|~~~)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`]*`")


def prose(text: str) -> Iterator[str]:
    """The lines that are text: not those of fenced blocks; of these an empty line stands for each."""
    fenced = False
    for line in text.splitlines():
        is_fence = FENCE.match(line) is not None
        yield "" if fenced or is_fence else line
        fenced ^= is_fence


def headings(text: str) -> list[str]:
    return [line.lstrip("#").strip() for line in prose(text) if re.match(r"#{1,6} ", line)]


def links(text: str) -> list[str]:
    """Where the links and pictures of a page lead."""
    return [target for line in prose(text) for target in LINK.findall(CODE.sub("", line))]


def on_a_code_host(heading: str) -> str:
    """A heading's anchor as GitHub and its kin make it: letters in lower case, a hyphen for each blank."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def on_the_site(heading: str) -> str:
    """A heading's anchor as Python-Markdown makes it: ASCII, and one hyphen for blanks and hyphens in a row."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def anchors(path: Path) -> set[str]:
    """The anchors of a page that lead to the same heading on a code host and on the site."""
    titles = headings(path.read_text(encoding="utf-8"))
    return {on_the_site(one) for one in titles} & {on_a_code_host(one) for one in titles}
