import click

from sg_local.cli.app import Command


@click.command("doctor", cls=Command, examples=())
def doctor_command(): ...
