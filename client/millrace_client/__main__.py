"""The terminal commands: `millrace ask`, `chat` and `load`; also `python client "question"`, `python client chat`."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

import click
from rich.console import Console

from millrace.errors import MillraceError
from millrace_client.chat.command import chat
from millrace_client.client import Client
from millrace_client.commands import (
    ADVICE,
    CONTEXT,
    FAILED,
    INTERRUPTED,
    NO_SERVER,
    UNREACHABLE,
    DefaultGroup,
    leave_closed_pipe,
    print_error,
    request_options,
)
from millrace_client.drawing import Drawing, account, write
from millrace_client.load.command import load
from millrace_client.stream import ConnectionLostError, Stream


@click.command(context_settings=CONTEXT)
@click.argument("question", required=False)
@request_options
@click.option("--repro", type=click.File("rb"), help="Send what `millrace explain --redacted-repro` has written.")
def ask(  # noqa: PLR0913 - the options of a command
    *,
    question: str | None,
    url: str,
    api_key: str | None,
    model: str,
    strategy: str | None,
    delivery: str | None,
    cache: str | None,
    system: str | None,
    max_tokens: int | None,
    repro: BinaryIO | None,
) -> None:
    """Ask QUESTION and stream the answer. Ctrl-C stops it and prints what it cost.

    On a terminal, text that a check takes back is replaced by the other model's answer. A pipe only receives text
    that is final. The last line, on standard error, says which model answered and what it cost.
    """
    options: dict[str, Any] = {"model": model, "strategy": strategy, "delivery": delivery, "cache": cache}
    options |= {"instructions": system, "max_output_tokens": max_tokens}
    if (question is None) == (repro is None):
        raise click.UsageError("write a QUESTION, or name a file with --repro")
    asked: Any = question
    if repro is not None:
        given = _read(repro)
        asked = given.pop("input")
        options = {**given.pop("millrace", {}), **given} | {name: value for name, value in options.items() if value}
        options["model"] = model if model != "auto" else given.get("model", model)
    sys.exit(asyncio.run(_ask(url, api_key, asked, options)))


def _read(repro: BinaryIO) -> dict[str, Any]:
    try:
        given = json.load(repro)
        if isinstance(given, dict) and isinstance(given.get("input"), list):
            return given
    except ValueError:
        pass
    raise click.BadParameter(
        f"{repro.name} is no request; write one with: millrace explain ID --redacted-repro FILE", param_hint="--repro"
    )


async def _ask(url: str, api_key: str | None, question: str | list[dict[str, Any]], options: Mapping[str, Any]) -> int:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        async with Client(url, api_key=api_key, negotiate=sys.stdout.isatty()) as client:
            stream = client.stream(question, **options)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGINT, _interrupt, stream)
            await (_draw if sys.stdout.isatty() else _write)(stream)
            return _report(stream, console)
    except MillraceError as error:
        print_error(console, error.code, error.message)
    except ConnectionLostError as error:
        print_error(console, "connection lost", str(error))
    except BrokenPipeError:
        leave_closed_pipe()
    except NO_SERVER:
        print_error(console, f"no Millrace answers at {url}", ADVICE)
        return UNREACHABLE
    return FAILED


def _interrupt(stream: Stream) -> None:
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)  # a second Ctrl-C terminates the program
    stream.cancel()


async def _draw(stream: Stream) -> None:
    """Show the answer on a terminal; redraw it when it grows or is revised."""
    with Drawing(Console(highlight=False), stream) as drawing:
        async for event in stream:
            drawing.take(event)


async def _write(stream: Stream) -> None:
    """Write the deltas of an answer that is never revised."""
    async for event in stream:
        write(event)
    sys.stdout.write("\n")


def _report(stream: Stream, console: Console) -> int:
    """Print the account line and return the exit code."""
    response = stream.response
    assert response is not None
    if response.error is not None:
        print_error(console, response.error.code, response.error.message)
    console.print(account(response))
    return {"completed": 0, "incomplete": 0, "cancelled": INTERRUPTED}.get(response.status, FAILED)


@click.group(cls=DefaultGroup, default="ask", default_takes_words=True, context_settings=CONTEXT)
def main() -> None:
    """Talk to a Millrace server.

    `ask` is the default command: `python client "What is a millrace?"`. For its options see `ask --help`.
    """


main.add_command(ask)
main.add_command(chat)
main.add_command(load)

if __name__ == "__main__":
    main()
