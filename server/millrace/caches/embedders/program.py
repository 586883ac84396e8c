"""The program of MiniLM's process: cosines of a question with others, one message after another.

A message is a list of groups of texts, of which the first is the question. All that is new in them is embedded
together. The answer is a list of cosines for each group. Before the first message it says None, or why it cannot work.
"""

import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.embedders.weights import Array, WeightsError
from millrace.children.child import LENGTH

MOST_KEPT = 4096  # vectors of texts that were compared lately, about 2 KB each


class Vectors:
    """The vectors of texts, the latest of which are kept: what is stored is compared again and again."""

    def __init__(self, network: MiniLM) -> None:
        self._network = network
        self._kept: dict[str, Array] = {}  # least recently used first

    def of(self, texts: Sequence[str]) -> dict[str, Array]:
        """Return the vector of each text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        if new:
            self._kept |= zip(new, self._network.embed_all(new), strict=True)
        found = {text: self._kept.pop(text) for text in dict.fromkeys(texts)}
        self._kept |= found
        while len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return found


def main() -> None:
    """Answer until the other end closes."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the server says when to end
        signal.signal(ignored, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    messages, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        vectors = Vectors(MiniLM())
    except (WeightsError, ImportError, OSError) as error:
        _write(answers, str(error))
        return
    vectors.of(["What is read once is quick to read again."])
    _write(answers, None)
    while groups := _read(messages):
        found = vectors.of([text for group in groups for text in group])
        _write(answers, [[float(found[group[0]] @ found[text]) for text in group[1:]] for group in groups])


def _read(file: BinaryIO) -> Any:
    header = file.read(LENGTH.size)
    return msgspec.msgpack.decode(file.read(LENGTH.unpack(header)[0])) if len(header) == LENGTH.size else None


def _write(file: BinaryIO, message: Any) -> None:
    data = msgspec.msgpack.encode(message)
    file.write(LENGTH.pack(len(data)) + data)
    file.flush()


if __name__ == "__main__":
    main()
