"""The program: a group that loads each command when it is called, and turns every failure into one sentence.

Nothing below imports an engine, Rich or NumPy. A command is named in COMMANDS with the module that holds it and the
line that `sg-local --help` shows, which is also the first line of its own help (a test compares them). That table makes
the module long.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
from click.shell_completion import CompletionItem

from sg_local import __version__
from sg_local.backends import machine
from sg_local.cli.config import Environment, set_brief_waits
from sg_local.cli.help import WORDS, Formatter, HelpContext, write_options
from sg_local.cli.hints import on_the_command_line
from sg_local.cli.log import told
from sg_local.cli.output import say
from sg_local.cli.process import ending_by_signal, interruption, open_streams, silence
from sg_local.cli.troubles import Failure, entry_of
from sg_local.files import NO_SPACE, keep_private
from sg_local.home import stay_offline
from sg_local.records import SgError
from sg_local.words import did_you_mean

INTERRUPTED = 130
JSON = "--json"


@dataclass(frozen=True)
class Listing:
    """Where a command lives, the heading it stands under, and its one-line help."""

    module: str
    section: str
    summary: str


JOB, USE, LOOK = "The job", "Use the result", "Manage"
COMMANDS = {
    "run": Listing("run", JOB, "Train a model for a task: every stage, continuing where an earlier run stopped."),
    "synth": Listing("stage", JOB, "Generate training pairs for a task with the model itself."),
    "filter": Listing("stage", JOB, "Filter the generated pairs by rules, and show what was rejected and why."),
    "review": Listing("review", JOB, "Review the generated pairs yourself, one key each."),
    "train": Listing("stage", JOB, "Finetune a LoRA adapter on the kept pairs."),
    "export": Listing("stage", JOB, "Write the GGUF files that other programs load."),
    "eval": Listing("eval", JOB, "Measure the improvement over the base model, with confidence intervals."),
    "tune-settings": Listing(
        "tune_settings", JOB, "Find the best temperature and epochs over several tasks, and save a preset."
    ),
    "serve": Listing("serve", USE, "Serve tuned models on this machine through an OpenAI-compatible API."),
    "predict": Listing("predict", USE, "Run the tuned model on a text, on lines of standard input, or on a file."),
    "label": Listing("label", USE, "Label a text, lines or a file with the untuned model, without training."),
    "report": Listing("use", USE, "Write a run's report as one HTML page."),
    "inspect": Listing("use", USE, "Show what a GGUF file holds and where it came from."),
    "runs": Listing("runs", LOOK, "List, show, compare, tag, rename and delete runs."),
    "tasks": Listing("tasks", LOOK, "List, show, create and check task files."),
    "models": Listing("models", LOOK, "List, show, add, download and remove base models."),
    "cache": Listing("cache", LOOK, "Show or clear cached files."),
    "doctor": Listing("doctor", LOOK, "Check this machine, and say how to fix problems."),
    "config": Listing("config_commands", LOOK, "Show the current settings and where each one comes from."),
    "completion": Listing("completion", LOOK, "Print the completion script for bash, zsh or fish."),
}


class Command(click.Command):
    """A command whose help ends with examples: full command lines that a reader can copy.

    It refuses to work with a broken config file, unless it `heals`.
    """

    context_class = HelpContext

    def __init__(self, *args: Any, examples: Sequence[str] = (), heals: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.heals = heals

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--help"] if args == ["help"] else args)

    def invoke(self, ctx: click.Context) -> Any:
        environment = ctx.find_object(Environment)
        if environment is not None and not self.heals:
            environment.refuse_broken()
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = [(param.name or "", param.get_help_record(ctx)) for param in options]
        write_options(formatter, [(name, record) for name, record in records if record is not None])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(formatter, self.examples)


class CommandGroup(click.Group):
    """A group with examples in its help and a suggestion for a mistyped command."""

    command_class = Command
    context_class = HelpContext

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every command with its whole first sentence, where Click cuts it to a line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(sys.maxsize)) for name, one in commands if one])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(formatter, self.examples)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in WORDS and (name == "help" or ctx.parent is None):
            return name, WORDS[name], args[1:]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            hint = did_you_mean(name, self.list_commands(ctx)) or f"See `{ctx.command_path} --help`."
            raise SgError(f"There is no command {name!r}.", hint, exit_code=2)
        return super().resolve_command(ctx, args)


class Program(CommandGroup):
    """The root group: commands by section, loaded on demand; errors rendered once, here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        entry = COMMANDS.get(name)
        if entry is None:
            return None
        module = importlib.import_module(f"sg_local.cli.{entry.module}")
        found: click.Command = getattr(module, f"{name.replace('-', '_')}_command")
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands by their table: completing loads none of them."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(n, help=e.summary) for n, e in COMMANDS.items() if n.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in (JOB, USE, LOOK):
            with formatter.section(section):
                formatter.write_dl([(name, e.summary) for name, e in COMMANDS.items() if e.section == section])

    def main(  # type: ignore[override]  # one way to call it, where Click has two
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run the command line; returns never: ends with SystemExit and the exit code."""
        extra["standalone_mode"] = False
        open_streams()
        keep_private()
        try:
            sys.exit(self._run(args, prog_name, extra))
        except BrokenPipeError:  # nobody reads any more
            silence()
            sys.exit(1)

    def _run(self, args: Sequence[str] | None, prog_name: str | None, extra: dict[str, Any]) -> int:
        """Run the command; the exit code, with every failure told."""
        try:
            with ending_by_signal():
                result = super().main(args, prog_name, **extra)
                sys.stdout.flush()
                return result if isinstance(result, int) else 0
        except (KeyboardInterrupt, click.Abort) as error:
            return _end(interruption(error) or INTERRUPTED)
        except click.exceptions.NoArgsIsHelpError as asked:
            _tell(asked.ctx.get_help())
            return asked.exit_code
        except BrokenPipeError:
            raise
        except (SgError, click.ClickException, OSError) as error:
            code = interruption(error) if isinstance(error, OSError) else None
            return _fail(error, as_json=JSON in (sys.argv if args is None else args)) if code is None else _end(code)
        except (MemoryError, RuntimeError) as error:
            if not machine.is_out_of_memory(error):
                raise
            return _fail(error, as_json=JSON in (sys.argv if args is None else args))


def _end(code: int) -> int:
    """Say that the command was interrupted; the exit code."""
    _tell("Interrupted. Run the same command again to continue.")
    return code


def _tell(text: str) -> None:
    """Say a last word on stderr, which may be a terminal that is gone."""
    try:
        say(text, err=True)
    except OSError:
        silence()


def _fail(error: Failure, *, as_json: bool = False) -> int:
    """Say what went wrong on stderr; the exit code. With `as_json` it is one line that programs can read."""
    sorry = as_sg_error(error)
    hint, about = on_the_command_line(sorry.hint, COMMANDS), entry_of(error)
    try:
        if as_json:
            told = {"error": sorry.message, "hint": hint, "exit_code": sorry.exit_code, "about": about}
            click.echo(json.dumps(told, ensure_ascii=False), err=True)
        else:
            show_error(sorry.message, hint, about)
    except OSError:
        silence()
    return sorry.exit_code


def as_sg_error(error: Failure) -> SgError:
    """Any failure that a user may meet, as one sentence and a hint."""
    if isinstance(error, SgError):
        return error
    if isinstance(error, click.ClickException):
        return _from_click(error)
    if isinstance(error, MemoryError | RuntimeError) or machine.is_out_of_memory(error):
        return machine.out_of_memory()
    if error.errno in NO_SPACE:
        hint = "Free some space and run the same command again: finished rows are kept."
        return SgError(f"{NO_SPACE[error.errno]}.", hint)
    reason = error.strerror or error
    message = f"Cannot access {error.filename}: {reason}." if error.filename else f"Operating system error: {reason}."
    return SgError(message, "Check the path and its permissions.")


def _from_click(error: click.ClickException) -> SgError:
    ctx = getattr(error, "ctx", None)
    hint = f"See `{ctx.command_path} --help`." if ctx is not None else ""
    if isinstance(error, click.NoSuchOption):
        near = _before_the_command(error.option_name, ctx) or did_you_mean(error.option_name, _options(ctx))
        return SgError(f"There is no option {error.option_name}.", near or hint, exit_code=2)
    message = " ".join(error.format_message().split())
    return SgError(message if message.endswith((".", "?")) else message + ".", hint, exit_code=error.exit_code)


def _before_the_command(option: str, ctx: click.Context | None) -> str:
    """Where an option of the program was looked for in one of its commands."""
    if ctx is None or ctx.parent is None or option not in _options(ctx.find_root()):
        return ""
    words = ctx.command_path.partition(" ")[2]
    return f"It goes before the command: `sg-local {option} {words}`."


def _options(ctx: click.Context | None) -> list[str]:
    if ctx is None:
        return []
    return [opt for param in ctx.command.get_params(ctx) if not getattr(param, "hidden", False) for opt in param.opts]


def show_error(message: str, hint: str, about: str) -> None:
    """One sentence and a hint on stderr: a card on a terminal, which says where to read on; plain lines elsewhere."""
    if sys.stderr.isatty():
        from sg_local.console import cards

        cards.show_error(message, hint, f"sg-local help {about}")
        return
    say(f"Error: {message}", err=True)
    if hint:
        say(f"Hint: {hint}", err=True)


def _write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    if not examples:
        return
    assert isinstance(formatter, Formatter)
    with formatter.section("Examples"):
        for line in examples:
            formatter.write_example(line)


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        "sg-local tasks ls",
        "sg-local run support_routing --yes",
        "sg-local review RUN",
        "echo 'Where is my parcel?' | sg-local predict RUN -",
    ),
)
@click.version_option(__version__, prog_name="sg-local", message="%(prog)s %(version)s")
@click.option("--offline", is_flag=True, help="Contact no server: neither an endpoint nor the Hugging Face Hub.")
@click.option("-v", "--verbose", is_flag=True, help="Explain decisions on standard error.")
@click.option("--log-texts", is_flag=True, help="Include prompts and completions in the log.")
@click.pass_context
def app(ctx: click.Context, offline: bool, verbose: bool, log_texts: bool) -> None:
    """Finetune a local language model for one task, on data that it writes itself."""
    environment = replace(Environment.read(os.environ), offline=offline)
    stay_offline()
    set_brief_waits()
    texts = log_texts or environment.log_texts
    ctx.with_resource(told(str(ctx.invoked_subcommand), verbose=verbose, path=environment.log, texts=texts))
    ctx.obj = environment
    ctx.default_map = environment.default_map()
