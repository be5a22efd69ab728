"""The live view of a run on a terminal: the list of stages, and a panel for the one at work."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from sg_local.console.cards import N_LIVE_RULES, TITLE, WIDTH, bar, flow, stderr
from sg_local.console.text import Text, flowing
from sg_local.views.pace import Pace, rate_words
from sg_local.views.records import Progress

MARKS = {
    "waiting": ("\u00b7", "dim"),
    "running": ("\u25b8", "cyan"),
    "done": ("\u2714", "green"),
    "skipped": ("\u2714", "dim"),
}
SPINNER = "\u280b\u2819\u2839\u2838\u283c\u2834\u2826\u2827\u2807\u280f"
TURNS_A_SECOND = 8
N_LATEST = 3
TALL = 30  # lines; below it a rule of the funnel shows one example, so that 24 lines hold all
LOW = 24  # lines; below it one row that was written and one rule less are shown, so that 20 lines hold all
BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"  # from an eighth to a whole


@contextlib.contextmanager
def turning(what: str) -> Iterator[None]:
    """One line that turns, with the seconds so far, while something is waited for; it leaves nothing behind."""
    began = time.monotonic()

    def line() -> Text:
        seconds = time.monotonic() - began
        return Text(f"{_turn(seconds)} {what}\u2026" + (f" {clock(seconds)}" if seconds >= 1 else ""), "dim")

    live = Live(get_renderable=line, console=stderr(), refresh_per_second=TURNS_A_SECOND, transient=True)
    live.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            live.stop()


def _turn(seconds: float) -> str:
    return SPINNER[int(TURNS_A_SECOND * seconds) % len(SPINNER)]


@dataclass
class StageLine:
    """One stage in the list."""

    state: str = "waiting"
    seconds: float = 0.0
    note: str = ""


class LiveNarrator:
    """Shows what a job does while it does it; what is left on the screen afterwards is the list of stages."""

    def __init__(self, stages: Sequence[str], title: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self.console = stderr()
        self.title = title
        self.now_s = now_s
        self.lines = {stage: StageLine() for stage in stages}
        self.now: Progress | None = None
        self.waiting = ""
        self.stage_began = now_s()
        self.pace = Pace(now_s)
        self.live = Live(get_renderable=self.view, console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.now = None
        with contextlib.suppress(OSError):  # the terminal may be gone: how the job ended counts
            self.live.stop()
            if any(line.state != "waiting" for line in self.lines.values()):
                self.console.print(self.list())

    def begin(self, stage: str) -> None:
        self.lines.setdefault(stage, StageLine()).state = "running"
        self.now, self.waiting, self.stage_began = None, "", self.now_s()

    def wait(self, what: str) -> None:
        self.now, self.waiting = None, what

    def progress(self, now: Progress) -> None:
        if self.now is None or now.phase != self.now.phase:
            self.pace.begin(now.done)
        self.pace.take(now.done)
        self.now = now

    def end(self, stage: str, seconds: float, note: str) -> None:
        self.lines[stage] = StageLine("done", seconds, note)
        self.now = None

    def skip(self, stage: str, note: str) -> None:
        self.lines[stage] = StageLine("skipped", 0.0, note)

    def say(self, text: str) -> None:
        self.console.print(Text(text))

    def list(self) -> RenderableType:
        """The stages that were begun: what is left on the screen."""
        return self._list([stage for stage, line in self.lines.items() if line.state != "waiting"])

    def view(self) -> RenderableType:
        """What is shown at this moment."""
        parts: list[RenderableType] = [Text(self.title, "bold"), self._list(tuple(self.lines))]
        running = next((stage for stage, line in self.lines.items() if line.state == "running"), None)
        if running is not None:
            width = min(self.console.width, WIDTH)
            parts.append(
                Panel(
                    self._panel(width - 4),
                    title=Text(running, TITLE),
                    title_align="left",
                    border_style="cyan",
                    width=width,
                )
            )
        return Group(*parts)

    def _list(self, stages: Sequence[str]) -> Table:
        """The stages with their times and, in the room that these leave, what came out."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        clocks = {stage: self._clock(self.lines[stage]) for stage in stages}
        room = self.console.width - 7 - max(map(len, stages), default=0) - max(map(len, clocks.values()), default=0)
        for stage in stages:
            line = self.lines[stage]
            mark, style = MARKS[line.state]
            words = "dim" if style == "dim" else "bold" if line.state == "running" else ""
            note = Text(line.note, "dim")
            note.truncate(max(0, room), overflow="ellipsis")
            table.add_row(Text.assemble((f" {mark} ", style), (stage, words)), Text(clocks[stage], words), note)
        return table

    def _clock(self, line: StageLine) -> str:
        """How long a stage took, or has taken so far."""
        seconds = self.now_s() - self.stage_began if line.state == "running" else line.seconds
        return clock(seconds) if line.state in ("running", "done") else ""

    def _panel(self, width: int) -> RenderableType:
        if self.now is None:
            return Text(f"{_turn(self.now_s() - self.stage_began)} {self.waiting or 'starting'}\u2026", "dim")
        now = self.now
        head = Text(f"{now.phase}  ", "bold")
        if now.unit == "bytes":
            head.append(f"{now.done / 1e6:,.0f} of {now.wanted / 1e6:,.0f} MB")
        elif now.wanted:
            head.append(f"{now.done:,} of {now.wanted:,} {now.unit}")
        parts: list[RenderableType] = [head]
        parts += [_track(min(1.0, now.done / now.wanted), width)] if now.wanted else []
        parts += flowing(self._figures(now), width)
        longest = max((len(name) for name, _ in now.curves), default=0)
        parts += [_curve(name.ljust(longest), values, width) for name, values in now.curves]
        low = self.console.height < LOW
        if now.latest:
            parts.append(Text(""))
            parts += [_preview(text, width) for text in now.latest[-(1 if low else N_LATEST) :]]
        if now.funnel is not None:
            n_examples, n_rules = 1 if self.console.height < TALL else 2, N_LIVE_RULES - low
            parts += [Text(""), flow(now.funnel, width, n_examples, n_rules)]
        return Group(*parts)

    def _figures(self, now: Progress) -> Iterator[Text]:
        """Pace, time left and the stage's own figures: each whole, however narrow the window is."""
        left = self.pace.left_s(now.wanted)
        figures = [
            rate_words(self.pace.rate, now.unit),
            "" if left is None else f"{clock(left)} left",
            *(f"{name} {value}" for name, value in now.facts.items()),
        ]
        return (Text(figure, "dim") for figure in figures if figure)


def _track(share: float, width: int) -> Text:
    """A bar with its percentage, on a dim track."""
    room = max(10, width - 6)
    text = bar(share, room, "cyan")
    text.append("\u2500" * (room - text.cell_len), "dim")
    text.append(f" {share:4.0%}")
    return text


def _curve(name: str, values: Sequence[float], width: int) -> Text:
    """Figures over time as one line of blocks between their least and their most, which stand behind it."""
    ends = f"{values[0]:.3f} \u2192 {values[-1]:.3f}"
    room = max(8, width - len(name) - len(ends) - 4)
    text = Text(f"{name}  ", "dim", no_wrap=True, overflow="ellipsis")
    text.append(sparkline(values, room), "cyan")
    return text.append(f"  {ends}", "dim")


def sparkline(values: Sequence[float], width: int) -> str:
    """At most `width` blocks; where there are more figures, each block is the mean of its share of them."""
    n = min(len(values), width)
    edges = [i * len(values) // n for i in range(n + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    heights = [round(7 * (mean - low) / (high - low)) if high > low else 0 for mean in means]
    return "".join(BLOCKS[height] for height in heights)


def _preview(text: str, width: int) -> Text:
    line = Text("\u203a " + " ".join(text.split()), no_wrap=True, overflow="ellipsis")
    line.truncate(width, overflow="ellipsis")
    return line


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
