"""`millrace cache`: what the semantic cache decides, and by which rules."""

import click

from millrace.cli.rules import rules


@click.group()
def cache() -> None:
    """Look into the semantic cache."""


cache.add_command(rules)
