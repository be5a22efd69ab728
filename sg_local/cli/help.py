"""Help: by a word too (`sg-local help run`, `sg-local version`), options in groups, the environment variables."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence

import click

from sg_local import __version__
from sg_local.cli import troubles
from sg_local.cli.config import VARIABLES
from sg_local.cli.output import say, show_pairs

ENVIRONMENT = "environment"
WIDTH = 100
INDENT = 2  # of all below a heading, and of a command's next lines
LINKED = "\u2011"  # a hyphen that no line is broken at
WORD = re.compile(r"(?:--?[A-Za-z][\w-]* (?!-))?(?:'[^']*'|\"[^\"]*\"|\S)+")
"""A word of a command line, an option with its value: never parted, and neither is what is quoted."""
GROUPS = {
    "Your own data": ("inputs", "rows", "own_columns"),
    "Limits": ("ram_bytes", "disk_bytes", "whole_s"),
    "Settings and engines": (
        "preset",
        "sets",
        "seed",
        "form",
        "backend",
        "endpoint",
        "ask_remote",
        "trainer",
        "no_fast_copy",
    ),
    "Output": ("runs", "notify", "as_json", "help"),
}
"""Options that stand under a heading of their own, in this order, by parameter name; all others come first."""
FEW = 8
"""So many options need no headings."""

Records = Sequence[tuple[str, tuple[str, str]]]
"""(parameter's name, its line in the help)."""


class Formatter(click.HelpFormatter):
    """Help in which options, gates and names are never broken at a hyphen, and what is explained keeps its room."""

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", LINKED))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        linked = [(name, told.replace("-", LINKED)) for name, told in rows]
        super().write_dl(linked, min(col_max, self.width * 3 // 8), col_spacing)

    def write_example(self, line: str) -> None:
        """A command line as it can be copied: a long one goes on after a backslash, its comment stands before it."""
        command, _, comment = line.partition("  #")
        if self.current_indent + len(line) <= self.width:
            lines = [line]
        else:
            lines = [*([f"#{comment}"] if comment else []), *_continued(command, self.width - self.current_indent)]
        for one in lines:
            self.write(f"{'':>{self.current_indent}}{one}\n")

    def getvalue(self) -> str:
        return super().getvalue().replace(LINKED, "-")


class HelpContext(click.Context):
    """The context of every command: its help is written by our formatter."""

    formatter_class = Formatter


def _continued(command: str, width: int) -> Iterator[str]:
    """A command line in lines of at most `width`, each but the last with a backslash; a longer word stays whole."""
    line = ""
    for word in WORD.findall(command):
        if line.strip() and len(f"{line} {word} \\") > width:
            yield f"{line} \\"
            line = " " * INDENT + word
        else:
            line = f"{line} {word}" if line else word
    yield line


def write_options(formatter: click.HelpFormatter, records: Records) -> None:
    """A command's options: its own first, then those that many commands share, by group."""
    shared = {name for names in GROUPS.values() for name in names} if len(records) > FEW else set()
    groups = {"Options": [record for name, record in records if name not in shared]}
    told = dict(records)
    for heading, names in GROUPS.items() if shared else ():
        groups[heading] = [told[name] for name in names if name in told]
    for heading, found in groups.items():
        if found:
            with formatter.section(heading):
                formatter.write_dl(found)


def environment_help() -> str:
    """The environment variables, as help shows them."""
    formatter = Formatter(max_width=WIDTH)
    formatter.write_text("An option overrides its environment variable, which overrides the config file.")
    with formatter.section("Environment variables"):
        formatter.write_dl(list(VARIABLES.items()))
    return formatter.getvalue().rstrip("\n")


@click.command("help", hidden=True)
@click.argument("words", nargs=-1)
@click.pass_context
def help_word(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, or an entry of the page on troubles."""
    at = ctx.parent
    assert at is not None
    if words == (ENVIRONMENT,):
        say(environment_help())
        return
    if len(words) == 1 and at.parent is None and _is_trouble(words[0]):
        return
    for word in words:
        if not isinstance(at.command, click.Group):
            break
        found = at.command.resolve_command(at, [word])[1]
        assert found is not None
        at = HelpContext(found, parent=at, info_name=word)
    say(at.get_help())


def _is_trouble(word: str) -> bool:
    """Show the entry of that name, or all names; False where the word is neither."""
    found = troubles.entries() if word == troubles.PAGE or "-" in word else {}
    if word in found:
        say(troubles.shown_entry(*found[word], min(shutil.get_terminal_size().columns, WIDTH)))
    elif found and word == troubles.PAGE:
        show_pairs("", troubles.listed())
        say(f"Show one: sg-local help {next(iter(found))}", err=True)
    return word in found or word == troubles.PAGE


@click.command("version", hidden=True)
def version_word() -> None:
    """Print the version."""
    say(f"sg-local {__version__}")


WORDS = {"help": help_word, "version": version_word}
"""Commands that stand in no list."""
