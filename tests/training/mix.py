"""Fit what weighs the word of the verifier and the features of a pair, and write the weights.

    python -m tests.training.mix SCORES [SCORES ...] [--write]

SCORES are what `tests.training.verifier` wrote for each fold. A pair counts only in the fold that did not train on it,
and the hits that are printed are of weights that were fitted without it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import millrace.caches.decision
from millrace.caches.decision import features
from millrace.caches.decision.mix import AGREED, FILE, Weights
from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.guards import Judgement, Question, judge
from millrace.ports import Likeness
from tests.training.pairs import ARGUABLE, FOLDS, fold_of, rows as read

BATCH = 64
VERSION = 3  # of the weights: increase it when they change
RIDGE = 2.0  # of the weights, squared
STEPS = 30
NEAREST = 0.7  # cosine of a pair that the networks are asked about
# How much a pair of a source counts; else 1. The traps are few, and the worst to fall into.
COUNTS = {
    "adversarial": 6.0,
    "banking77": 0.6,
    "clinc150": 0.8,
    "noise": 0.3,
    "banking77_noise": 0.2,
    "clinc150_noise": 0.2,
    ARGUABLE: 0.0,
}
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """A pair with all that is known of it."""

    source: str
    kind: str
    same: bool
    fold: int
    is_code: bool  # compared as it stands
    judgement: Judgement
    texts: dict[str, float]  # its features
    likeness: Likeness

    @property
    def is_open(self) -> bool:
        """Whether no rule rules it out, so that it is weighed."""
        return not self.judgement.hard and not self.is_code


def scored(rows: Sequence[dict[str, object]]) -> list[Scored]:
    """Return the pairs of rows that have `log_odds`."""
    found: list[Scored] = []
    texts = list(dict.fromkeys(str(row[side]) for row in rows for side in "ab"))
    vectors = dict(zip(texts, _embedded(texts), strict=True))
    for row in track(rows, "judging"):
        a, b = str(row["a"]), str(row["b"])
        left, right = Question.read(a), Question.read(b)
        judgement = judge(left, right)
        found.append(
            Scored(
                source=str(row["source"]),
                kind=str(row.get("kind", "")),
                same=bool(row["same"]),
                fold=fold_of(min(a, b).lower()),
                is_code=left.verbatim is not None or right.verbatim is not None,
                judgement=judgement,
                texts=features.of_texts(left, right, judgement),
                likeness=Likeness(float(vectors[a] @ vectors[b]), float(str(row["log_odds"]))),
            )
        )
    return found


def _embedded(texts: Sequence[str]) -> Iterable[NDArray[np.float32]]:
    network = MiniLM()
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    found = np.empty((len(texts), network.dimensions), np.float32)
    for begin in track(range(0, len(order), BATCH), "embedding"):
        part = order[begin : begin + BATCH]
        found[part] = network.embed_all([texts[at] for at in part])
    return found


class Regression:
    """A logistic regression with a ridge, by Newton's method."""

    def __init__(self, names: Sequence[str], known: Callable[[Scored], dict[str, float]]) -> None:
        self.names = list(names)
        self._known = known

    def matrix(self, pairs: Sequence[Scored]) -> Floats:
        """Return a row of features for each pair; the last is 1."""
        at = {name: index for index, name in enumerate(self.names)}
        found = np.zeros((len(pairs), len(at) + 1))
        found[:, -1] = 1
        for row, pair in zip(found, pairs, strict=True):
            for name, value in self._known(pair).items():
                if name in at:
                    row[at[name]] = value
        return found

    def fit(self, x: Floats, labels: Floats, counts: Floats) -> Floats:
        """Return the weights; the last is the bias."""
        weights = np.zeros(x.shape[1])
        ridge = np.full(len(weights), RIDGE)
        ridge[-1] = 1e-6
        for _ in range(STEPS):
            chance = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
            slope = x.T @ (counts * (chance - labels)) + ridge * weights
            curve = (x * (counts * chance * (1 - chance))[:, None]).T @ x + np.diag(ridge)
            step = np.linalg.solve(curve, slope)
            weights -= step
            if np.abs(step).max() < 1e-6:
                break
        return weights


def with_networks(pair: Scored) -> dict[str, float]:
    """Return all features."""
    return pair.texts | features.of_networks(pair.likeness)


def without_networks(pair: Scored) -> dict[str, float]:
    """Return those that need no network."""
    return pair.texts


def fitted(pairs: Sequence[Scored], known: Callable[[Scored], dict[str, float]]) -> tuple[Regression, Floats, Floats]:
    """Return a regression, its weights, and the chance of each pair by weights that were fitted without it."""
    names = sorted({name for pair in pairs if pair.is_open for name in known(pair)})
    regression = Regression(names, known)
    x = regression.matrix(pairs)
    labels = np.array([float(pair.same) for pair in pairs])
    counts = np.array([COUNTS.get(pair.source, 1.0) * pair.is_open for pair in pairs])
    folds = np.array([pair.fold for pair in pairs])
    chances = np.zeros(len(pairs))
    for fold in range(FOLDS):
        held = folds == fold
        weights = regression.fit(x[~held], labels[~held], counts[~held])
        chances[held] = 1 / (1 + np.exp(-x[held] @ weights))
    ruled_out = np.array([bool(pair.judgement.hard) for pair in pairs])
    as_it_stands = np.array([pair.is_code for pair in pairs])
    return regression, regression.fit(x, labels, counts), np.where(ruled_out, 0, np.where(as_it_stands, 1, chances))


def report(console: Console, pairs: Sequence[Scored], chances: Floats, title: str) -> None:
    """Print, for each source and threshold, the share of the same and of other pairs that would be served."""
    table = Table(title=f"{title}: served of the same / of others, %")
    for column in ("pairs of", "same", "others", "open", *map(str, THRESHOLDS)):
        table.add_column(column, justify="right")
    sources = np.array([pair.source for pair in pairs])
    same = np.array([pair.same for pair in pairs])
    is_open = np.array([not pair.judgement.hard for pair in pairs])
    for source in sorted(set(sources)):
        here = sources == source
        sides = here & same, here & ~same
        cells = [
            " / ".join(f"{100 * above[side].mean():.1f}" if side.any() else "-" for side in sides)
            for above in (is_open, *(chances >= threshold for threshold in THRESHOLDS))
        ]
        table.add_row(source, *(str(int(side.sum())) for side in sides), *cells)
    console.print(table)


@click.command(help=__doc__)
@click.argument("scores", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--write", is_flag=True, help="write the weights that the service uses")
@click.option("--threshold", type=float, default=0.835, show_default=True)
@click.option("--alone", type=float, default=0.83, show_default=True, help="the threshold without the networks")
def main(scores: tuple[Path, ...], write: bool, threshold: float, alone: float) -> None:
    """See above."""
    rows = [row for file in scores for row in read(file)]
    rows = list({(row["a"], row["b"], row["source"]): row for row in rows}.values())
    pairs = scored(rows)
    near = [pair for pair in pairs if pair.likeness.cosine >= NEAREST]
    console = Console(width=170)
    found: dict[str, Weights] = {}
    for name, some, known, least in (
        ("networks", near, with_networks, threshold),
        ("alone", pairs, without_networks, alone),
    ):
        regression, weights, chances = fitted(some, known)
        report(console, some, chances, name)
        listed = {each: round(float(weight), 4) for each, weight in zip(regression.names, weights, strict=False)}
        listed |= {AGREED: 1.0} if known is with_networks else {}
        found[name] = Weights(f"{name}-{VERSION}", least, round(float(weights[-1]), 4), listed)
        for each, weight in sorted(listed.items(), key=lambda item: item[1]):
            console.print(f"  {weight:7.2f}  {each}")
    if write:
        file = Path(millrace.caches.decision.__file__).parent / FILE
        file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


if __name__ == "__main__":
    main()
