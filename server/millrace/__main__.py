"""The command line: the server and what is done beside it, and the commands of a client."""

import click

from millrace import __version__
from millrace.cli.by_name import CommandsByName

CONTEXT = {"help_option_names": ["-h", "--help"]}  # as in `millrace_client`, whose import takes aiohttp
_OWN = (
    "budgets cache calibrate db demo doctor evidence explain init keys ledger levers reload replay router serve"
    " sessions simulate"
)
COMMANDS = {name: f"millrace.cli.{name}:{name}" for name in _OWN.split()} | {
    "ask": "millrace_client.__main__:ask",
    "batch": "millrace_client.batch.command:batch",
    "chat": "millrace_client.chat.command:chat",
    "check-config": "millrace.cli.serve:check_config",
    "load": "millrace_client.load.command:load",
}


@click.group(cls=CommandsByName, places=COMMANDS, invoke_without_command=True, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="millrace")
@click.pass_context
def main(context: click.Context) -> None:
    """Millrace leads each LLM request to the cheapest answer that is good enough.

    Try it without a key: `millrace demo`. Use your own models: `millrace init`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


if __name__ == "__main__":
    main()
