"""How often the semantic cache serves pairs of questions, and how often it should not have.

    python -m tests.measure_semantic tests/data/paraphrases.jsonl [more.jsonl ...] [--rows N]
        [--hashing | --recall | --hard]

A row is {"a", "b"} with "same" (true or false) or "duplicate" (1 or 0), and perhaps "kind". Each pair is a cache of
one entry, `a`, asked for `b`: whether both may be cached, the finder, the rules and the decision.
With --hard, only hard objections decide.

With --recall, the cache has `b` of every row. Of the duplicates whose `b` MiniLM puts first, at a cosine of .70 or
more, it is measured how many the finder finds.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from millrace.caches.decision import features
from millrace.caches.decision.mix import probability, shipped
from millrace.caches.decision.verifier import Verifier
from millrace.caches.embedders import weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.embedders.program import NEAR
from millrace.caches.finder import Finder
from millrace.caches.guards import Question, judge
from millrace.caches.partition import Partition, Stored
from millrace.caches.reusable import reusable
from millrace.caches.segment import NEAREST
from millrace.ports import Embedder, Likeness

LEAST = 0.7  # cosine of a partner that the finder has to find
BATCH = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether one answer does for both."""

    a: str
    b: str
    same: bool
    kind: str

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Pair":
        return cls(row["a"], row["b"], bool(row.get("same", row.get("duplicate"))), row.get("kind", ""))


class Networks:
    """Both that the service asks, in this process."""

    def __init__(self) -> None:
        self.minilm, self._verifier = MiniLM(), Verifier()

    def likeness(self, pair: Pair) -> Likeness:
        """Return what the service would be told."""
        first, second = self.minilm.embed_all([pair.a, pair.b])
        cosine = float(first @ second)
        log_odds = self._verifier.judge_all([(pair.a, pair.b)])[0] if cosine >= NEAR else None
        return Likeness(cosine, log_odds)


def read(path: Path, rows: int | None = None) -> list[Pair]:
    """Return the pairs of a file, the first `rows` of them."""
    lines = path.read_text("utf-8").splitlines()[:rows]
    return [Pair.of(json.loads(line)) for line in lines]


def objection(pair: Pair, embedder: Embedder, finder: Finder | None, networks: Networks | None) -> str | None:
    """Return None where `a`'s answer would be served for `b`, else why it is not."""
    for text in (pair.a, pair.b):
        reason = reusable(text)
        if reason is not None:
            return reason
    found = float(embedder.embed(pair.a) @ embedder.embed(pair.b))
    if found < embedder.threshold:
        return f"not found ({found:.2f})"
    a, b = Question.read(pair.a), Question.read(pair.b)
    judgement = judge(a, b)
    if judgement.hard:
        return judgement.hard[0].reason
    if finder is not None:
        (aligned,) = finder.align(finder.tokens(pair.b), [finder.tokens(pair.a)])
        if aligned < finder.least or features.is_far(a, b, judgement, aligned):
            return f"not aligned ({aligned:.2f})"
    weights = shipped()["networks" if networks else "alone"]
    likeness = None if networks is None else networks.likeness(pair)
    chance = probability(weights, a, b, judgement, likeness)
    if chance >= weights.threshold:
        return None
    soft = ", ".join(each.reason for each in judgement.soft)
    return f"only {chance:.0%} sure ({soft or likeness})"


def hard_objection(pair: Pair) -> str | None:
    """Return the first hard objection, if there is one."""
    hard = judge(Question.read(pair.a), Question.read(pair.b)).hard
    return hard[0].reason if hard else None


def recall(pairs: list[Pair], finder: Embedder, network: MiniLM, *, indexed: bool) -> list[float | None]:
    """Return how near the finder has each partner that MiniLM puts first; None if it is not among its nearest."""
    stored = sorted({pair.b for pair in pairs})
    partition = Partition(finder.dimensions, 0 if indexed else len(stored))
    for text in stored:
        partition.put(Stored(text, text, b"", 0.0), finder.embed(text))
    while partition.needs_step:
        partition.step()
    vectors = _embedded(network, stored)
    places = {text: place for place, text in enumerate(stored)}
    duplicates = [pair for pair in pairs if pair.same]
    found: list[float | None] = []
    for pair, vector in zip(duplicates, _embedded(network, [pair.a for pair in duplicates]), strict=True):
        cosines = vectors @ vector
        if pair.a in places:
            cosines[places[pair.a]] = -1
        if cosines[places[pair.b]] >= max(LEAST, cosines.max()):
            near = {entry.question: cosine for cosine, entry in partition.nearest(finder.embed(pair.a))}
            found.append(near.get(pair.b))
    return found


def _embedded(network: MiniLM, texts: list[str]) -> NDArray[np.float32]:
    batches = [network.embed_all(texts[begin : begin + BATCH]) for begin in range(0, len(texts), BATCH)]
    return np.concatenate(batches)


def share(served: Iterable[bool]) -> str:
    """Return served of all, in percent."""
    given = list(served)
    return f"{100 * sum(given) / len(given):.1f} % ({sum(given)}/{len(given)})" if given else "-"


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--rows", type=int, help="Only the first rows of each file.")
@click.option("--hashing", is_flag=True, help="Without MiniLM: the hashing embedder, and the stricter decision.")
@click.option("--recall", "only_recall", is_flag=True, help="What the finder finds of what MiniLM puts first.")
@click.option("--hard", is_flag=True, help="What hard objections alone leave.")
@click.option("--show", is_flag=True, help="Print what was served wrongly, and why the rest was not.")
def main(paths: tuple[Path, ...], rows: int | None, hashing: bool, only_recall: bool, hard: bool, show: bool) -> None:
    """Print hit % of duplicates and false-hit % of others, by file and kind."""
    console = Console()
    networks = Networks() if weights.available() and not (hashing or hard) else None
    finder = Finder() if networks else None
    embedder: Embedder = finder or Hashing()
    decision = shipped()["networks" if networks else "alone"]
    title = "hard objections alone" if hard else f"{decision.version}, probability >= {decision.threshold}"
    table = Table("file", "kind", "hits", "false hits", title=title)
    if networks and finder and only_recall:
        pairs = [pair for path in paths for pair in read(path, rows)]
        for how, indexed in (("row by row", False), ("by index", True)):
            found = recall(pairs, finder, networks.minilm, indexed=indexed)
            nearest = share(cosine is not None for cosine in found)
            candidates = share((cosine or 0) >= finder.threshold for cosine in found)
            console.print(f"{how}: {nearest} among the nearest {NEAREST}, {candidates} at {finder.threshold} or more")
        return
    for path in paths:
        pairs = read(path, rows)
        tracked = track(pairs, description=path.name, console=console)
        reasons = [hard_objection(pair) if hard else objection(pair, embedder, finder, networks) for pair in tracked]
        for kind in [*sorted({pair.kind for pair in pairs} - {""}), "all"]:
            chosen = [(p.same, why is None) for p, why in zip(pairs, reasons, strict=True) if kind in ("all", p.kind)]
            hits, false_hits = ([served for same, served in chosen if same is wanted] for wanted in (True, False))
            table.add_row(path.stem, kind, share(hits), share(false_hits))
        for pair, why in zip(pairs, reasons, strict=True):
            if show and pair.same != (why is None):
                console.print(f"{why or 'SERVED'} | {pair.a} | {pair.b}", markup=False, highlight=False)
    console.print(table)


if __name__ == "__main__":
    main()
