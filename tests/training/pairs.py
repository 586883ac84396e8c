"""Labelled pairs that may train, from files of JSON lines.

A row is `a`, `b` and `same` or `duplicate`, perhaps `kind`; or, of intents, `text` and `intent`. Beside the files of
the folder there are those of `tests/data/pairs`, which were written for this.
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.training.noise import noisy

OWN = Path(__file__).parents[1] / "data" / "pairs"
FOLDS = 5
PAIRS = ("paws_wiki_dev", "paws_wiki_dev_2", "swaps", "adversarial", "paraphrases")
INTENTS = ("banking77", "clinc150")
ARGUABLE = "arguable"  # rows on which readers differ; they train nothing

_NOISY = 0.6  # of the pairs of questions, get a noisy copy of one of them beside
_NOISY_OTHERS = 0.3  # of the pairs of different questions, one side of which gets noisy
_NEAREST = 60  # texts of other intents that are looked at

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether one answer does for both."""

    a: str
    b: str
    same: bool
    source: str
    kind: str = ""
    folds: frozenset[int] = frozenset()  # those that must not see it in training


def load(folder: Path, embed: Embed) -> list[Pair]:
    """Return all pairs; those that share a text, an intent or a kind of trap are in one fold."""
    chance = random.Random(5)
    pairs = [pair for name in PAIRS for pair in _read(folder / f"{name}.jsonl", name)]
    pairs += [pair for file in sorted(OWN.glob("*.jsonl")) for pair in _read(file, "own")]
    pairs += list(_noisy(pairs, chance))
    return _folded(pairs) + [pair for name in INTENTS for pair in _of_intents(folder, name, embed, chance)]


def _read(file: Path, source: str) -> Iterable[Pair]:
    for row in rows(file):
        doubtful = row.get("grade", "clear") != "clear"
        same = bool(row.get("same", row.get("duplicate")))
        yield Pair(row["a"], row["b"], same, ARGUABLE if doubtful else source, row.get("kind", ""))


def rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]


def _noisy(pairs: list[Pair], chance: random.Random) -> Iterable[Pair]:
    for pair in pairs:
        if pair.source in {"own", "paraphrases", "swaps"} and chance.random() < _NOISY:
            yield Pair(pair.a, noisy(pair.a, chance), True, "noise")
        if pair.source == "own" and not pair.same and chance.random() < _NOISY_OTHERS:
            yield replace(pair, a=noisy(pair.a, chance), source="noise")


def _folded(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs, each with the fold of all pairs that are linked to it by texts."""
    above: dict[str, str] = {}

    def top(text: str) -> str:
        while above.setdefault(text, text) != text:
            above[text] = text = above[above[text]]
        return text

    for pair in pairs:
        above[top(pair.a.lower())] = top(pair.b.lower())

    def folds(pair: Pair) -> frozenset[int]:
        keys = [top(pair.a.lower())] + [pair.kind] * (pair.source in {"adversarial", ARGUABLE})
        return frozenset(map(fold_of, keys))

    return [replace(pair, folds=folds(pair)) for pair in pairs]


def fold_of(key: str) -> int:
    """Return the fold of a text, a kind or an intent."""
    return int(md5(key.encode(), usedforsecurity=False).hexdigest(), 16) % FOLDS


def _of_intents(folder: Path, name: str, embed: Embed, chance: random.Random) -> Iterable[Pair]:
    """Yield near texts of one intent, which one answer does for, and of two."""
    said = rows(folder / f"{name}_test_intents.jsonl")
    one_answer = {row["intent"] for row in said}
    if name == "clinc150":
        kinds = json.loads((folder / "clinc150_kinds.json").read_text("utf-8"))
        one_answer = set(kinds["one_answer"])
        said = [row for row in said if row["intent"] in one_answer | set(kinds["slots"])]
    texts, intents = [row["text"] for row in said], [row["intent"] for row in said]
    vectors = embed(texts)
    for at, (text, intent) in enumerate(zip(texts, intents, strict=True)):
        nearest = [int(other) for other in np.argsort(-(vectors @ vectors[at])) if other != at]
        alike = [i for i in nearest if intents[i] == intent and texts[i].lower() != text.lower()]
        unlike = [i for i in nearest[:_NEAREST] if intents[i] != intent]
        fold = fold_of(intent)
        if intent in one_answer:
            for i in sorted({alike[0], chance.choice(alike[:6]), chance.choice(alike)}):
                yield Pair(text, texts[i], True, name, folds=frozenset({fold}))
        for i in unlike[:2] + ([chance.choice(unlike[2:8])] if len(unlike) > 8 else []):
            yield Pair(text, texts[i], False, name, folds=frozenset({fold, fold_of(intents[i])}))
        if chance.random() < 1 / 2:
            yield Pair(text, noisy(text, chance), True, f"{name}_noise", folds=frozenset({fold}))
