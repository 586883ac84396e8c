"""The terminal commands: `millrace ask` and `millrace load`; `python client "question"`, `python client load`."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text
from websockets.exceptions import InvalidHandshake, InvalidURI

from millrace.errors import MillraceError
from millrace.types import CacheMode, Delivery, Strategy
from millrace.wire import responses as wire
from millrace_client.client import DEFAULT_URL, Client
from millrace_client.commands import (
    ADVICE,
    CONTEXT,
    FAILED,
    INTERRUPTED,
    UNREACHABLE,
    DefaultGroup,
    dollars,
    print_error,
)
from millrace_client.load.command import load
from millrace_client.stream import ConnectionLostError, Stream

REDRAW_S = 1 / 30


@click.command(context_settings=CONTEXT)
@click.argument("question", required=False)
@click.option("--url", default=DEFAULT_URL, envvar="MILLRACE_URL", show_default=True, help="The server.")
@click.option("--api-key", envvar="MILLRACE_API_KEY", help="The API key, if the server needs one.  [MILLRACE_API_KEY]")
@click.option("--model", default="auto", show_default=True, help="auto, small, large, or a configured name.")
@click.option("--strategy", type=click.Choice([*map(str, Strategy)]), help="How to use the two models.")
@click.option("--delivery", type=click.Choice([*map(str, Delivery)]), help="What to show before it is accepted.")
@click.option("--cache", type=click.Choice([*map(str, CacheMode)]), help="How to use the caches.")
@click.option("--system", help="A system prompt.")
@click.option("--max-tokens", type=click.IntRange(1), help="Limit the tokens of the answer.")
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
    except BrokenPipeError:  # the reader of the pipe has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, InvalidHandshake, InvalidURI):
        print_error(console, f"no Millrace answers at {url}", ADVICE)
        return UNREACHABLE
    return FAILED


def _interrupt(stream: Stream) -> None:
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)  # a second Ctrl-C terminates the program
    stream.cancel()


async def _draw(stream: Stream) -> None:
    """Show the answer on a terminal; redraw it when it grows or is revised."""
    out = Console(highlight=False)
    notice = Text()
    with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
        drawn_at = 0.0
        async for event in stream:
            if isinstance(event, wire.Revise):
                notice = Text(f"↻ {event.from_model}: {event.reason}; {event.to_model} answers\n", style="dim italic")
            elif isinstance(event, wire.TextDelta):
                if time.monotonic() - drawn_at < REDRAW_S:
                    continue
                drawn_at = time.monotonic()
            live.update(Text.assemble(notice, stream.text or stream.refusal), refresh=True)


async def _write(stream: Stream) -> None:
    """Write the deltas of an answer that is never revised."""
    async for event in stream:
        if isinstance(event, wire.TextDelta | wire.RefusalDelta):
            sys.stdout.write(event.delta)
            sys.stdout.flush()
    sys.stdout.write("\n")


def _report(stream: Stream, console: Console) -> int:
    """Print the account line and return the exit code."""
    response = stream.response
    assert response is not None
    if response.error is not None:
        print_error(console, response.error.code, response.error.message)
    metadata, usage = response.metadata, response.usage
    parts = [f"{response.status}" if response.status != "completed" else "", metadata.get("millrace.route", "")]
    if (cache := metadata.get("millrace.cache")) not in (None, "miss"):
        parts.append(f"{cache} hit")
    if (check := metadata.get("millrace.check")) not in (None, "passed"):
        parts.append(f"check: {check}")
    parts.append(response.model)
    if usage is not None:
        parts += [f"{usage.total_tokens} tokens", dollars(usage.cost_usd), f"saved {dollars(usage.saved_usd)}"]
        parts += ["estimated"] if usage.estimated else []
        parts += [f"{usage.trimmed_tokens} tokens of the prompt cut"] if usage.trimmed_tokens else []
    if cap := metadata.get("millrace.max_output_tokens"):
        parts.append(f"cut at the server's cap of {cap} tokens")
    console.print(Text(" · ".join(filter(None, parts)), style="dim"))
    return {"completed": 0, "incomplete": 0, "cancelled": INTERRUPTED}.get(response.status, FAILED)


@click.group(cls=DefaultGroup, default="ask", default_takes_words=True, context_settings=CONTEXT)
def main() -> None:
    """Talk to a Millrace server.

    `ask` is the default command: `python client "What is a millrace?"`. For its options see `ask --help`.
    """


main.add_command(ask)
main.add_command(load)

if __name__ == "__main__":
    main()
