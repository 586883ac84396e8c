"""What the semantic cache gains by evidence on a stream of questions, and whether what it prints of itself is true.

    python -m tests.measure_evidence FILE [--kinds FILE --only KIND] [--seeds N] [--jobs N] [--stale] [--json FILE]

A row of FILE is {"text", "intent"}. Questions are random texts of intents whose frequencies are Zipf's; an answer is
right if it is that of the same intent. Entries expire after half as many requests as there are texts. Exact hits are
counted apart. The quick judge errs in 5 % of its verdicts, a sure one is asked in 5 % of the samples at most.
--stale changes the answers of every other intent half-way, with 10 % of hits sampled, and plants a wrong answer.
"""

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from millrace.caches import decider
from millrace.caches.decider import Chosen, Decider
from millrace.caches.decision import mix
from millrace.caches.decision.verifier import Verifier
from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.embedders.program import NEAR
from millrace.caches.finder import Finder
from millrace.caches.guards import Judgement, Question, judge
from millrace.caches.learning.knowledge import Guidance
from millrace.caches.partition import Stored
from millrace.caches.reusable import reusable
from millrace.caches.segment import NEAREST
from millrace.ports import Likeness
from millrace.types import SemanticMiss
from tests.measure_streams import READ
from tests.support.streams import EXACT, RIGHT, WRONG, Stream, World, hit_rate, wrong_rate
from tests.training.pairs import rows

LAST, PERIOD = 5000, 5000  # requests


class Pairs:
    """All that the cache computes of a pair, once."""

    def __init__(self, texts: list[str]) -> None:
        self._finder, network, verifier = Finder(), MiniLM(), Verifier()
        self.reusable = {text: reusable(text) is None for text in texts}
        kept = [text for text in texts if self.reusable[text]]
        found = np.stack([self._finder.embed(text) for text in track(kept, "finder")])
        tokens = [self._finder.tokens(text) for text in kept]
        self.near: dict[str, list[tuple[float, str]]] = {text: [] for text in texts}
        for at, text in enumerate(track(kept, "neighbours")):
            cosines = found @ found[at]
            order = [int(each) for each in np.argsort(-cosines) if each != at]
            order = [each for each in order if cosines[each] >= self._finder.threshold]
            aligned = self._finder.align(tokens[at], [tokens[each] for each in order]) if order else []
            self.near[text] = [(one, kept[each]) for one, each in zip(aligned, order, strict=True)]
        self._read = {text: Question.read(text) for text in texts}
        self._texts = {id(question): text for text, question in self._read.items()}
        self._judged: dict[tuple[str, str], Judgement] = {}
        pairs = {_key(a, b) for a in kept for one, b in self.near[a] if one >= self._finder.least}
        vectors = {text: network.embed(text) for text in track(kept, "MiniLM")}
        self._likeness: dict[tuple[str, str], Likeness] = {}
        for a, b in track(sorted(pairs), "verifier"):
            if not self.judge(self._read[a], self._read[b]).hard:
                cosine = float(vectors[a] @ vectors[b])
                log_odds = verifier.judge_all([(a, b)])[0] if cosine >= NEAR else None
                self._likeness[a, b] = Likeness(cosine, log_odds)
        self._features: dict[tuple[str, str], dict[str, float]] = {}
        self._decider = Decider(2**30, compares=True, aligns=True)

    def best(self, text: str, is_stored: Any) -> list[tuple[float, str]]:
        """Return the stored questions that the rules read, the best first."""
        found: list[tuple[float, str]] = []
        for each in self.near[text]:
            if is_stored(each[1]):
                found.append(each)
                if len(found) == NEAREST:
                    break
        best = sorted(found, key=lambda each: -each[0])[:READ]
        return [each for each in best if each[0] >= self._finder.least]

    def judge(self, a: Question, b: Question) -> Judgement:
        """Return the judgement of two questions that were read here."""
        key = self._key(a, b)
        if key not in self._judged:
            self._judged[key] = judge(a, b)
        return self._judged[key]

    def features(self, a: Question, b: Question, judgement: Judgement, likeness: Likeness | None) -> dict[str, float]:
        """Return the features of a pair."""
        key = self._key(a, b)
        if key not in self._features:
            self._features[key] = FEATURES_OF(a, b, judgement, likeness)
        return self._features[key]

    def _key(self, a: Question, b: Question) -> tuple[str, str]:
        return _key(self._texts[id(a)], self._texts[id(b)])

    def decide(self, text: str, candidates: list[tuple[float, Stored]], guidance: Guidance) -> Chosen | SemanticMiss:
        """Decide as the cache does."""
        with (
            patch.object(decider, "judge", self.judge),
            patch.object(mix, "features_of", self.features),
            patch.object(self._decider, "_read", self._read.__getitem__),
        ):
            judged = self._decider.judged(text, candidates, guidance)
            if not isinstance(judged, list):
                return judged
            strange = Likeness(0.0, None)  # of an alias that would not have been found
            compared = [self._likeness.get(_key(text, each.entry.question), strange) for each in judged]
            return self._decider.compared(text, judged, compared, guidance)


FEATURES_OF = mix.features_of


def _key(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


def world(file: Path, kinds: Path | None, only: str | None) -> World:
    """Read the questions, and compute all that the cache would of them."""
    kept = None if kinds is None or only is None else set(json.loads(kinds.read_text("utf-8"))[only])
    intents = {row["text"]: row["intent"] for row in rows(file) if kept is None or row["intent"] in kept}
    pairs = Pairs(list(intents))
    weights = mix.shipped()["networks"]
    return World(intents, pairs.reusable.__getitem__, pairs.best, pairs.decide, weights)


def measured(seed: int) -> dict[str, Any]:
    """Return what came of one stream, without and with evidence."""
    without = asyncio.run(Stream(WORLD[0], seed, learns=False).run())
    with_it = asyncio.run(Stream(WORLD[0], seed).run())
    end = with_it.requests
    periods = []
    for begin in range(0, end, PERIOD):
        counts, printed = with_it.counts(begin, begin + PERIOD), with_it.printed(begin, begin + PERIOD)
        periods.append((wrong_rate(counts), printed.upper))
    whole = with_it.printed(0, end)
    last, before = with_it.counts(end - LAST), without.counts(end - LAST)
    return {
        "exact": last[EXACT] / LAST,
        "without": hit_rate(before),
        "without_wrong": wrong_rate(before),
        "with": hit_rate(last),
        "with_wrong": wrong_rate(last),
        "whole": (wrong_rate(with_it.counts()), whole.lower, whole.estimate, whole.upper),
        "periods": periods,
        "asked_again": sum(each.sample.probability < 1 for each in with_it.store.rows),
        "sure": with_it.judges[1].asked / max(1, len(with_it.store.rows)),
    }


def went_stale(seed: int) -> dict[str, Any]:
    """Return how long stale answers were served: those of every other intent change half-way."""
    half = 10_000
    intents = sorted(set(WORLD[0].intents.values()))
    stream = Stream(WORLD[0], seed, eagerness=1.0, changes=dict.fromkeys(intents[::2], half))
    asyncio.run(stream.run())
    caught = next((change.at for change in stream.store.changes if change.at >= half and change.scope), None)
    counts = stream.counts(half, None if caught is None else int(caught))
    return {"caught": caught is not None, "hits": counts[RIGHT] + counts[WRONG], "wrong": counts[WRONG]}


WORLD: list[World] = []  # for the processes that share it


@click.command(help=__doc__)
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--kinds", type=click.Path(exists=True, path_type=Path))
@click.option("--only", help="only intents of this kind")
@click.option("--seeds", type=int, default=3, show_default=True)
@click.option("--jobs", type=int, default=2, show_default=True)
@click.option("--stale", is_flag=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    file: Path, kinds: Path | None, only: str | None, seeds: int, jobs: int, stale: bool, json_file: Path | None
) -> None:
    """See above."""
    WORLD.append(world(file, kinds, only))
    work = went_stale if stale else measured
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        found = list(track(pool.map(work, range(seeds)), "streams", total=seeds))
    if json_file is not None:
        json_file.write_text(json.dumps(found), "utf-8")
    Console(width=120).print(_stale_table(found) if stale else _table(found))


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{len(found)} streams, the last {LAST:,} requests")
    for column in ("", "mean", "least", "most"):
        table.add_column(column, justify="right")
    for name, key in (
        ("exact", "exact"), ("hits without evidence", "without"), ("wrong of them", "without_wrong"),
        ("hits with evidence", "with"), ("wrong of them", "with_wrong"), ("sure verdicts of all samples", "sure"),
    ):  # fmt: skip
        values = [each[key] for each in found]
        table.add_row(name, *(f"{100 * value:.2f} %" for value in (np.mean(values), min(values), max(values))))
    gains = [each["with"] / max(1e-9, each["without"]) for each in found]
    table.add_row("hits, times those without", *(f"{value:.2f}" for value in (np.mean(gains), min(gains), max(gains))))
    for at in range(len(found[0]["periods"])):
        holds = sum(upper is None or upper >= true for true, upper in (each["periods"][at] for each in found))
        table.add_row(f"bound holds, period {at + 1}", f"{holds} of {len(found)}", "", "")
    holds = sum(each["whole"][3] is None or each["whole"][3] >= each["whole"][0] for each in found)
    table.add_row("bound holds, all", f"{holds} of {len(found)}", "", "")
    uppers = [1.0 if each["whole"][3] is None else each["whole"][3] for each in found]
    table.add_row(
        "printed upper bound, all", *(f"{100 * v:.2f} %" for v in (np.mean(uppers), min(uppers), max(uppers)))
    )
    return table


def _stale_table(found: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{len(found)} streams, every other answer changes half-way, 10 % of hits judged")
    for column in ("", "mean", "most"):
        table.add_column(column, justify="right")
    table.add_row("caught", f"{sum(each['caught'] for each in found)} of {len(found)}", "")
    for name in ("hits", "wrong"):
        values = [each[name] for each in found]
        table.add_row(f"{name} until then", f"{np.mean(values):.0f}", str(max(values)))
    return table


if __name__ == "__main__":
    main()
