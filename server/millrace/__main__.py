"""The command line: the server and what is done beside it, and the commands of a client."""

import click

from millrace import __version__
from millrace.cli.budgets import budgets
from millrace.cli.cache import cache
from millrace.cli.calibrate import calibrate
from millrace.cli.db import db
from millrace.cli.demo import demo
from millrace.cli.doctor import doctor
from millrace.cli.evidence import evidence
from millrace.cli.explain import explain
from millrace.cli.init import init
from millrace.cli.keys import keys
from millrace.cli.ledger import ledger
from millrace.cli.ledger_export import export
from millrace.cli.levers import levers
from millrace.cli.reload import reload
from millrace.cli.replay import replay
from millrace.cli.router import router
from millrace.cli.serve import check_config, serve
from millrace.cli.sessions import sessions
from millrace.cli.simulate import simulate
from millrace_client.__main__ import ask
from millrace_client.batch.command import batch
from millrace_client.chat.command import chat
from millrace_client.commands import CONTEXT
from millrace_client.load.command import load


@click.group(invoke_without_command=True, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="millrace")
@click.pass_context
def main(context: click.Context) -> None:
    """Millrace leads each LLM request to the cheapest answer that is good enough.

    Try it without a key: `millrace demo`. Use your own models: `millrace init`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    ask,
    batch,
    budgets,
    cache,
    calibrate,
    chat,
    check_config,
    db,
    demo,
    doctor,
    evidence,
    explain,
    init,
    keys,
    ledger,
    levers,
    load,
    reload,
    replay,
    router,
    serve,
    sessions,
    simulate,
):
    main.add_command(command)
ledger.add_command(export)

if __name__ == "__main__":
    main()
