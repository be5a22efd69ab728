"""Which entry of docs/troubleshooting.md an error belongs to, and that entry as the terminal shows it.

An error is known by its kind, else by where it was raised: the innermost function, module or room that has an entry.
"""

from __future__ import annotations

import errno
import re
import textwrap
import traceback
from collections.abc import Iterator

import click

from sg_local.files import NO_SPACE
from sg_local.records import MadeOtherwise, NoRows, SgError

PAGE = "troubleshooting"
PACKAGE = "sg_local."
COMMAND, FILE, FULL = "a-command-is-refused", "the-system-refuses-a-file", "the-disk-is-full"
MEMORY = "too-little-memory"
Failure = SgError | click.ClickException | OSError | MemoryError | RuntimeError
OTHERWISE, FEW = "made-with-other-settings", "too-few-pairs"
ENTRIES = {
    "no-engine": ("backends", "tables.sheets.library"),
    "no-model-of-that-name": ("models",),
    "a-download-fails": ("models.fetch", "models.pull"),
    "a-model-file-is-refused": ("gguf", "models.alike", "backends.llama_cpp", "backends.mlx.weights"),
    "the-model-cannot-be-trained": ("gguf.config.check_trainable", "gguf.shape"),
    "the-chat-template-fails": ("prompts",),
    "the-model-has-changed": ("job.required.check_base",),
    "a-task-file-is-refused": ("tasks", "backends.llama_cpp.schema"),
    "a-file-of-rows-is-refused": ("tables", "job.own", "review"),
    "a-text-is-too-long": (
        *("backends.llama_cpp.engine", "backends.llama_cpp.scheduler", "backends.mlx.generator"),
        *("backends.openai.generator._check_length", "serve.answers", "synth.job"),
    ),
    COMMAND: ("cli", "job", "backends.session", "evaluate.browse"),
    "a-setting-is-refused": (
        *("cli.config", "cli.gathering", "job.plan", "job.presets", "job.quantities", "evaluate.canaries"),
        *("prompts.leads", "backends.llama_cpp.probe", "backends.training.precision"),
    ),
    "no-run-of-that-name": ("run", "job.naming"),
    "a-damaged-run": ("facts", "journals", "cli.gates", "job.begun.job_for_run"),
    FILE: ("files",),
    MEMORY: (
        *("backends.machine",),
        *("backends.llama_cpp.context", "backends.llama_cpp.trial", "backends.mlx.child", "backends.training.loop"),
        *("backends.training.memory", "job.budget", "job.resources"),
    ),
    FULL: ("job.disk",),
    FEW: ("filters", "synth", "training", "job.train"),
    OTHERWISE: ("synth.given", "job.made", "job.begun"),
    "training-stops": ("backends.training",),
    "not-made-yet": ("evaluate.rounds", "job.required", "report"),
    "nothing-was-measured": ("evaluate",),
    "a-check-is-not-met": ("evaluate.scoreboard", "export.stage"),
    "an-export-is-refused": ("export",),
    "the-server-does-not-start": ("serve", "job.serving"),
    "an-endpoint-does-not-answer": ("backends.openai", "job.endpoint"),
}
"""By entry: the rooms, modules or functions below sg_local whose errors it is about."""

PLACES = {place: entry for entry, places in ENTRIES.items() for place in places}
"""The entry of each place. An error of what stands nowhere here (`reading`, `typed`) belongs to whoever called it."""


def entry_of(error: BaseException) -> str:
    """The entry (its anchor in the page) that an error belongs to."""
    system = error if isinstance(error, OSError) else error.__cause__
    if isinstance(system, OSError) and system.errno in NO_SPACE:
        return FULL
    if isinstance(error, OSError):
        return MEMORY if error.errno == errno.ENOMEM else FILE
    if isinstance(error, click.ClickException):
        return COMMAND
    if isinstance(error, MemoryError | RuntimeError):
        return MEMORY
    if isinstance(error, MadeOtherwise | NoRows):
        return OTHERWISE if isinstance(error, MadeOtherwise) else FEW
    found = (PLACES[place] for place in _places(error) if place in PLACES)
    return next(found, COMMAND)


def _places(error: BaseException) -> Iterator[str]:
    """Where an error was raised, the innermost function first; each with its module and its rooms."""
    if isinstance(error.__cause__, SgError):  # raised anew with more words
        yield from _places(error.__cause__)
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith(PACKAGE):
            yield from whole_and_parts(f"{name.removeprefix(PACKAGE)}.{frame.f_code.co_name}")


def whole_and_parts(dotted: str) -> Iterator[str]:
    """a.b.c, a.b, a."""
    words = dotted.split(".")
    for n in range(len(words), 0, -1):
        yield ".".join(words[:n])


def anchor(heading: str) -> str:
    """A heading's name in a link."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def entries() -> dict[str, tuple[str, str]]:
    """Every entry of the page by its anchor: its heading, and its text in Markdown."""
    from sg_local.tasks import shipped_folder

    page = (shipped_folder("docs") / f"{PAGE}.md").read_text(encoding="utf-8")
    parts = re.split(r"^#{2,3} (.+)\n", page, flags=re.MULTILINE)[1:]
    found = zip(parts[::2], parts[1::2], strict=True)
    return {anchor(heading): (heading, text.strip()) for heading, text in found if text.strip()}


def shown_entry(heading: str, text: str, width: int) -> str:
    """An entry as a terminal shows it: paragraphs as wide as that, of links the words."""
    plain = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"\1 (docs/\2)", text)
    paragraphs = (textwrap.fill(" ".join(part.split()), width) for part in plain.split("\n\n"))
    return "\n\n".join((heading, *paragraphs))


def listed() -> list[tuple[str, str]]:
    """The entries as `help` takes them, each with its heading."""
    return [(name, heading) for name, (heading, _) in entries().items()]
