"""A run's report: its records, its file report.json, and one HTML page.

The page needs nothing else: no network, no script, no font; it fits a telephone and five sheets, light or dark. It is
made from report.json, the journals and the stamps and computes no new figure. All text from models and tasks is
escaped, and the page's own policy forbids every load; what no document may hold stands there as a mark. Drawings are
inline SVG (sg_local.report.figure, sg_local.report.charts).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sg_local.files import write_text
from sg_local.report.file import plain, read_report, write_report
from sg_local.report.records import FileScore, Gain, Outcome, Report, ScoredRow, SystemResult
from sg_local.run import Run
from sg_local.words import shown

__all__ = [
    "FileScore",
    "Gain",
    "Outcome",
    "Report",
    "ScoredRow",
    "SystemResult",
    "plain",
    "read_report",
    "render",
    "write_page",
    "write_report",
]


def write_page(run: Run, path: Path, notice: str = "") -> Path:
    """Write the page; the run is only read. Raises SgError where it was not evaluated yet."""
    write_text(path, render(run, notice))
    return path


def render(run: Run, notice: str = "") -> str:
    """The page's HTML; the notice stands above all else, for what a reader must know before the figures."""
    import jinja2

    from sg_local.report.facts import gather

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_plain_text,
    )
    environment.filters["numbered"] = lambda name: (name, "number")
    return environment.get_template("page.html").render(gather(run), notice=notice)


def _plain_text(value: Any) -> Any:
    """A text of the data without what a document cannot hold or what turns its lines around; others as they are."""
    return shown(value) if type(value) is str else value
