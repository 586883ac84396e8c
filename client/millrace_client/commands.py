"""Shared by the two command lines, `millrace` and `python client`."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.text import Text

from millrace.types import CacheMode, Delivery, Strategy
from millrace_client.client import DEFAULT_URL

Command = TypeVar("Command", bound=Callable[..., object])

CONTEXT = {"help_option_names": ["-h", "--help"]}
ADVICE = "start a server (make demo, millrace serve) or name one with --url"
FAILED, UNREACHABLE, INTERRUPTED = 1, 3, 130  # exit codes
_REQUEST_OPTIONS = (
    click.option("--url", default=DEFAULT_URL, envvar="MILLRACE_URL", show_default=True, help="The server."),
    click.option(
        "--api-key", envvar="MILLRACE_API_KEY", help="The API key, if the server needs one.  [MILLRACE_API_KEY]"
    ),
    click.option("--model", default="auto", show_default=True, help="auto, small, large, or a configured name."),
    click.option("--strategy", type=click.Choice([*map(str, Strategy)]), help="How to use the two models."),
    click.option("--delivery", type=click.Choice([*map(str, Delivery)]), help="What to show before it is accepted."),
    click.option("--cache", type=click.Choice([*map(str, CacheMode)]), help="How to use the caches."),
    click.option("--system", help="A system prompt."),
    click.option("--max-tokens", type=click.IntRange(1), help="Limit the tokens of an answer."),
)


def request_options(command: Command) -> Command:
    """Give a command the options of a request."""
    for option in reversed(_REQUEST_OPTIONS):
        command = option(command)
    return command


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
