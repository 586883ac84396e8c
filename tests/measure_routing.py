"""What the router's score recovers, and whether what `millrace calibrate` promises comes true. It calls no model.

    python -m tests.measure_routing FOLDER [--quick]

FOLDER has `mmlu.jsonl` and `gsm8k.jsonl`: {"prompt", "small_correct", "large_correct"}. Intervals hold 95 % of what
rows drawn anew would show (bootstrap), for the mean over all shuffles.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from click import echo
from numpy.typing import NDArray
from rich.progress import track

from millrace.cli import labelled
from millrace.funnel.routing.calibration import Pairs, Rule, chosen, keeping, scored, with_share
from millrace.funnel.routing.curves import Curve, Floats, Ranked, interval
from millrace.funnel.routing.features import features_of
from millrace.funnel.routing.heads import Heads
from millrace.types import Message, Prompt

FOLDS_AGAIN, FEW, DRAWS, SPLITS, RESAMPLED = 10, 300, 20, 20, 400
MEASURES: dict[str, Callable[[Curve], float]] = {
    "APGR": lambda curve: curve.apgr,
    "CPT50": lambda curve: curve.cpt(0.5),
    "CPT80": lambda curve: curve.cpt(0.8),
}
WANTED = {
    ("mmlu", "APGR"): "at least 0.67",
    ("mmlu", "CPT80"): "at most 0.62",
    ("gsm8k", "APGR"): "at least 0.62, aim 0.65",
}
RULES: dict[str, Rule] = {
    "a share of 0.3": with_share(0.3),
    "95 % of quality": keeping(0.95, 0.95),
    "98 % of quality": keeping(0.98, 0.95),
}


@dataclass(frozen=True, slots=True)
class Came:
    """What became of one threshold on other rows: whether it lies in the intervals, and the promise is kept."""

    share: bool
    quality: bool
    kept: bool


def pairs_of(path: Path) -> Pairs:
    """Return the rows of a file."""
    asked = labelled.read(path, labels=True)
    return Pairs(
        features=[features_of(row.prompt) for row in asked],
        small=np.array([row.small for row in asked], float),
        large=np.array([row.large for row in asked], float),
        keys=[row.prompt.messages[-1].text for row in asked],
    )


def part(pairs: Pairs, rows: NDArray[np.int64]) -> Pairs:
    """Return some of the rows."""
    return Pairs(
        features=[pairs.features[row] for row in rows],
        small=pairs.small[rows],
        large=pairs.large[rows],
        keys=[pairs.keys[row] for row in rows],
    )


def shuffled(pairs: Pairs, times: int) -> str:
    """Return the measures of scores that were cross-validated, with other folds each time."""
    ranked = [
        Ranked(pairs.cross_validated(seed=seed), pairs.small, pairs.large) for seed in _progress(range(times), "folds")
    ]
    lines = []
    rng = np.random.default_rng(7)
    size = len(pairs.small)
    again: list[list[float]] = []
    for _ in range(RESAMPLED):
        counts = np.bincount(rng.integers(0, size, size), minlength=size)
        curves = [each.curve(counts[each.order]) for each in ranked]
        again.append([statistics.fmean(map(measure, curves)) for measure in MEASURES.values()])
    for at, (name, measure) in enumerate(MEASURES.items()):
        values = [measure(each.curve()) for each in ranked]
        found = interval(statistics.fmean(values), np.array(again)[:, at])
        spread = f"{min(values):.3f} to {max(values):.3f} over {times} shuffles"
        lines.append(f"  {name:6} {found.value:.3f} ({found.low:.3f}-{found.high:.3f}); {spread}")
    return "\n".join(lines)


def few_labels(pairs: Pairs, count: int, draws: int, learn: Callable[[Pairs], Heads]) -> Floats:
    """Return the APGR on all other rows, after so many labels, for some draws of them."""
    found = []
    for seed in _progress(range(draws), f"{count} labels"):
        rows = np.random.default_rng(seed).permutation(len(pairs.small))
        rest = part(pairs, rows[count:])
        scores = scored(learn(part(pairs, rows[:count])), rest.features)
        found.append(Ranked(scores, rest.small, rest.large).curve().apgr)
    return np.array(found)


def one_by_one(pairs: Pairs) -> Heads:
    """Return heads that have learned the rows as a server does."""
    heads = Heads()
    for features, small, large in zip(pairs.features, pairs.small, pairs.large, strict=True):
        heads.learn(features, float(small), float(large))
    return heads


def came_true(pairs: Pairs, rule: Rule, splits: int) -> list[Came]:
    """Return what became of thresholds that were found on one half, on the other half."""
    found = []
    for seed in _progress(range(splits), "halves"):
        rows = np.random.default_rng(1_000 + seed).permutation(len(pairs.small))
        known, other = part(pairs, rows[: len(rows) // 2]), part(pairs, rows[len(rows) // 2 :])
        said = chosen(Ranked(known.cross_validated(), known.small, known.large), rule)
        goes = scored(known.fit(), other.features) >= said.threshold
        quality = float(np.where(goes, other.large, other.small).mean())
        share, kept = float(goes.mean()), quality / float(other.large.mean())
        found.append(
            Came(
                share=said.share.low <= share <= said.share.high,
                quality=said.quality.low <= quality <= said.quality.high,
                kept=said.kept.low <= kept <= said.kept.high,
            )
        )
    return found


def milliseconds(texts: Sequence[str]) -> tuple[float, float]:
    """Return the median and the 99th percentile of what features and score take."""
    heads, took = Heads(), []
    for text in texts:
        prompt = Prompt(messages=(Message(role="user", parts=(text,)),))
        begin = time.perf_counter()
        heads.gain(features_of(prompt))
        took.append(1_000 * (time.perf_counter() - begin))
    return float(np.median(took)), float(np.quantile(took, 0.99))


def main(folder: Path, *, quick: bool) -> None:
    """Print all figures."""
    times, draws, splits = (2, 4, 3) if quick else (FOLDS_AGAIN, DRAWS, SPLITS)
    for name in ("mmlu", "gsm8k"):
        pairs = pairs_of(folder / f"{name}.jsonl")
        wanted = "; ".join(f"{what} {bound}" for (file, what), bound in WANTED.items() if file == name)
        echo(f"{name}: {len(pairs.small)} pairs, 5-fold; wanted: {wanted}\n{shuffled(pairs, times)}")
        length = Ranked(scored(Heads(), pairs.features), pairs.small, pairs.large).curve().apgr
        echo(f"  length alone: APGR {length:.3f}")
        for how, learn in (("at once", Pairs.fit), ("one by one", one_by_one)):
            found = few_labels(pairs, FEW, draws, learn)
            ends = np.quantile(found, [0.05, 0.95])
            echo(f"  {FEW} labels, {how}: APGR {found.mean():.3f} (mean of {draws}; {ends[0]:.3f} to {ends[1]:.3f})")
    pairs = pairs_of(folder / "mmlu.jsonl")
    echo(f"mmlu: threshold found on one half, measured on the other, {splits} splits; within the printed interval:")
    for name, rule in RULES.items():
        came = came_true(pairs, rule, splits)
        counts = (sum(each.share for each in came), sum(each.quality for each in came), sum(each.kept for each in came))
        echo(f"  {name:16} share {counts[0]}, quality {counts[1]}, part of the large model's {counts[2]}")
    short = [text for text in map(str, pairs.keys) if 350 <= len(text) <= 450]
    for size, texts in (("400 characters", short), ("1 MB", [" ".join([*short] * 20)[: 10**6]] * 50)):
        middle, most = milliseconds(texts)
        echo(f"features and score of {size}: p50 {middle:.3f} ms, p99 {most:.3f} ms")


def _progress(steps: Iterable[int], what: str) -> Iterable[int]:
    return track(steps, what, transient=True, disable=not sys.stderr.isatty())


if __name__ == "__main__":
    main(Path(sys.argv[1]), quick="--quick" in sys.argv)
