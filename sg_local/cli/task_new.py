"""`sg-local tasks new`: a task file from options, from fields, rows or a decision request in a file, or by a form."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.config import Environment
from sg_local.cli.options import Choice
from sg_local.cli.task_form import ask_draft, draft_file, preview
from sg_local.records import KINDS, SgError
from sg_local.tasks.draft import ROWS_ENDING, Draft, files_of, write_task
from sg_local.tasks.files import read_placed_task
from sg_local.tasks.lint import lint

LACKING = {
    "kind": ("kind", "--kind classification with a --label for each one, or --kind generation"),
    "instruction": ("instruction", "--instruction 'Say what the model is to do.'"),
    "examples": ("example", "--example INPUT OUTPUT, ideally three times"),
}


@click.command(
    "new",
    cls=Command,
    examples=(
        "sg-local tasks new my_task.toml",
        "sg-local tasks new teams.toml --from mails.csv --columns input=Body,output=Team --instruction 'Which team?'",
        "sg-local tasks new team.toml --from decision_request.json",
        "sg-local tasks new short.toml --kind generation --instruction 'Shorten it.' --example 'Ever so long.' Long.",
    ),
)
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, path_type=Path),
    help="Labelled rows (CSV, JSON lines, ...), a decision request, or a JSON file with the fields.",
)
@click.option("--columns", metavar="input=NAME,output=NAME", help="Which columns of the rows to use.")
@click.option("--question", metavar="ID", help="Which question of a decision request to use.")
@click.option("--kind", type=Choice(KINDS), help="What the outputs are: one of the labels, or free text.")
@click.option("--instruction", help="What the model should do.")
@click.option("--label", "labels", multiple=True, help="A label; repeatable.")
@click.option("--example", "examples", nargs=2, multiple=True, metavar="INPUT OUTPUT", help="An example; repeatable.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.pass_obj
def new(
    environment: Environment,
    /,
    path: Path,
    source: Path | None,
    columns: str | None,
    question: str | None,
    force: bool,
    **given: Any,
) -> None:
    """Create a task file: with a guided form, --from a file, or from options."""
    path = _as_toml(path)
    _check_free([path], force)
    draft = Draft(path.stem, **given)
    if source is not None:
        draft = _begun(source, draft, columns, question)
    is_asked = not draft.is_complete
    if is_asked and not sys.stdin.isatty():
        raise _incomplete(draft)
    if is_asked:
        draft = ask_draft(draft, path, environment.editor)
    files = files_of(draft, path)
    _check_free([*files], force)
    write_task(files)
    draft_file(path).unlink(missing_ok=True)
    _tell(list(files), is_shown=not is_asked and sys.stderr.isatty())


def _as_toml(path: Path) -> Path:
    """The path with the ending of a task file."""
    if path.suffix == ".json":
        raise SgError(f"{path}: a new task is written as TOML.", f"Call it {path.with_suffix('.toml')}.", exit_code=2)
    return path if path.suffix == ".toml" else path.with_name(f"{path.name}.toml")


def _check_free(paths: list[Path], force: bool) -> None:
    for path in paths:
        if path.exists() and not force:
            raise SgError(f"{path} exists.", "Choose another name, or add --force.", exit_code=2)


def _begun(source: Path, draft: Draft, columns: str | None, question: str | None) -> Draft:
    """The draft filled from a file; what was decided is told."""
    from sg_local.tables import parse_columns
    from sg_local.tasks.begin import begun

    proposal = begun(source, draft, parse_columns(columns) if columns else None, question)
    for line in proposal.told:
        output.note(line)
    return proposal.draft


def _incomplete(draft: Draft) -> SgError:
    """What a draft lacks, all of it, with the options that give it."""
    missing = [LACKING[key] for key in LACKING if not getattr(draft, key)]
    names = " and ".join(f"an {name}" if name[0] in "aeiou" else f"a {name}" for name, _ in missing)
    hint = f"Add {'; '.join(option for _, option in missing)}. Or start this on a terminal for the guided form."
    return SgError(f"The new task needs {names}.", hint, exit_code=2)


def _tell(files: list[Path], *, is_shown: bool) -> None:
    """What is doubtful about the task, the files, and what to type next."""
    placed = read_placed_task(files[0])
    for item in lint(placed.task, placed.source, fits_grammar=grammar_check()):
        output.note(f"{item.level}: {item.place}: {item.finding} {item.advice}")
    if is_shown:
        preview(placed.task)
    for path in files:
        output.say(path)
    rows = [path for path in files if path.name.endswith(ROWS_ENDING)]
    command = ["sg-local", "run", str(files[0]), *(part for path in rows for part in ("--rows", str(path)))]
    output.next_commands(shlex.join(command))


def grammar_check() -> Callable[[str], object] | None:
    """llama.cpp's way from a schema to a grammar, where it is installed."""
    if find_spec("llama_cpp") is None:
        return None
    from sg_local.backends.llama_cpp.schema import grammar_of

    return grammar_of
