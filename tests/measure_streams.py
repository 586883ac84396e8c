"""How much of a stream of questions the semantic cache serves, and how much of that with another question's answer.

    python -m tests.measure_streams FILE [--kinds FILE] [--seeds N] [--verifier FILE ...]

A row is {"text", "intent"}. The texts are shuffled; one half is stored, the other asked. An answer is right if both
have one intent. --kinds sorts the intents into groups, each of which gets a row. With several --verifier, of which the
first was trained without the intents of the first fold and so on, only questions of these folds are asked, each of the
verifier that has not seen its intent.
"""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from millrace.caches.decider import Chosen, Decider
from millrace.caches.decision.mix import shipped
from millrace.caches.decision.verifier import FILE, Verifier
from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.embedders.program import NEAR
from millrace.caches.finder import Finder
from millrace.caches.learning.knowledge import Knowledge
from millrace.caches.partition import Stored
from millrace.caches.segment import NEAREST
from millrace.ports import Likeness
from millrace.types import SemanticMiss
from tests.training.pairs import fold_of, rows

READ = 4  # candidates, as in the service


@dataclass(slots=True)
class Count:
    """What came of the questions of a group."""

    asked: int = 0
    refused: int = 0  # not to be cached
    compared: int = 0  # by the networks
    served: int = 0
    wrong: int = 0
    wrongly: Counter[tuple[str, str]] = field(default_factory=Counter)


class Cache:
    """The steps of a lookup, with what they say of a text or a pair kept for the next seed."""

    def __init__(self, texts: list[str], verifiers: list[Verifier], threshold: float | None) -> None:
        self._finder, network = Finder(), MiniLM()
        self._found = {text: self._finder.embed(text) for text in track(texts, "finder")}
        self._tokens = {text: self._finder.tokens(text) for text in texts}
        self._vectors = {text: network.embed(text) for text in track(texts, "MiniLM")}
        self.decider = Decider(2**30, compares=True, aligns=True)
        self.guidance = Knowledge(shipped()["networks"], threshold).guidance("", b"", "")
        self._verifiers = verifiers
        self._log_odds: dict[tuple[str, str], float] = {}

    def candidates(self, text: str, stored: list[str]) -> list[tuple[float, Stored]]:
        """Return those that the guards read."""
        cosines = np.stack([self._found[each] for each in stored]) @ self._found[text]
        near = [int(at) for at in np.argsort(-cosines)[:NEAREST] if cosines[at] >= self._finder.threshold]
        if not near:
            return []
        aligned = self._finder.align(self._tokens[text], [self._tokens[stored[at]] for at in near])
        best = sorted(zip(aligned, near, strict=True), reverse=True)[:READ]
        return [(one, Stored("", stored[at], b"", 0.0)) for one, at in best if one >= self._finder.least]

    def likeness(self, asked: str, stored: str, fold: int) -> Likeness:
        """Return what the networks say of a pair."""
        cosine = float(self._vectors[asked] @ self._vectors[stored])
        if cosine < NEAR:
            return Likeness(cosine, None)
        if (asked, stored) not in self._log_odds:
            verifier = self._verifiers[fold % len(self._verifiers)]
            (self._log_odds[asked, stored],) = verifier.judge_all([(asked, stored)])
        return Likeness(cosine, self._log_odds[asked, stored])


def ask(cache: Cache, text: str, stored: list[str], fold: int, count: Count) -> str | None:
    """Return the stored question whose answer is served."""
    if cache.decider.reusable(text) is not None:
        count.refused += 1
        return None
    candidates = cache.candidates(text, stored)
    judged = cache.decider.judged(text, candidates, cache.guidance) if candidates else None
    if not isinstance(judged, list):
        return judged.entry.question if isinstance(judged, Chosen) else None
    count.compared += 1
    likenesses = [cache.likeness(text, each.entry.question, fold) for each in judged]
    for many in (1, len(judged)):
        chosen: Chosen | SemanticMiss = cache.decider.compared(text, judged[:many], likenesses[:many], cache.guidance)
        if isinstance(chosen, Chosen):
            return chosen.entry.question
    return None


@click.command(help=__doc__)
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--kinds", type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", type=int, default=10, show_default=True)
@click.option("--verifier", "verifiers", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--threshold", type=float, help="another than the shipped one")
@click.option("--only", help="only texts of this group are in the stream")
@click.option("--show", type=int, default=0, help="print so many wrong pairs")
def main(
    file: Path, kinds: Path | None, seeds: int, verifiers: tuple[Path, ...], threshold: float | None, only: str | None,
    show: int,
) -> None:  # fmt: skip
    """See above."""
    groups = {} if kinds is None else json.loads(kinds.read_text("utf-8"))
    group_of = {intent: name for name, intents in groups.items() if isinstance(intents, list) for intent in intents}
    said = rows(file)
    if only is not None:
        said = [row for row in said if group_of.get(row["intent"], "") == only]
    intents = {row["text"]: row["intent"] for row in said}
    cache = Cache(list(intents), [Verifier(file=each) for each in verifiers or (FILE,)], threshold)
    counts: dict[str, Count] = {}
    for seed in track(range(seeds), "streams"):
        texts = random.Random(seed).sample(list(intents), len(intents))
        half = len(texts) // 2
        stored = [text for text in texts[:half] if cache.decider.reusable(text) is None]
        for text in texts[half:]:
            if len(verifiers) > 1 and fold_of(intents[text]) >= len(verifiers):
                continue
            count = counts.setdefault(group_of.get(intents[text], "other"), Count())
            count.asked += 1
            served = ask(cache, text, stored, fold_of(intents[text]), count)
            if served is not None:
                count.served += 1
                count.wrong += intents[served] != intents[text]
                if intents[served] != intents[text]:
                    count.wrongly[served, text] += 1
    table = Table(title=f"{file.name}, {seeds} seeds")
    for column in ("questions", "asked", "not to be cached", "compared", "served", "wrong of the served"):
        table.add_column(column, justify="right")
    for name, count in sorted(counts.items()):
        shares = (count.refused, count.compared, count.served)
        wrong = f"{100 * count.wrong / max(count.served, 1):.2f} % ({count.wrong})"
        table.add_row(name, str(count.asked), *(f"{100 * each / count.asked:.1f} %" for each in shares), wrong)
        for (served, text), times in count.wrongly.most_common(show):
            Console().print(f"{times}x {served!r} for {text!r}", markup=False)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
