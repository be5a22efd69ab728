"""Records the screens in docs/screens as SVG: `python tests/screens.py RUN_FOLDER` (--live: with the engine, a minute).

RUN_FOLDER is a finished run of a classification task; it is copied and never changed. The review, the doctor and the
run half way are the real program in a pseudo-terminal; what `run` leaves on the screen at its end is drawn anew from
the folder, by the same code.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyte.graphics
from rich.console import Console, Group, RenderableType
from rich.text import Text
from terminal import Terminal

from sg_local.console.live import LiveNarrator
from sg_local.console.verdict import verdict
from sg_local.run import STAGES, Run
from sg_local.views.verdict import verdict_card

SCREENS = Path(__file__).parent.parent / "docs" / "screens"
WIDTH = 100
COLOURS = {"brown": "yellow", "default": "default", "brightbrown": "bright_yellow"}
WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def svg(what: RenderableType, width: int, title: str) -> str:
    """A renderable as SVG text by Rich's recorder; without the fonts that it would fetch from the network."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=width, file=nowhere, highlight=False, force_terminal=True)
        console.print(what)
    return WEB_FONT.sub("", console.export_svg(title=title, unique_id=re.sub(r"\W", "-", title)))


def picture(terminal: Terminal) -> Text:
    """What the terminal shows, with its colours."""
    rows = [terminal.screen.buffer[y] for y in range(terminal.screen.lines)]
    lines = [_line([row[x] for x in range(terminal.screen.columns)]) for row in rows]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return Text("\n").join(lines)


def _line(cells: list[pyte.screens.Char]) -> Text:
    line = Text(no_wrap=True)
    for style, run in itertools.groupby(cells, key=_style):
        line.append("".join(cell.data for cell in run), style)
    return line


def _style(cell: pyte.screens.Char) -> str:
    colour = COLOURS.get(cell.fg, cell.fg.replace("bright", "bright_"))
    looks = {"bold": cell.bold, "italic": cell.italics, "underline": cell.underscore, "reverse": cell.reverse}
    looks["dim"] = cell.strikethrough  # see `dim_is_kept`
    return " ".join([*(name for name, on in looks.items() if on), colour])


def dim_is_kept() -> None:
    """Let pyte, which knows no dim text, keep it as struck through, which we do not use."""
    pyte.graphics.TEXT[2] = "+strikethrough"


def review(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """A doubtful card after some judgements, and a threshold in play."""
    terminal = Terminal(["review", name], folder, (WIDTH, 28), SG_LOCAL_HOME=str(folder / "home"))
    terminal.wait("○ #")
    terminal.press("aar1ooo")
    terminal.wait("nearest duplicates first")
    terminal.press("  ")
    terminal.wait("3 of")
    terminal.settle()
    yield "review", svg(picture(terminal), WIDTH, f"sg-local review {name}")
    terminal.press("t\x1b[B\x1b[B\x1b[B\x1b[D\x1b[D")
    terminal.wait("0.6  was 0.7", "leave as it was")
    terminal.settle()
    yield "thresholds", svg(picture(terminal), WIDTH, "sg-local review: thresholds")
    terminal.press("\x1bq")
    assert terminal.end() == 0


def doctor() -> Iterator[tuple[str, str]]:
    """The doctor, in a home folder of which the Python environment is a part, so that its paths say nothing more."""
    home = Path(sys.prefix).parent
    terminal = Terminal(["doctor"], home, (WIDTH, 40), HOME=str(home), XDG_CONFIG_HOME="", XDG_CACHE_HOME="")
    terminal.wait("The main job")
    terminal.end()
    yield "doctor", svg(picture(terminal), WIDTH, "sg-local doctor")


def finished(run: Run) -> Iterator[tuple[str, str]]:
    """What a run leaves on the screen: its stages and the verdict; and the verdict alone."""
    narrator = LiveNarrator(STAGES, run.name)
    for stage in STAGES:
        stamp = run.stamp(stage)
        if stamp is not None and stage != "review":
            narrator.end(stage, stamp.get("seconds", 0.0), stamp.get("note", ""))
    card = verdict(verdict_card(run), WIDTH)
    line = Text.assemble(("$ ", "green"), f"sg-local run {run.settings['task']['name']} --yes")
    yield "run", svg(Group(line, narrator.list(), card), WIDTH, "sg-local run")
    yield "verdict", svg(card, WIDTH, "sg-local eval")


def half_way(folder: Path, task: str) -> Iterator[tuple[str, str]]:
    """A run while it writes its pairs."""
    terminal = Terminal(["run", task, "--yes", "--name", "half-way"], folder, (WIDTH, 26))
    terminal.until(lambda text: re.search(r"[4-6]\d% +│", text) and text.rstrip().endswith("╯"), "half of the rows")
    yield "half_way", svg(picture(terminal), WIDTH, f"sg-local run {task} --yes")
    terminal.press("\x03")
    terminal.end()


def main() -> None:
    """Write the screens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run's folder")
    parser.add_argument("--live", action="store_true", help="also record a run half way, with the engine")
    asked = parser.parse_args()
    dim_is_kept()
    SCREENS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = Run(folder / "runs" / asked.run.name)
        shutil.copytree(asked.run, run.root)
        os.chdir(folder)
        shown = Run(run.root.relative_to(folder))
        made = [finished(shown), review(folder, run.name), doctor()]
        made += [half_way(folder, run.settings["task"]["name"])] if asked.live else []
        for name, text in itertools.chain(*made):
            (SCREENS / f"{name}.svg").write_text(text, encoding="utf-8")
            print(f"{name}.svg  {len(text.encode()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
