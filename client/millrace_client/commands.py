"""What the two command lines, `millrace` and `python client`, have in common."""

from typing import Any

import click
from rich.console import Console
from rich.text import Text

CONTEXT = {"help_option_names": ["-h", "--help"]}
ADVICE = "start a server (make demo, millrace serve) or name one with --url"
FAILED, UNREACHABLE, INTERRUPTED = 1, 3, 130  # exit codes


def complain(console: Console, what: str, message: str) -> None:
    """Say what went wrong; neither text is read as markup."""
    console.print(Text.assemble((what, "red"), f": {message}"))


class DefaultGroup(click.Group):
    """Runs its `default` command where none is named: without arguments, or when they begin with an option.

    `takes_words`: also when they begin with a word that is no command.
    """

    def __init__(self, *args: Any, default: str, takes_words: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.default = default
        self.takes_words = takes_words

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command first where it is meant."""
        return super().parse_args(ctx, [self.default, *args] if self._means_default(ctx, args) else args)

    def _means_default(self, ctx: click.Context, args: list[str]) -> bool:
        if not args:
            return True
        if args[0].startswith("-"):
            return args[0] not in {name for option in self.get_params(ctx) for name in option.opts}
        return self.takes_words and args[0] not in self.commands
