"""The command line: serve, demo, simulate, check-config, keys, ask, load."""

import click

from millrace import __version__
from millrace.cli.demo import demo
from millrace.cli.keys import keys
from millrace.cli.serve import check_config, serve
from millrace.cli.simulate import simulate
from millrace_client.__main__ import ask
from millrace_client.commands import CONTEXT, DefaultGroup
from millrace_client.load.command import load


@click.group(cls=DefaultGroup, default="serve", context_settings=CONTEXT)
@click.version_option(__version__, prog_name="millrace")
def main() -> None:
    """Millrace leads each LLM request to the cheapest answer that is good enough.

    Without a command it runs `serve`.
    """


for command in (ask, check_config, demo, keys, load, serve, simulate):
    main.add_command(command)

if __name__ == "__main__":
    main()
