"""`sg-local serve`: one or many runs of one base behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from sg_local.cli.app import Command
from sg_local.cli.asking import asked_names, base_options, chosen_labels, labels_options, open_asked
from sg_local.cli.config import Environment
from sg_local.cli.gathering import job_options
from sg_local.cli.options import abstain_option, backend_option, runs_option, set_option
from sg_local.cli.waiting import waiting
from sg_local.job.options import Options
from sg_local.job.serving import Manner, full_names, open_served, service_of, tuned_runs
from sg_local.records import SgError

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun
    from sg_local.serve import Registry

HOST, PORT = "127.0.0.1", 8080


@click.command(
    "serve",
    cls=Command,
    examples=(
        "sg-local serve RUN",
        "sg-local serve RUN OTHER_RUN --port 9000",
        "sg-local serve --all --set serve.queue=64",
        "sg-local serve support_routing --base --model qwen3-0.6b",
        "sg-local serve RUN --base --labels ensemble   # no training needed",
        "curl -s localhost:8080/v1/chat/completions -H 'Content-Type: application/json' "
        '-d \'{"messages": [{"role": "user", "content": "..."}]}\'',
    ),
)
@click.argument("names", metavar="[RUN]...", nargs=-1, shell_complete=asked_names)
@click.option("--all", "every", is_flag=True, help="Serve all trained runs of one base model (RUN's, if given).")
@base_options
@click.option("--host", default=HOST, show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 picks a free port.")
@click.option("--allow-remote", is_flag=True, help="Accept other machines; needs --api-key.")
@click.option(
    "--api-key", default="", envvar="SG_LOCAL_API_KEY", show_envvar=True, help="API key that clients must send."
)
@click.option("--allow-origin", "origins", multiple=True, metavar="URL", help="Allow web pages of this origin (CORS).")
@click.option("--quiet", is_flag=True, help="Do not log requests.")
@labels_options
@abstain_option
@backend_option
@set_option
@runs_option
@job_options()
@click.pass_obj
def serve_command(
    environment: Environment,
    /,
    names: tuple[str, ...],
    every: bool,
    base: bool,
    free: bool,
    labels: str | None,
    quiet: bool,
    abstain: float | None,
    options: Options,
    **door: Any,
) -> None:
    """Serve tuned models on this machine through an OpenAI-compatible API.

    The model name in a request selects the run; `base` is the untuned model. A conversation is answered by the tuned
    task. With --base only the untuned model is served, and RUN may be a task without a run. --labels is as in predict;
    with ensemble, which needs --base, only labels are answered.
    """
    from sg_local import serve

    serve.check_packages()
    manner = Manner(chosen_labels(labels, free=free), abstain or 0.0)
    with _opened(names, options, environment, base=base, every=every, manner=manner) as (job, registry):
        setup = serve.Setup(
            job.serve_settings(restricted=manner.labels != "free"),
            serve.Door(**door),
            job.plan["serve"],
            None if quiet else lambda line: click.echo(line, err=True),
        )
        for line in job.said:
            click.echo(line, err=True)
        serve.serve(job.generator, registry, setup, lambda url: click.echo(f"{url}/v1  (Ctrl-C stops it)"))


@contextmanager
def _opened(
    names: tuple[str, ...], options: Options, environment: Environment, *, base: bool, every: bool, manner: Manner
) -> Iterator[tuple[OpenRun, Registry]]:
    """The job whose engine serves, and the models. Raises SgError (usage) where no run is named, or too many."""
    from sg_local import serve

    if base:
        if len(names) != 1 or every:
            raise SgError("--base serves the base model of one run or task.", "Name exactly one.", exit_code=2)
        with open_asked(names[0], options, environment, base=True) as job:
            with waiting("preparing the labels"):
                service = service_of(job, manner, base=True)
            job.adapted(base=True)
            yield job, serve.Registry.of(service)
        return
    names = full_names(options, names)
    if every:
        names = tuple(dict.fromkeys((*names, *tuned_runs(options, names[0] if names else None))))
    if not names:
        raise SgError("Say which run to serve.", "Name one or several, or give --all.", exit_code=2)
    with open_asked(names[0], options, environment, base=False) as job:
        pass  # refuses what does not go with a run, before anything is loaded
    with open_served(names, options, environment.home(), manner) as served:
        yield served.job, served.registry(names)
