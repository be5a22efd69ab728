"""The options that commands share, gathered into one `Options` record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from sg_local.backends import GENERATORS, TRAINERS, choices
from sg_local.cli.complete import model_names, preset_names, setting_names
from sg_local.cli.config import OPTIONS
from sg_local.job.quantities import seconds_of, size_of
from sg_local.records import SgError
from sg_local.words import did_you_mean

SET_METAVAR = "STAGE.FIELD=VALUE"
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """A length of time in seconds, from texts such as 90s, 20m, 1.5h, 1h30."""

    name = "20m|1h30"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        with self.translated(value, param, ctx):
            return value if isinstance(value, float) else seconds_of(str(value))

    @contextmanager
    def translated(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Iterator[None]:
        """Click's own word for what a text is not."""
        try:
            yield
        except SgError as error:
            self.fail(f"{error.message} {error.hint}", param, ctx)


class Size(Duration):
    """Bytes, from texts such as 12G, 500 MB."""

    name = "12G|500MB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        with self.translated(value, param, ctx):
            return value if isinstance(value, int) else size_of(str(value))


class Choice(click.Choice[str]):
    """A choice that suggests the nearest word, and accepts more than it shows."""

    def __init__(self, choices: Sequence[str], hidden: Sequence[str] = ()) -> None:
        super().__init__([*choices, *hidden])
        self.shown = tuple(choices)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self.shown)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self.choices:
            near = did_you_mean(str(value), self.shown) or f"It is one of: {', '.join(self.shown)}."
            self.fail(f"{value!r} is not known. {near}", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in self.shown if word.startswith(incomplete)]


def runs_option(command: Decorated) -> Decorated:
    """--runs DIR."""
    return click.option(
        "--runs",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("runs"),
        show_default=True,
        envvar=OPTIONS["runs"],
        show_envvar=True,
        help="Folder with the runs.",
    )(command)


def json_option(command: Decorated) -> Decorated:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def set_option(command: Decorated) -> Decorated:
    """--set STAGE.FIELD=VALUE, many times."""
    return click.option(
        "--set",
        "sets",
        multiple=True,
        metavar=SET_METAVAR,
        shell_complete=setting_names,
        help="Change a setting; repeatable. `sg-local config show` lists them all.",
    )(command)


def time_option(command: Decorated) -> Decorated:
    """--time 20m: a budget for the training."""
    help = "Time limit for training: epochs are cut to fit."
    return click.option("--time", "time_s", type=Duration(), metavar=Duration.name, help=help)(command)


def budget_options(command: Decorated) -> Decorated:
    """--ram 12G, --disk 15G, --time 45m: for the whole job."""
    fits = "rows, epochs and batch size are chosen to fit."
    time = click.option(
        "--time", "whole_s", type=Duration(), metavar=Duration.name, help=f"Time limit for the whole job: {fits}"
    )
    disk = click.option("--disk", "disk_bytes", type=Size(), metavar=Size.name, help="Disk limit for the whole job.")
    ram = click.option("--ram", "ram_bytes", type=Size(), metavar=Size.name, help="Memory limit for the whole job.")
    return ram(disk(time(command)))


def own_rows_options(command: Decorated) -> Decorated:
    """--inputs FILE, --rows FILE, --columns input=...,output=...."""
    inputs = "Your own unlabelled inputs, used instead of generated ones. CSV, XLSX, JSON lines or text."
    rows = "Your own labelled rows, for training; some are held back for testing if the task has no test rows."
    columns = "Which columns of these files to use.  [default: recognised by name]"
    metavar = "input=NAME,output=NAME"
    file = click.Path(path_type=Path)
    command = click.option("--columns", "own_columns", metavar=metavar, default="", help=columns)(command)
    command = click.option("--rows", type=file, metavar="FILE", help=rows)(command)
    return click.option("--inputs", type=file, metavar="FILE", help=inputs)(command)


def abstain_option(command: Decorated) -> Decorated:
    """--abstain P."""
    help = 'Answer "unsure" if the most likely label is less probable than this.'
    return click.option("--abstain", type=click.FloatRange(0, 1), metavar="P", help=help)(command)


def redo_option(command: Decorated) -> Decorated:
    """--redo."""
    return click.option("--redo", is_flag=True, help="Redo even if finished.")(command)


def name_option(command: Decorated) -> Decorated:
    """--name RUN."""
    return click.option("--name", metavar="RUN", help="Name of the run.  [default: made from task and model]")(command)


def model_option(command: Decorated) -> Decorated:
    """--model NAME|PATH.gguf."""
    return click.option(
        "--model",
        metavar="NAME|PATH.gguf",
        shell_complete=model_names,
        envvar=OPTIONS["model"],
        show_envvar=True,
        help="Base model.  [default: smollm2-135m-instruct]",
    )(command)


def backend_option(command: Decorated) -> Decorated:
    """--backend."""
    return click.option(
        "--backend",
        type=Choice(*choices(GENERATORS)),
        default="auto",
        show_default=True,
        envvar=OPTIONS["backend"],
        show_envvar=True,
        help="Generation engine.",
    )(command)


def endpoint_options(command: Decorated) -> Decorated:
    """--backend, --endpoint, --allow-remote."""
    url = "Server to generate with, such as http://127.0.0.1:8000/v1 (needs --backend openai)."
    remote = "Allow an endpoint on another machine: the task and its rows are sent there."
    command = click.option("--allow-remote", "ask_remote", is_flag=True, help=remote)(command)
    return backend_option(click.option("--endpoint", metavar="URL", help=url)(command))


def trainer_option(command: Decorated) -> Decorated:
    """--trainer."""
    return click.option(
        "--trainer",
        type=Choice(*choices(TRAINERS)),
        default="auto",
        show_default=True,
        envvar=OPTIONS["trainer"],
        show_envvar=True,
        help="Training engine.",
    )(command)


def form_option(command: Decorated) -> Decorated:
    """--form."""
    return click.option(
        "--form",
        type=Choice(("auto", "chat", "plain")),
        default="auto",
        show_default=True,
        envvar=OPTIONS["form"],
        show_envvar=True,
        help="Prompt format.",
    )(command)


def seed_option(command: Decorated) -> Decorated:
    """--seed."""
    return click.option(
        "--seed",
        type=int,
        default=0,
        show_default=True,
        envvar=OPTIONS["seed"],
        show_envvar=True,
        help="Random seed.",
    )(command)


def preset_option(command: Decorated) -> Decorated:
    """--preset."""
    return click.option(
        "--preset",
        metavar="recommended|lean|paper|FILE",
        shell_complete=preset_names,
        default="recommended",
        show_default=True,
        envvar=OPTIONS["preset"],
        show_envvar=True,
        help="Preset of settings to start from.",
    )(command)


def fast_copy_option(command: Decorated) -> Decorated:
    """--no-fast-copy."""
    return click.option(
        "--no-fast-copy", is_flag=True, help="Use the model file as it is, never a faster copy of its weights."
    )(command)


def model_options(command: Decorated) -> Decorated:
    """--model, --backend, --endpoint, --allow-remote, --trainer, --form, --seed, --preset, --no-fast-copy."""
    for option in (
        fast_copy_option,
        preset_option,
        seed_option,
        form_option,
        trainer_option,
        endpoint_options,
        model_option,
    ):
        command = option(command)
    return command
