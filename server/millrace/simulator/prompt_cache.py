"""A simple model of a provider's prompt cache and of its input token count.

As OpenAI's: the longest beginning that an earlier request with the same `prompt_cache_key` had too is read from the
cache, in steps of 128 tokens, if it has at least 1024.
"""

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from millrace.simulator.conversation import Message
from millrace.simulator.question import Tool

CHARS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
MEDIA_TOKENS = 765  # of any image, file or recording
CACHEABLE_TOKENS, STEP_TOKENS = 1024, 128
CAPACITY = 65_536  # beginnings


def count_tokens(chars: int, messages: int) -> int:
    """Return the input tokens of `messages` messages with `chars` characters in total."""
    return -(-chars // CHARS_PER_TOKEN) + TOKENS_PER_MESSAGE * messages


class PromptCache:
    """Remembers beginnings of past prompts."""

    def __init__(self) -> None:
        self._digests: dict[bytes, None] = {}  # oldest first

    def charge(self, messages: Sequence[Message], tools: Sequence[Tool] = (), key: str = "") -> tuple[int, int]:
        """Return the input tokens of a prompt and how many of them were cached; then cache the prompt."""
        opening = msgspec.json.encode(tools).decode() if tools else ""
        texts = [message.text + message.tool_call_text for message in messages]
        media = [message.media.total() for message in messages]
        chars = len(opening) + sum(map(len, texts)) + sum(media) * MEDIA_TOKENS * CHARS_PER_TOKEN
        total = count_tokens(chars, len(messages))
        if total < CACHEABLE_TOKENS:
            return total, 0
        head, medium = TOKENS_PER_MESSAGE * CHARS_PER_TOKEN, " " * (MEDIA_TOKENS * CHARS_PER_TOKEN)
        parts = [
            f"{message.role:{head}}{text}{medium * files}"
            for message, text, files in zip(messages, texts, media, strict=True)
        ]
        # A provider never reports a whole prompt as cached.
        return total, min(self.found("".join((opening, *parts)), key), (total - 1) // STEP_TOKENS * STEP_TOKENS)

    def found(self, prompt: str, key: str = "") -> int:
        """Return how many tokens of a prompt were cached; then cache it. Whoever has another key finds nothing."""
        cached, whole = 0, True
        for tokens, digest in _beginnings(prompt, key):
            whole = whole and digest in self._digests
            cached = tokens if whole and tokens >= CACHEABLE_TOKENS else cached
            self._digests.pop(digest, None)
            self._digests[digest] = None
        while len(self._digests) > CAPACITY:
            del self._digests[next(iter(self._digests))]
        return cached


def _beginnings(prompt: str, key: str) -> Iterator[tuple[int, bytes]]:
    """Yield the tokens and a digest of the first step, of the first two, and so on."""
    step = STEP_TOKENS * CHARS_PER_TOKEN
    digest = hashlib.sha256(f"{key}\0".encode())
    for end in range(step, len(prompt) + 1, step):
        digest.update(prompt[end - step : end].encode(errors="replace"))
        yield end // CHARS_PER_TOKEN, digest.digest()
