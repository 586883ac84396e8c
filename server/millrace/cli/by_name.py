"""A group of commands that are imported when one of them is run: a server needs nothing of the others."""

import gc
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class CommandsByName(click.Group):
    """Finds each command where it is said to be, as `module:attribute`. Help on the group imports all of them."""

    def __init__(self, *args: Any, places: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in order."""
        return sorted([*super().list_commands(ctx), *self._places])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None if there is none of this name."""
        place = self._places.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        if gc.isenabled() and module not in sys.modules:
            gc.disable()  # hardly anything of an import is garbage, and to look for some takes a fifth of its time
            try:
                import_module(module)
            finally:
                gc.freeze()  # else the collector looks for it as soon as it may
                gc.enable()
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named; name those that are spelt alike if there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            names = self.list_commands(ctx)
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=names, ctx=ctx) from None
