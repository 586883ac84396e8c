"""Token counts: tiktoken's o200k_base, exact and without the network, from ranks that the package carries.

Load it once at the start (`encoding()` takes most of a second); until then every count would.
"""

import hashlib
import lzma
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

import msgspec
import tiktoken

from millrace.types import Aside, CallPiece, Media, Message, Prompt, Tool

NAME = "o200k_base"
SHA256 = "74c6f5af06dd76707df670b80098f8be24afcd25ffae041f3df869abdcf63f65"  # of the compressed ranks
SPECIAL = {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}
LONG = 8_000  # characters above which a count leaves the loop: it takes more than about a millisecond
MEDIA = 765  # an image, a file, a recording: what a 1024x1024 image costs with OpenAI, for want of a look into it
SPARSE = 5  # characters a token has at most, more or less; high on purpose, so that an estimate errs downwards
BYTES_PER_TOKEN = 3  # where there is no time to count; low on purpose, so that an estimate errs upwards


@cache
def encoding() -> tiktoken.Encoding:
    """Return the encoding, built of the package's own data."""
    folder = resources.files("millrace.ranks")
    packed = folder.joinpath(f"{NAME}.xz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise RuntimeError(f"the ranks of {NAME} are damaged; install millrace again")
    pattern = folder.joinpath(f"{NAME}.pattern").read_text("utf-8")
    return tiktoken.Encoding(
        NAME, pat_str=pattern, mergeable_ranks=_unpack(lzma.decompress(packed)), special_tokens=SPECIAL
    )


def count(text: str) -> int:
    """Return the exact number of tokens; special tokens in a text are text. Off the loop for long ones."""
    return len(encoding().encode_ordinary(text)) if text else 0


def count_message(message: Message) -> int:
    """Return the tokens of all a message says, tool calls and reasoning included; `MEDIA` for what is no text."""
    media = sum(MEDIA for part in message.parts if isinstance(part, Media))
    called = sum(count(text) for call in message.calls for text in (call.name, call.arguments))
    return media + called + sum(map(count, (*message.texts, message.reasoning, message.refusal)))


def count_tools(tools: Iterable[Tool]) -> int:
    """Return the tokens of the tools' names, descriptions and schemas as JSON; providers' own forms differ a little."""
    return sum(count(text) for tool in tools for text in (tool.name, tool.description or "", _schema(tool)))


def count_prompt(prompt: Prompt) -> int:
    """Return the tokens of all messages and tools; what a provider adds per message is not in it."""
    return sum(map(count_message, prompt.sent)) + count_tools(prompt.tools)


def count_output(parts: Sequence[str], asides: Sequence[Aside]) -> int:
    """Return the tokens of all a model has said, reasoning and tool calls included; an estimate where it is long."""
    text = "".join(parts) + "".join(map(_words, asides))
    return count(text) if len(text) <= LONG else estimate(len(text.encode()))


def running_output(parts: Sequence[str], asides: Sequence[Aside]) -> int:
    """Return about as many tokens, cheaply and hardly ever more: one for each text delta, asides by their length."""
    return len(parts) + sum(len(_words(aside)) for aside in asides) // SPARSE


def _words(aside: Aside) -> str:
    return aside.name + aside.arguments if isinstance(aside, CallPiece) else aside.text


def _schema(tool: Tool) -> str:
    return "" if tool.parameters is None else msgspec.json.encode(tool.parameters).decode()


def estimate(size: int) -> int:
    """Return ceil(UTF-8 bytes / 3)."""
    return -(-size // BYTES_PER_TOKEN)


def _unpack(packed: bytes) -> dict[bytes, int]:
    """Return token -> rank of a sequence of (length, bytes) in the order of the ranks."""
    ranks: dict[bytes, int] = {}
    at = 0
    while at < len(packed):
        end = at + 1 + packed[at]
        ranks[packed[at + 1 : end]] = len(ranks)
        at = end
    return ranks
