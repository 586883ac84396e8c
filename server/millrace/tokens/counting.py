"""Counts of tokens in one of the encodings, exact and without the network, with what OpenAI adds per message and tool.

What other providers add is a little different, and is a part of the correction that `funnel/ratios.py` learns.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

from millrace.tokens.borders import border
from millrace.tokens.encodings import O200K, encoding
from millrace.tokens.tools import AROUND, IN_SYSTEM, format_text, rendered
from millrace.types import Aside, CallPiece, Format, Media, Message, OwnFields, Prompt, Sealed, Tool

PIECE = 10_000  # characters that are encoded at once; a longer word takes more than its share of time
LONG = 8_000  # characters; counting a longer text takes over about 1 ms, so it runs off the event loop
MEDIA = 765  # tokens assumed for an image, file or recording: those of a 1024x1024 image at OpenAI
SPARSE = 5  # characters per token; high on purpose, so that the estimate is rather too low
BYTES_PER_TOKEN = 3  # for texts too long to count; low on purpose, so that the estimate is rather too high

MOST_KNOWN = 4096  # texts whose counts are kept, some 200 bytes each

# As OpenAI counts them (openai-cookbook, "How to count tokens with tiktoken").
MESSAGE = 4  # tokens of a message beside its text: three, and its role
NAME = 1  # beside the name of who speaks
CALL = 3  # beside the name and the arguments of a call
REPLY = 3  # with which every reply begins; they count as input


_Key = tuple[str, str, int, int]
_tenant: ContextVar[str | None] = ContextVar("tenant", default=None)


class _Known:
    """The counts of recent texts, each by its tenant, its encoding, its length and its hash. Thread-safe.

    No tenant can tell by the time that a count takes what another one has sent. Python's hash of a text has 64 bits,
    and is another one in each process, so that nobody can make two with one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: OrderedDict[_Key, int] = OrderedDict()  # least recently used first
        self._lock = Lock()

    def get(self, key: _Key) -> int | None:
        """Return a count, if it is known."""
        with self._lock:
            found = self._counts.get(key)
            if found is not None:
                self._counts.move_to_end(key)
            return found

    def keep(self, key: _Key, counted: int) -> None:
        """Keep a count, in place of the one that was not needed for longest."""
        with self._lock:
            self._counts[key] = counted
            if len(self._counts) > self._most:
                self._counts.popitem(last=False)


_known = _Known(MOST_KNOWN)


@contextmanager
def known_to(tenant: str) -> Iterator[None]:
    """Keep the counts that are made here for this tenant, and use those that it has had."""
    before = _tenant.set(tenant)
    try:
        yield
    finally:
        _tenant.reset(before)


def count(text: str, most: float = math.inf, *, by: str = O200K) -> int:
    """Return the number of tokens. Special tokens count as text. Blocks: see `LONG`.

    Stops once there are more than `most`, and returns how many were counted until then. Within `known_to` a text is
    counted once: a system prompt and a history come again with each request, and 100,000 tokens take 20 ms.

    A text longer than `PIECE` is counted in pieces, since the splitting expression recurses once per character of a run
    of white space, and panics after some hundred thousand. They are cut where a token ends anyhow. Only in a word, or a
    run of white space or signs, that is longer than `borders.WINDOW` a cut may add a token.
    """
    tenant = _tenant.get()
    key = None if tenant is None else (tenant, by, len(text), hash(text))
    if key is not None and (known := _known.get(key)) is not None:
        return known
    encode = encoding(by).encode_ordinary
    counted = at = 0
    while at < len(text) and counted <= most:
        end = border(text, at, at + PIECE) if at + PIECE < len(text) else len(text)
        counted += len(encode(text[at:end]))
        at = end
    if key is not None and at == len(text):
        _known.keep(key, counted)
    return counted


def count_message(message: Message, most: float = math.inf, *, by: str = O200K) -> int:
    """Return the tokens of a message: texts, tool calls, reasoning and refusal, `MEDIA` for each part without text.

    Stops once there are more than `most`, and returns how many were counted until then.
    """
    counted, texts = MESSAGE + CALL * len(message.calls), []
    for part in message.parts:
        text = part if isinstance(part, str) else part.text
        if text:
            texts.append(text)
        elif isinstance(part, Media):
            counted += MEDIA
    if message.name:
        counted += NAME
        texts.append(message.name)
    texts += filter(None, (message.reasoning, message.refusal))
    for call in message.calls:
        texts += call.name, call.arguments
    for text in texts:
        if counted > most:
            break
        counted += count(text, most - counted, by=by)
    return counted


def count_tools(tools: Sequence[Tool], *, has_system: bool = False, by: str = O200K) -> int:
    """Return the tokens of tools, as OpenAI writes them into the prompt; `has_system`: into its system prompt."""
    if not tools:
        return 0
    return AROUND - IN_SYSTEM * has_system + count(rendered(tools), by=by)


def count_fixed(prompt: Prompt, *, by: str = O200K) -> int:
    """Return the tokens of a prompt beside its messages: tools, format, and how the reply begins."""
    has_system = any(message.role == "system" for message in prompt.messages)
    tools = count_tools(prompt.tools, has_system=has_system, by=by)
    return REPLY + tools + count_format(prompt.format, by=by)


def count_format(form: Format | None, *, by: str = O200K) -> int:
    """Return the tokens of the format of an answer, if it has a schema."""
    return 0 if form is None or form.schema is None else count(format_text(form), by=by)


def count_prompt(prompt: Prompt, *, by: str = O200K) -> int:
    """Return the tokens of a prompt."""
    return count_fixed(prompt, by=by) + sum(count_message(message, by=by) for message in prompt.sent)


def count_output(parts: Sequence[str], asides: Sequence[Aside], *, by: str = O200K) -> int:
    """Return the tokens of a model's output, reasoning and tool calls included.

    Of a long one the beginning and the end are counted. The rest has as many tokens for each delta as they have, which
    is one at most providers: so it is rarely wrong, though it is an estimate.
    """
    texts = [*parts, *filter(None, map(_text, asides))]
    size = sum(map(len, texts))
    if size <= LONG:
        return count("".join(texts), by=by)
    first, last = _until(texts, LONG // 2), _until(reversed(texts), LONG // 2)
    if not first or not last:  # a long text came as one
        sample = "".join(texts)[:LONG]
        return math.ceil(count(sample, by=by) * size / len(sample))
    counted = count("".join(first), by=by) + count("".join(reversed(last)), by=by)
    return math.ceil(counted * len(texts) / (len(first) + len(last)))


def running_output(parts: Sequence[str], asides: Sequence[Aside]) -> int:
    """Return a cheap estimate of `count_output`, rarely too high: one token per text delta, asides by length."""
    return len(parts) + sum(len(_text(aside)) for aside in asides) // SPARSE


def bytes_of(text: str) -> int:
    """Return the bytes of a text in UTF-8, at once: of a long one that is not all ASCII, about."""
    if text.isascii():
        return len(text)
    sample = text if len(text) <= LONG else text[:: len(text) // LONG]
    return len(sample.encode(errors="replace")) * len(text) // len(sample)


def estimate(size: int) -> int:
    """Return ceil(UTF-8 bytes / 3)."""
    return -(-size // BYTES_PER_TOKEN)


def _until(texts: Iterable[str], most: int) -> list[str]:
    """Return the first texts that have no more than `most` characters together."""
    taken: list[str] = []
    for text in texts:
        most -= len(text)
        if most < 0:
            break
        taken.append(text)
    return taken


def _text(aside: Aside) -> str:
    match aside:
        case CallPiece():
            return aside.name + aside.arguments
        case OwnFields() | Sealed():
            return ""
    return aside.text
