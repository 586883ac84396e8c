"""Figures of a measurement, for the terminal."""

import json
from collections.abc import Mapping

import click
from rich.console import Console
from rich.table import Table


def print_figures(figures: Mapping[str, Mapping[str, float]], *, as_json: bool) -> None:
    """Print a table for each name, or all as JSON."""
    if as_json:
        click.echo(json.dumps(figures, indent=1))
        return
    for name, found in figures.items():
        table = Table(title=name)
        for column in found:
            table.add_column(column, justify="right")
        table.add_row(*(f"{value:g}" if float(value).is_integer() else f"{value:.2f}" for value in found.values()))
        Console(width=120).print(table)
