"""The command: reads turns, draws answers, takes orders that begin with a slash."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markdown import Markdown

from millrace.errors import MillraceError
from millrace_client.chat.conversation import Conversation
from millrace_client.commands import (
    ADVICE,
    CONTEXT,
    FAILED,
    INTERRUPTED,
    NO_SERVER,
    UNREACHABLE,
    leave_closed_pipe,
    print_error,
    request_options,
)
from millrace_client.drawing import Drawing, account, write
from millrace_client.stream import ConnectionLostError, error_of
from millrace_client.sync import SyncClient, SyncStream

HELP = """\
/model NAME    which model answers from now on: auto, small, large, or a configured name
/system TEXT   the system prompt from now on; without TEXT none
/retry         ask the last question again
/new           begin a new conversation
/cost          what this conversation has cost
/save FILE     write it as Markdown; a FILE that exists is kept
/quit          leave (also Ctrl-D)
A line that ends with \\ goes on in the next. Ctrl-C stops an answer; what it said stays."""

with suppress(ImportError):  # there is none on Windows
    import readline  # noqa: F401 - gives input() a history and editing


@click.command(context_settings=CONTEXT)
@request_options
def chat(*, url: str, api_key: str | None, system: str | None, max_tokens: int | None, **options: str | None) -> None:
    """Talk with the models, turn by turn. Ctrl-C stops an answer, /help says what else there is.

    On a terminal answers are drawn as Markdown while they come, with tokens and cost below. From a pipe each line is
    a turn, and only text that is final is written; Ctrl-C ends it.
    """
    conversation = Conversation(options={**options, "instructions": system, "max_output_tokens": max_tokens})
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with SyncClient(url, api_key=api_key, negotiate=sys.stdout.isatty()) as client:
            sys.exit(_Chat(client, conversation, console).run())
    except MillraceError as error:
        print_error(console, error.code, error.message)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        leave_closed_pipe()
        sys.exit(FAILED)
    except NO_SERVER:
        print_error(console, f"no Millrace answers at {url}", ADVICE)
        sys.exit(UNREACHABLE)


class _Chat:
    """One conversation at one terminal."""

    def __init__(self, client: SyncClient, conversation: Conversation, console: Console) -> None:
        self._client = client
        self._conversation = conversation
        self._console = console
        self._is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self._failed = False
        self._orders: dict[str, Callable[[str], None]] = {
            "/help": lambda _: console.print(HELP, style="dim", markup=False),
            "/model": self._choose_model,
            "/system": self._choose_system,
            "/retry": self._retry,
            "/new": self._begin_anew,
            "/cost": lambda _: console.print(conversation.bill(), style="dim"),
            "/save": self._save,
        }

    def run(self) -> int:
        """Talk until there is no more input; return the exit code."""
        if self._is_terminal:
            self._console.print("/help says what you can do, Ctrl-D leaves.", style="dim")
        for line in self._lines():
            order, _, rest = line.partition(" ")
            if order in ("/quit", "/exit"):
                break
            if self._is_terminal and line.startswith("/"):
                self._order(order, rest.strip())
            elif line.strip():
                self._answer(line)
        if self._is_terminal:
            self._console.print(self._conversation.bill(), style="dim")
        return FAILED if self._failed else 0

    def _lines(self) -> Iterator[str]:
        """Yield what was written; Ctrl-C twice leaves, once begins the line again."""
        interrupts = 0
        while True:
            try:
                line = input("› " if self._is_terminal else "")
                while line.endswith("\\"):
                    line = f"{line[:-1]}\n{input('… ' if self._is_terminal else '')}"
                line.encode()  # Python lets through what is not UTF-8, so that it can be written again
            except EOFError:
                if self._is_terminal:
                    self._console.print()
                return
            except UnicodeError as error:
                self._report("the input is not UTF-8", str(error))
                return
            except KeyboardInterrupt:
                interrupts += 1
                if not self._is_terminal:
                    raise
                if interrupts == 2:  # noqa: PLR2004 - the second one
                    return
                self._console.print("\nCtrl-C again, or Ctrl-D, leaves.", style="dim")
                continue
            interrupts = 0
            yield line

    def _order(self, order: str, rest: str) -> None:
        if order in self._orders:
            self._orders[order](rest)
        else:
            print_error(self._console, order, "there is no such command; /help lists them")

    def _answer(self, question: str) -> None:
        """Ask, show what comes, and keep it."""
        stream = self._conversation.ask(self._client, question)
        said: str | None = None
        interrupts: list[int] = []
        try:
            with _stopped_by_interrupt(stream) as interrupts:
                (self._draw if self._is_terminal else _write)(stream)
            response = stream.response
            said = stream.text or stream.refusal
            if response is not None and response.error is not None:
                raise error_of(response.error)
        except MillraceError as error:
            self._report(error.code, error.message)
        except ConnectionLostError as error:
            self._report("connection lost", str(error))
        self._conversation.take(stream.response if stream.ended else None, said or "")
        if self._is_terminal and stream.response is not None:
            self._console.print(account(stream.response))
        if interrupts and not self._is_terminal:
            raise KeyboardInterrupt  # no later line of a pipe is asked

    def _report(self, title: str, message: str) -> None:
        self._failed = True
        print_error(self._console, title, message)

    def _draw(self, stream: SyncStream) -> None:
        with Drawing(Console(highlight=False), stream, body=_markdown) as drawing:
            for event in stream:
                drawing.take(event)

    def _choose_model(self, name: str) -> None:
        if not name:
            print_error(self._console, "/model", "name one: /model large")
            return
        self._conversation.options["model"] = name
        self._console.print(f"{name} answers from now on.", style="dim", markup=False)

    def _choose_system(self, text: str) -> None:
        self._conversation.options["instructions"] = text or None
        self._console.print("The system prompt is set." if text else "There is no system prompt now.", style="dim")

    def _retry(self, _: str) -> None:
        question = self._conversation.again()
        if question is None:
            print_error(self._console, "/retry", "nothing was asked yet")
        else:
            self._answer(question)

    def _begin_anew(self, _: str) -> None:
        self._conversation.begin_anew()
        self._console.print("A new conversation.", style="dim")

    def _save(self, name: str) -> None:
        if not name:
            print_error(self._console, "/save", "name a file: /save chat.md")
            return
        try:
            with Path(name).expanduser().open("x", encoding="utf-8") as file:
                file.write(self._conversation.transcript())
        except OSError as error:
            print_error(self._console, f"/save {name}", error.strerror or str(error))
        else:
            self._console.print(f"Written to {name}.", style="dim", markup=False)


def _markdown(text: str) -> Markdown:
    return Markdown(text, hyperlinks=False)  # a link's target stays visible


def _write(stream: SyncStream) -> None:
    """Write the deltas of an answer that is never revised."""
    for event in stream:
        write(event)
    sys.stdout.write("\n")
    sys.stdout.flush()


@contextmanager
def _stopped_by_interrupt(stream: SyncStream) -> Iterator[list[int]]:
    """Have Ctrl-C cancel the stream, whose terminal still comes, and tell of it; a second one leaves the program."""
    interrupts: list[int] = []

    def stop(number: int, _: Any) -> None:
        interrupts.append(number)
        signal.signal(signal.SIGINT, before)
        stream.cancel()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
