import click

from sg_local.cli.app import Command


@click.command("review", cls=Command, examples=())
def review_command(): ...
