"""Shared by the two command lines, `millrace` and `python client`."""

import os
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.text import Text
from websockets.exceptions import WebSocketException

from millrace.types import CacheMode, Delivery, Strategy
from millrace_client.client import DEFAULT_URL, endpoint

Command = TypeVar("Command", bound=Callable[..., object])

CONTEXT = {"help_option_names": ["-h", "--help"]}
ADVICE = "start a server (make demo, millrace serve) or name one with --url"
FAILED, UNREACHABLE, INTERRUPTED = 1, 3, 130  # exit codes
NO_SERVER = (OSError, WebSocketException)  # what opening a connection raises where no Millrace is


def _address(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    """Return an address as it was given, if a server can be there."""
    try:
        parts = urlsplit(endpoint(url))
        is_one = parts.scheme in {"ws", "wss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bad port, or half an IPv6 address
        is_one = False
    if not is_one:
        raise click.BadParameter(f"{url!r} is no address of a server; write one such as {DEFAULT_URL}")
    return url


_SERVER_OPTIONS = (
    click.option(
        "--url",
        default=DEFAULT_URL,
        envvar="MILLRACE_URL",
        show_default=True,
        callback=_address,
        help="The server.  [MILLRACE_URL]",
    ),
    click.option(
        "--api-key", envvar="MILLRACE_API_KEY", help="The API key, if the server needs one.  [MILLRACE_API_KEY]"
    ),
)
_REQUEST_OPTIONS = (
    *_SERVER_OPTIONS,
    click.option("--model", default="auto", show_default=True, help="auto, small, large, or a configured name."),
    click.option("--strategy", type=click.Choice([*map(str, Strategy)]), help="How to use the two models."),
    click.option("--delivery", type=click.Choice([*map(str, Delivery)]), help="What to show before it is accepted."),
    click.option("--cache", type=click.Choice([*map(str, CacheMode)]), help="How to use the caches."),
    click.option("--system", help="A system prompt."),
    click.option("--max-tokens", type=click.IntRange(1), help="Limit the tokens of an answer."),
)


def server_options(command: Command) -> Command:
    """Give a command the options that name a server."""
    for option in reversed(_SERVER_OPTIONS):
        command = option(command)
    return command


def request_options(command: Command) -> Command:
    """Give a command the options of a request."""
    for option in reversed(_REQUEST_OPTIONS):
        command = option(command)
    return command


def leave_closed_pipe() -> None:
    """Say no more on standard output: its reader has closed it, and Python would complain at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(console: Console, title: str, message: str) -> None:
    """Print an error. Neither text is read as markup."""
    console.print(Text.assemble((title, "red"), f": {message}"))


class DefaultGroup(click.Group):
    """Runs its `default` command if the arguments are empty or begin with an option.

    With `default_takes_words`, also if they begin with a word that is not a command.
    """

    def __init__(self, *args: Any, default: str, default_takes_words: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.default = default
        self.default_takes_words = default_takes_words

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default command if no command is named."""
        return super().parse_args(ctx, [self.default, *args] if self._wants_default(ctx, args) else args)

    def _wants_default(self, ctx: click.Context, args: list[str]) -> bool:
        if not args:
            return True
        if args[0].startswith("-"):
            return args[0] not in {name for option in self.get_params(ctx) for name in option.opts}
        return self.default_takes_words and args[0] not in self.commands


def dollars(amount: float | Decimal) -> str:
    """Return an amount in dollars, with six decimals and the sign before the unit."""
    return f"{'-' if amount < 0 else ''}${abs(amount):.6f}"
