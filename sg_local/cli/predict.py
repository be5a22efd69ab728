"""`sg-local predict`: the tuned model's answer to one text, or to each line of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from sg_local.cli.app import Command
from sg_local.cli.asking import asked_argument, base_options, open_asked
from sg_local.cli.config import Environment
from sg_local.cli.options import backend_option, job_options, json_option, runs_option, set_option
from sg_local.job.options import Options
from sg_local.records import SgError


@click.command(
    "predict",
    cls=Command,
    examples=(
        "sg-local predict RUN 'Where is my parcel?'",
        "sg-local predict RUN - < inputs.txt > outputs.txt",
        "sg-local predict RUN --base 'Where is my parcel?'",
        "sg-local predict support_routing --base --model qwen3-0.6b 'Where is my parcel?'",
    ),
)
@asked_argument
@click.argument("text", required=False)
@base_options
@click.option("--free", is_flag=True, help="Write the answer freely, not only a label or JSON that fits the schema.")
@backend_option
@set_option
@runs_option
@json_option
@job_options()
@click.pass_obj
def predict_command(
    environment: Environment, run: str, text: str | None, base: bool, free: bool, as_json: bool, options: Options
) -> None:
    """Answer one text, or one per line of standard input.

    Without TEXT, or with -, each line of standard input is one input, and each line of output its answer. With --base
    the untuned model answers, of any architecture that llama.cpp runs, and RUN may be a task that has no run.
    """
    from sg_local import serve

    if text is None and sys.stdin.isatty():
        hint = "Give it in quotes, or pipe lines into the command."
        raise SgError("There is no text to answer.", hint, exit_code=2)
    with open_asked(run, options, environment, base=base) as job:
        lines = _stdin_lines() if text in (None, "-") else iter([text])
        settings = job.serve_settings(restricted=not free)
        generator = job.adapted(base=base)
        for answer in serve.predict(generator, job.task, job.form, lines, settings):
            click.echo(_json_line(answer) if as_json else " ".join(answer.split("\n")))


def _stdin_lines() -> Iterator[str]:
    return (line.decode("utf-8", "replace").rstrip("\r\n") for line in sys.stdin.buffer)


def _json_line(answer: str) -> str:
    import json

    return json.dumps({"output": answer}, ensure_ascii=False)
