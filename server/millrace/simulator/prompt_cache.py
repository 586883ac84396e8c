"""A simple model of a provider's prompt cache, and of how it counts a prompt."""

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from millrace.simulator.conversation import Message
from millrace.simulator.question import Tool

CHARS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
MEDIA_TOKENS = 765  # of an image, a file or a recording, whatever is in it
CACHEABLE_TOKENS = 256
CAPACITY = 4096


def count_tokens(chars: int, messages: int) -> int:
    """The input tokens of so many messages with so many characters in all."""
    return -(-chars // CHARS_PER_TOKEN) + TOKENS_PER_MESSAGE * messages


class PromptCache:
    """Remembers the openings of past prompts, in whole messages."""

    def __init__(self) -> None:
        self._seen: dict[bytes, None] = {}  # oldest first

    def charge(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> tuple[int, int]:
        """The tokens of a prompt and how many of them are cached; the prompt is remembered."""
        *openings, (whole, total) = _prefixes(messages, msgspec.json.encode(tools) if tools else b"")
        # The last message is new by definition: a provider never finds all of a prompt in its cache.
        cached = max((tokens for digest, tokens in openings if digest in self._seen), default=0)
        self._remember(digest for digest, tokens in [*openings, (whole, total)] if tokens >= CACHEABLE_TOKENS)
        return total, cached

    def _remember(self, digests: Iterator[bytes]) -> None:
        for digest in digests:
            self._seen.pop(digest, None)
            self._seen[digest] = None
        while len(self._seen) > CAPACITY:
            del self._seen[next(iter(self._seen))]


def _prefixes(messages: Sequence[Message], tools: bytes) -> Iterator[tuple[bytes, int]]:
    """The digest and the tokens of the tools with the first message, the first two, and so on."""
    digest, chars = tools, len(tools)
    for count, message in enumerate(messages, start=1):
        said = message.text + message.called
        media = message.media.total()
        digest = hashlib.sha256(digest + f"{message.role}\0{media}\0{said}".encode()).digest()
        chars += len(said) + media * MEDIA_TOKENS * CHARS_PER_TOKEN
        yield digest, count_tokens(chars, count)
