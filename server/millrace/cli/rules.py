"""`millrace cache rules`: what objects to serving the answer of one question for another."""

import json

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from millrace import assembly


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all examples.")
def rules(*, as_json: bool) -> None:
    """List the rules by which two questions are kept apart.

    The answer of one is never served for the other in spite of a hard objection. A soft one counts against it.
    """
    catalogue = assembly.cache_rules()
    if as_json:
        fields = ("name", "kind", "reason", "objects", "agrees")
        rows = [{field: getattr(rule, field) for field in fields} for rule in catalogue]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table("rule", "kind", "reason", "objects to", "but not to")
    for rule in catalogue:
        examples = (" / ".join(pairs[0]) for pairs in (rule.objects, rule.agrees))
        table.add_row(rule.name, rule.kind, rule.reason, *map(escape, examples))
    Console().print(table)
