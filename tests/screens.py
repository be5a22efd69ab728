"""The screens in docs/screens, drawn as SVG from the data in tests/data/screens: a finished run, a doctor's findings.

    python tests/screens.py                    draw all of them anew, after a change of words or layout
    python tests/screens.py --take RUN_FOLDER  take a finished run of a classification task as the data first, and what
                                               the doctor finds here

The data is of one finished run of the README's first command.
The review is the real program in a pseudo-terminal; the others are drawn by the code that draws them in the program.
tests/test_screens.py draws every screen again and compares its text with what is recorded.
"""

from __future__ import annotations

import argparse
import dataclasses
import html
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyte.graphics
from click.testing import CliRunner
from rich.console import Console, Group, RenderableType
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text
from terminal import Terminal

from sg_local.cli.app import app
from sg_local.cli.doctor import OLD_FIX, verdict_of, views_of
from sg_local.cli.narration import listener
from sg_local.console import cards
from sg_local.console.live import LiveNarrator
from sg_local.console.verdict import verdict
from sg_local.doctor import Finding
from sg_local.job.events import Began, Moved, Said
from sg_local.job.synth import tell_engine
from sg_local.records import InputRow, Task, from_dict
from sg_local.run import CANDIDATES, INPUTS, REPORT, RUN, STAGES, VERDICTS, Run, read_json
from sg_local.synth import SynthSettings
from sg_local.synth.inputs import _input_event
from sg_local.views.verdict import artefacts, verdict_card

SCREENS = Path(__file__).parent.parent / "docs" / "screens"
DATA = Path(__file__).parent / "data" / "screens"
FILES, DOCTOR = "files.json", "doctor.json"
WIDTH = 100
HALF_WAY, HALF_WAY_S = 93, 15.0  # inputs asked for, and seconds gone, when the running stage is shown
COLOURS = {"brown": "yellow", "default": "default", "brightbrown": "bright_yellow"}
TEXT = re.compile(r'<text class="[^"]*-r\d+" x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"[^>]*>(.*?)</text>')
WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def svg(what: RenderableType, width: int, title: str, theme: TerminalTheme = SVG_EXPORT_THEME) -> str:
    """A renderable as SVG text by Rich's recorder; without the fonts that it would fetch from the network."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=width, file=nowhere, highlight=False, force_terminal=True)
        console.print(what)
    return WEB_FONT.sub("", console.export_svg(title=title, theme=theme, unique_id=re.sub(r"\W", "-", title)))


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


def cells(text: str) -> list[str]:
    """The lines of an SVG as a terminal would show them: characters by their place, without colours and fonts."""
    rows: dict[float, str] = {}
    for x, y, length, escaped in sorted(TEXT.findall(text), key=lambda part: (float(part[1]), float(part[0]))):
        words = html.unescape(escaped).replace("\xa0", " ")
        column = round(float(x) * len(words) / float(length))
        rows[float(y)] = rows.get(float(y), "").ljust(column) + words
    return [line.rstrip() for line in rows.values()]


def review(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """A doubtful card after some judgements, and a threshold in play."""
    terminal = Terminal(["review", name], folder, (WIDTH, 28), SG_LOCAL_HOME=str(folder / "home"))
    terminal.wait("○ #")
    terminal.press("aar1ooo")
    terminal.wait("nearest duplicates first")
    terminal.press("    ")
    terminal.wait("5 of")
    terminal.settle()
    yield from on_both("review", picture(terminal), f"sg-local review {name}")
    terminal.press("t\x1b[B\x1b[B\x1b[B\x1b[D\x1b[D")
    terminal.wait("0.6  was 0.7", "goes out", "leave as it was", gone="Counting the rows")
    terminal.settle()
    yield from on_both("thresholds", picture(terminal), "sg-local review: thresholds")
    terminal.press("\x1bq")
    assert terminal.end() == 0


def on_both(name: str, what: Text, title: str) -> Iterator[tuple[str, str]]:
    """The same screen in a dark and in a light terminal."""
    yield name, svg(what, WIDTH, title)
    yield f"{name}_light", svg(what, WIDTH, title, DEFAULT_TERMINAL_THEME)


def doctor() -> Iterator[tuple[str, str]]:
    """The doctor's findings."""
    checks = [from_dict(Finding, row) for row in json.loads((DATA / DOCTOR).read_text())]
    yield "doctor", svg(cards.doctor(views_of(checks), verdict_of(checks), WIDTH), WIDTH, "sg-local doctor")


def finished(run: Run) -> Iterator[tuple[str, str]]:
    """What a run leaves on the screen: its stages and the verdict; and the verdict alone."""
    narrator = LiveNarrator(STAGES, run.name)
    for stage in STAGES:
        stamp = run.stamp(stage)
        if stamp is not None and stage != "review":
            narrator.end(stage, stamp.get("seconds", 0.0), stamp.get("note", ""))
    files = tuple((str(run.path(name)), size, digest) for name, size, digest in json.loads(run.path(FILES).read_text()))
    card = verdict(dataclasses.replace(verdict_card(run), artefacts=files), WIDTH)
    line = Text.assemble(("$ ", "green"), f"sg-local run {run.settings['task']['name']} --yes")
    yield "run", svg(Group(line, narrator.list(), card), WIDTH, "sg-local run")
    yield "verdict", svg(card, WIDTH, "sg-local eval")


def half_way(run: Run) -> Iterator[tuple[str, str]]:
    """The same run while it wrote its inputs, told by its own rows."""
    task, now = from_dict(Task, run.settings["task"]), [0.0]
    narrator = LiveNarrator([stage for stage in STAGES if stage != "review"], run.name, lambda: now[0])
    narrator.console = Console(width=WIDTH, height=26)
    tell = listener(narrator)
    tell(Began("synth"))
    rows = run.read(INPUTS, InputRow)[:HALF_WAY]
    job = SimpleNamespace(task=task, settings=SynthSettings())
    for shown, now[0] in ((rows[:1], 0.0), (rows, HALF_WAY_S)):
        tell(Moved("synth", _input_event(job, shown)))
    what = Group(*engine_lines(), narrator.view())
    yield "half_way", svg(what, WIDTH, f"sg-local run {task.name} --yes")


def engine_lines() -> list[Text]:
    """What a run says of its engine."""
    choice = SimpleNamespace(format="BF16", n_parallel=32, n_threads=2, path="copy.gguf")
    job = SimpleNamespace(generator=SimpleNamespace(choice=choice), base=SimpleNamespace(path="given.gguf"))
    said: list[Said] = []
    tell_engine(job, said.append)
    return [Text(one.text) for one in said]


def fixed(folder: Path) -> Run:
    """The data's run, copied below `folder`, under the path that it has seen from there."""
    name = next(path.name for path in DATA.iterdir() if path.is_dir())
    shutil.copytree(DATA / name, folder / "runs" / name)
    return Run(Path("runs") / name)


def drawn(folder: Path) -> dict[str, str]:
    """Every screen as SVG text. `folder` is the working folder, and empty."""
    run = fixed(folder)
    return dict(itertools.chain(finished(run), half_way(run), doctor(), review(folder, run.name)))


def take(folder: Path) -> None:
    """Make a finished run the data: what the screens read of it, without a path of this machine."""
    run = Run(folder)
    shutil.rmtree(DATA, ignore_errors=True)
    kept = Run(DATA / run.name)
    (DATA / run.name / "stages").mkdir(parents=True)
    for path in (*map(run.path, (INPUTS, CANDIDATES, VERDICTS)), *(folder / "stages").glob("*.json")):
        shutil.copy(path, kept.root / path.relative_to(folder))
    settings, report = run.settings, read_json(run.path(REPORT))
    settings["model"]["path"] = Path(settings["model"]["path"]).name
    kept.write_json(RUN, settings)
    kept.write_json(REPORT, {**report, "rows": []})
    kept.write_json(FILES, [(Path(path).name, size, digest) for path, size, digest in artefacts(run)])
    home = str(Path(sys.prefix).parent)
    checks = CliRunner().invoke(app, ["doctor", "--json"], env={"HOME": home, "SG_LOCAL_HOME": ""}).stdout
    found = json.loads(checks.replace(str(Path.cwd()), "~").replace(home, "~"))
    Run(DATA).write_json(DOCTOR, [{name: row[name] for name in row if name != OLD_FIX} for row in found])


def main() -> None:
    """Write the screens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", type=Path, metavar="RUN_FOLDER", help="a finished run's folder to take as the data")
    asked = parser.parse_args()
    if asked.take is not None:
        take(asked.take)
    dim_is_kept()
    SCREENS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        for name, text in drawn(Path(place)).items():
            (SCREENS / f"{name}.svg").write_text(text, encoding="utf-8")
            print(f"{name}.svg  {len(text.encode()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
