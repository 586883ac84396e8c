"""The program of MiniLM's process: how alike a question and others are, one message after another.

A message is a list of groups of texts, of which the first is the question. All that is new in them is embedded
together, and so are all pairs that are near enough read. The answer is, for each group, a list of cosines and log odds.
Before the first message it says None, or why it cannot work.
"""

import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from millrace.caches.decision.verifier import Verifier
from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.embedders.weights import Array, WeightsError
from millrace.children.child import LENGTH
from millrace.heap import give_back

NEAR = 0.7  # cosine of a pair that the verifier reads; none below it is served
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
            rows = self._network.embed_all(new)  # one array, which a view of one row would keep whole
            self._kept |= {text: row.copy() for text, row in zip(new, rows, strict=True)}
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
        vectors, verifier = Vectors(MiniLM()), Verifier()
    except (WeightsError, ImportError, OSError) as error:
        _write(answers, str(error))
        return
    _compared([["What is read once is quick to read again."] * 2], vectors, verifier)
    give_back()  # what loading has freed: some 8 MB
    _write(answers, None)
    while groups := _read(messages):
        _write(answers, _compared(groups, vectors, verifier))


def _compared(groups: list[list[str]], vectors: Vectors, verifier: Verifier) -> list[list[tuple[float, float | None]]]:
    found = vectors.of([text for group in groups for text in group])
    pairs = [(group[0], text) for group in groups for text in group[1:]]
    cosines = [float(found[a] @ found[b]) for a, b in pairs]
    near = [pair for pair, cosine in zip(pairs, cosines, strict=True) if cosine >= NEAR]
    log_odds = iter(verifier.judge_all(near) if near else ())
    compared = iter([(cosine, next(log_odds) if cosine >= NEAR else None) for cosine in cosines])
    return [[next(compared) for _ in group[1:]] for group in groups]


def _read(file: BinaryIO) -> Any:
    header = file.read(LENGTH.size)
    return msgspec.msgpack.decode(file.read(LENGTH.unpack(header)[0])) if len(header) == LENGTH.size else None


def _write(file: BinaryIO, message: Any) -> None:
    data = msgspec.msgpack.encode(message)
    file.write(LENGTH.pack(len(data)) + data)
    file.flush()


if __name__ == "__main__":
    main()
