"""The first run as a moving picture: docs/screens/session.svg, drawn from the recording tests/data/session.cast.

    python tests/session.py           draw the picture from the recording
    python tests/session.py --take    record first: the README's run and one question to its model, for real

The recording is what a terminal showed, about once a second, with the real times (asciicast v2: `asciinema play` shows
it). The picture plays it evenly faster, and says so, with the real clock above. It fetches nothing and has no script.
"""

from __future__ import annotations

import argparse
import dataclasses
import html
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte
import screens
from terminal import Terminal

from sg_local.words import counted

ROOT = Path(__file__).parent.parent
CAST = Path(__file__).parent / "data" / "session.cast"
PICTURE = screens.SCREENS / "session.svg"
LINES = (
    ("run", "tasks/support_routing.toml", "--yes"),
    ("predict", "support", "My parcel never came."),
)
COLUMNS, ROWS = 100, 42
EVERY_S = 1.0  # between two looks at the screen
N_FRAMES = 140
LONGEST_S = 3600.0
PLAYED_S, HELD_S = 22.0, 7.0  # how long the picture plays, and holds the end of each command
CELL, LINE = 8.4, 18.0  # pixels
MARGIN, BAR = 12.0, 40.0
COLOURS = {
    "black": "#4b4e55", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "blue": "#61afef",
    "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#d7dae0", "default": "#c8ccd4",
    "brightblack": "#7f848e", "brightred": "#f07178", "brightgreen": "#b5e08f", "brightbrown": "#ffd68a",
    "brightblue": "#82c4ff", "brightmagenta": "#dc9aef", "brightcyan": "#7fdbe6", "brightwhite": "#ffffff",
}  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """What the terminal showed at a time in seconds: of each line its runs of one style, (style, text).

    `is_end` says that a command was over then.
    """

    time_s: float
    lines: tuple[tuple[tuple[str, str], ...], ...]
    is_end: bool = False


def runs(screen: pyte.Screen) -> tuple[tuple[tuple[str, str], ...], ...]:
    """The lines of a screen as runs of one style; blanks at the end of a line are left out."""
    found = []
    for y in range(screen.lines):
        cells = [screen.buffer[y][x] for x in range(screen.columns)]
        while cells and cells[-1].data == " " and not cells[-1].reverse:
            cells.pop()
        groups = itertools.groupby(cells, key=style)
        found.append(tuple((look, "".join(cell.data for cell in group)) for look, group in groups))
    return tuple(found)


def style(cell: pyte.screens.Char) -> str:
    """A cell's looks as words: bold, dim, italic, reverse, and its colour."""
    looks = {"bold": cell.bold, "dim": cell.strikethrough, "italic": cell.italics, "reverse": cell.reverse}
    return " ".join([*(name for name, on in looks.items() if on), cell.fg])


# Recording


def take(folder: Path) -> str:
    """Run the commands in an empty folder; the recording as text."""
    shutil.copytree(ROOT / "tasks", folder / "tasks")
    machine = {"cores": os.cpu_count() or 1, "load": round(os.getloadavg()[0], 1)}
    return as_cast(thinned(list(watched(folder))), machine)


def watched(folder: Path) -> Iterator[Frame]:
    """What the commands showed, about once a second and where one is over."""
    screen, began = pyte.Screen(COLUMNS, ROWS), time.monotonic()
    for line in LINES:
        words = " ".join(f"'{word}'" if " " in word else word for word in line)
        pyte.Stream(screen).feed(f"\x1b[1;32m$\x1b[0m \x1b[1msg-local {words}\x1b[0m\r\n")
        for is_end in looks(line, folder, screen):
            yield Frame(time.monotonic() - began, runs(screen), is_end)


def thinned(shown: Sequence[Frame]) -> list[Frame]:
    """At most about N_FRAMES of the frames, evenly in time; the first one, ends and what follows an end stay."""
    apart_s, found = shown[-1].time_s / N_FRAMES, list(shown[:1])
    for before, frame in itertools.pairwise(shown):
        if frame.is_end or before.is_end or frame.time_s - found[-1].time_s >= apart_s:
            found.append(frame)
    return found


def as_cast(shown: Sequence[Frame], machine: Mapping[str, float]) -> str:
    """Frames as asciicast v2: a repaint (`o`) for each, and a mark (`m`) where a command is over.

    `machine` has its processor `cores`, and the `load` (processes that wanted one) before the run.
    """
    head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "sg-local, the first run", **machine}
    blank = Frame(0.0, ((),) * ROWS)
    lines = [json.dumps(head)]
    for before, frame in itertools.pairwise([blank, *shown]):
        when = round(frame.time_s, 2)
        lines.append(json.dumps([when, "o", repaint(before.lines, frame.lines)], ensure_ascii=False))
        lines += [json.dumps([when, "m", "end"])] if frame.is_end else []
    return "\n".join(lines) + "\n"


def looks(line: Sequence[str], folder: Path, screen: pyte.Screen) -> Iterator[bool]:
    """The moments at which the screen is to be looked at; True for the last one, when the command is over."""
    yield False
    terminal = Terminal(line, folder, (COLUMNS, ROWS), SG_LOCAL_HOME=str(folder / "home"))
    terminal.stream = pyte.ByteStream(screen)
    began = last = time.monotonic()
    while terminal._read():
        now = time.monotonic()
        assert now - began < LONGEST_S, "\n".join(screen.display)
        if now - last >= EVERY_S:
            last = now
            yield False
    assert terminal.end() == 0, "\n".join(screen.display)
    yield True


def repaint(before: Sequence[Sequence[tuple[str, str]]], now: Sequence[Sequence[tuple[str, str]]]) -> str:
    """What a terminal is sent to show the one after the other."""
    parts = []
    for y, (old, new) in enumerate(zip(before, now, strict=True)):
        if old != new:
            parts.append(f"\x1b[{y + 1}H" + "".join(f"{sgr(look)}{text}" for look, text in new) + "\x1b[0m\x1b[K")
    return "".join(parts)


def sgr(look: str) -> str:
    """The control sequence of a style; dim is kept as struck through, as `screens.dim_is_kept` has it."""
    *marks, colour = look.split()
    codes = [{"bold": "1", "dim": "2", "italic": "3", "reverse": "7"}[mark] for mark in marks]
    named = {name: code for code, name in (pyte.graphics.FG | pyte.graphics.FG_AIXTERM).items()}
    if colour in named:
        codes.append(str(named[colour]))
    else:
        codes += ["38", "2", *(str(int(colour[i : i + 2], 16)) for i in (0, 2, 4))]
    return f"\x1b[0;{';'.join(codes)}m"


# Drawing


def frames(cast: str) -> list[Frame]:
    """The frames of a recording."""
    head, *events = map(json.loads, cast.splitlines())
    screen = pyte.Screen(head["width"], head["height"])
    stream, found = pyte.Stream(screen), []
    for when, kind, text in events:
        if kind == "m":
            found[-1] = dataclasses.replace(found[-1], is_end=True)
        else:
            stream.feed(text)
            found.append(Frame(when, runs(screen)))
    return found


def played(shown: Sequence[Frame], speed: int) -> tuple[list[float], float]:
    """When each frame comes on in the picture, and how long all of it takes: seconds. Ends of commands are held."""
    waited, starts = 0.0, []
    for frame in shown:
        starts.append(frame.time_s / speed + waited)
        waited += HELD_S if frame.is_end else 0.0
    return starts, starts[-1] + HELD_S


def picture(cast: str) -> str:
    """A recording as an animated SVG."""
    shown, head = frames(cast), json.loads(cast.partition("\n")[0])
    whole_s = shown[-1].time_s
    speed = max(1, round(whole_s / PLAYED_S))
    width, height = COLUMNS * CELL + 2 * MARGIN, ROWS * LINE + BAR + 2 * MARGIN
    told = caption(head, whole_s, speed)
    ids = {line: f"l{n}" for n, line in enumerate(dict.fromkeys(line for frame in shown for line in frame.lines))}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{told}">',
        f"<title>The first run of sg-local</title><desc>{told}</desc>",
        f"<style>{css(*played(shown, speed), width)}</style>",
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#21252b"/><defs>',
        *(f'<g id="{name}">{drawn(line)}</g>' for line, name in ids.items() if line),
        f'</defs><text class="t" x="{MARGIN:g}" y="26">{told}</text>',
        f'<svg x="{MARGIN:g}" width="{width - 2 * MARGIN:g}" height="{height:g}"><g class="film">',
        *(one_frame(frame, n * width, ids, width - 2 * MARGIN) for n, frame in enumerate(shown)),
        "</g></svg></svg>",
    ]
    return "\n".join(parts) + "\n"


def caption(machine: Mapping[str, float], whole_s: float, speed: int) -> str:
    """What the picture says of itself."""
    kind = "busy core" if machine["load"] > machine["cores"] / 2 else "core"
    cores = counted(int(machine["cores"]), kind)
    return f"A real run of {clock(whole_s)} min on {cores}, shown {speed} times as fast; ends are held."


def css(times_s: Sequence[float], whole_s: float, width: float) -> str:
    """The looks, and the film that is moved on by one frame at each of the times."""
    steps = "".join(
        f"{100 * t / whole_s:.2f}%{{transform:translateX({-n * width:g}px)}}" for n, t in enumerate(times_s)
    )
    last = f"translateX({-(len(times_s) - 1) * width:g}px)"
    return (
        "text{font:14px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre;fill:#c8ccd4}"
        ".b{font-weight:bold}.d{opacity:.6}.i{font-style:italic}.t{fill:#9aa0ac}.c{fill:#98c379;text-anchor:end}"
        f".film{{transform:{last};animation:play {whole_s:.1f}s step-end infinite}}"
        f"@keyframes play{{{steps}100%{{transform:{last}}}}}"
        "@media (prefers-reduced-motion:reduce){.film{animation:none}}"
    )


def one_frame(frame: Frame, left: float, ids: dict[tuple[tuple[str, str], ...], str], width: float) -> str:
    """A frame of the film: its lines by reference, and its time on the clock."""
    uses = (f'<use href="#{ids[line]}" y="{BAR + MARGIN + y * LINE:g}"/>' for y, line in enumerate(frame.lines) if line)
    time_text = f'<text class="c" x="{width:g}" y="26">{clock(frame.time_s)}</text>'
    return f'<g transform="translate({left:g})">{"".join(uses)}{time_text}</g>'


def drawn(line: Iterable[tuple[str, str]]) -> str:
    """A line's runs, each as wide as its cells whatever the font."""
    column, parts = 0, []
    for look, text in line:
        if text.strip() or "reverse" in look:
            parts.append(run_text(look, text, column))
        column += len(text)
    return "".join(parts)


def run_text(look: str, text: str, column: int) -> str:
    *marks, name = look.split()
    colour = COLOURS.get(name, f"#{name}")
    classes = " ".join(mark[0] for mark in marks if mark != "reverse")
    attributes = f' class="{classes}"' if classes else ""
    box = ""
    if "reverse" in marks:
        place = f'x="{column * CELL:.1f}" y="{4 - LINE:g}" width="{len(text) * CELL:.1f}" height="{LINE:g}"'
        box, colour = f'<rect {place} fill="{colour}"/>', "#21252b"
    if colour != COLOURS["default"]:
        attributes += f' style="fill:{colour}"'
    lead = len(text) - len(text.lstrip(" "))
    words = text.strip(" ") if not box else text
    start = column + (lead if not box else 0)
    said = html.escape(words, quote=False).replace(" ", "\u00a0")
    return f'{box}<text x="{start * CELL:.1f}" textLength="{len(words) * CELL:.1f}"{attributes}>{said}</text>'


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def main() -> None:
    """Draw the picture, of a new recording if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", action="store_true", help="record the run first, which takes some minutes")
    screens.dim_is_kept()
    if parser.parse_args().take:
        with tempfile.TemporaryDirectory() as place:
            CAST.write_text(take(Path(place)), encoding="utf-8")
    PICTURE.write_text(picture(CAST.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PICTURE.name}  {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
