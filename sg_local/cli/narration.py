"""Narration on stderr: what is happening, stage by stage. Plain lines here; the live view is in the console."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from sg_local.cli.output import say
from sg_local.job.events import Began, Ended, Event, Expected, Listener, Moved, Said, Skipped, Waiting, Weighed
from sg_local.views.pace import Pace, rate_words
from sg_local.views.records import Progress
from sg_local.words import duration, size

EVERY_S = 5.0


class Narrator(Protocol):
    """Hears what a job does."""

    def begin(self, stage: str) -> None:
        """A stage starts."""
        ...

    def wait(self, what: str) -> None:
        """Something goes on that cannot be counted."""
        ...

    def progress(self, now: Progress) -> None:
        """The stage stands here."""
        ...

    def end(self, stage: str, seconds: float, note: str) -> None:
        """A stage is done."""
        ...

    def skip(self, stage: str, note: str) -> None:
        """A stage need not run."""
        ...

    def say(self, text: str) -> None:
        """Something worth a line."""
        ...


class PlainNarrator:
    """One line when a stage starts and ends, and one every few seconds in between."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.now_s, self.pace = now_s, Pace(now_s)
        self.phase = ""
        self.said_at = 0.0
        self.closed = False

    def begin(self, stage: str) -> None:
        self.phase = ""
        self.say(f"{stage}: started")

    def wait(self, what: str) -> None:
        self.phase = ""
        self.say(f"  {what}\u2026")

    def progress(self, now: Progress) -> None:
        clock = self.now_s()
        if now.phase != self.phase:
            self.phase, self.closed, self.said_at = now.phase, False, clock
            self.pace.begin(now.done)
        self.pace.take(now.done)
        ends = now.done >= now.wanted and not self.closed
        if ends or clock - self.said_at >= EVERY_S:
            self.closed, self.said_at = ends or self.closed, clock
            self.say(progress_line(now, self.pace))

    def end(self, stage: str, seconds: float, note: str) -> None:
        self.say(f"{stage}: done in {duration(seconds)}" + (f", {note}" if note else ""))

    def skip(self, stage: str, note: str) -> None:
        self.say(f"{stage}: {note}")

    def say(self, text: str) -> None:
        say(text, err=True)


def progress_line(now: Progress, pace: Pace) -> str:
    """A progress record as one line, with its rate and the time left."""
    if not now.wanted:
        return f"  {now.phase}" + "".join(f", {name} {value}" for name, value in now.facts.items())
    count = (
        f"{size(now.done)} of {size(now.wanted)}" if now.unit == "bytes" else f"{now.done} of {now.wanted} {now.unit}"
    )
    parts = [f"  {now.phase}: {count}"]
    left = pace.left_s(now.wanted)
    if left is not None:
        parts += [rate_words(pace.rate, now.unit), f"{duration(left)} left"]
    parts += [f"{name} {value}" for name, value in now.facts.items()]
    return ", ".join(parts)


def listener(narrate: Narrator) -> Listener:
    """A job's events, told to a narrator."""
    from sg_local.views.progress import ProgressView

    view = ProgressView()

    def hear(event: Event) -> None:
        match event:
            case Expected() | Weighed():
                for line in lines_of(event):
                    narrate.say(line)
            case Began(stage):
                narrate.begin(stage)
            case Waiting(what):
                narrate.wait(what)
            case Moved():
                narrate.progress(view.take(event))
            case Ended(stage, seconds, note):
                narrate.end(stage, seconds, note)
            case Skipped(stage, note):
                narrate.skip(stage, note)
            case Said(text, warning):
                narrate.say(f"Warning: {text}" if warning else text)

    return hear


def lines_of(event: Expected | Weighed) -> Iterator[str]:
    """What is said before a job works, and before it trains."""
    from sg_local.views.forecast import brief_lines
    from sg_local.views.prospect import weighed_lines

    yield from brief_lines(event.forecast) if isinstance(event, Expected) else weighed_lines(event.run, event.prospect)


@contextmanager
def telling(stages: Sequence[str], title: str = "") -> Iterator[Listener]:
    """The live view on a terminal, plain lines elsewhere, as a job's listener."""
    with narrator(stages, title) as narrate:
        yield listener(narrate)


@contextmanager
def narrator(stages: Sequence[str], title: str = "") -> Iterator[Narrator]:
    """The live view on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield PlainNarrator()
        return
    from sg_local.console.live import LiveNarrator

    live = LiveNarrator(stages, title)
    with live:
        yield live
