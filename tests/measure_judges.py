"""What the built-in judges of answers say of labelled pairs, and how often they are wrong. It calls no model.

    python -m tests.measure_judges [PART ...]

A miss is "same" of what differs, an alarm "different" of what is the same. Of the pairs (tests/data/answers.jsonl) the
part `thresholds` is what rules and thresholds were made with, the part `errors` was written afterwards. Each judge is
asked of every pair; the panel is whoever speaks first. Without MiniLM's weights `likeness` is left out.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from click import echo

from millrace.caches.embedders.chosen import installed
from millrace.evidence.intervals import upper
from millrace.evidence.judges import judges_of
from millrace.evidence.judges.likeness import LikenessJudge
from millrace.ports import AnswerJudge
from millrace.types import Says
from tests.support.paths import REPOSITORY

PAIRS = REPOSITORY / "tests" / "data" / "answers.jsonl"
TAIL = 0.05
PARAGRAPH = 350  # characters; two of them have about 200 tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Two answers to one question, and whether either does in place of the other."""

    kind: str
    language: str
    part: str  # thresholds or errors
    question: str
    earlier: str
    fresh: str
    same: bool


def labelled(part: str | None = None) -> list[Labelled]:
    """Return the pairs of a part, or all."""
    lines = PAIRS.read_text("utf-8").splitlines()
    return [pair for line in lines if (pair := Labelled(**json.loads(line))).part == part or part is None]


async def said(judge: AnswerJudge, pairs: Sequence[Labelled]) -> list[Says]:
    """Return what a judge says of each pair."""
    return [await judge.says(pair.question, pair.earlier, pair.fresh) for pair in pairs]


def first(opinions: Sequence[Sequence[Says]]) -> list[Says]:
    """Return what is said of each pair by the first judge that can tell."""
    return [
        next((says for says in each if says is not Says.UNSURE), Says.UNSURE) for each in zip(*opinions, strict=True)
    ]


def row(name: str, pairs: Sequence[Labelled], says: Sequence[Says]) -> str:
    """Return one line of the table."""
    counts = Counter((each, pair.same) for each, pair in zip(says, pairs, strict=True))
    differ, same = sum(not pair.same for pair in pairs), sum(pair.same for pair in pairs)
    misses, alarms = counts[Says.SAME, False], counts[Says.DIFFERENT, True]
    unsure = counts[Says.UNSURE, True] + counts[Says.UNSURE, False]
    return (
        f"| {name} | {len(pairs) - unsure} of {len(pairs)} | {share(misses, differ)} | {share(alarms, same)} "
        f"| {unsure / len(pairs):.0%} |"
    )


def share(count: int, of: int) -> str:
    """Return a share and its upper bound."""
    if not of:
        return "-"
    return f"{count} of {of} = {count / of:.1%} (at most {upper(count, of, TAIL):.1%})"


async def measured(judges: Sequence[AnswerJudge], parts: Sequence[str]) -> None:
    """Print the tables."""
    for part in parts:
        pairs = labelled(part)
        opinions = [await said(judge, pairs) for judge in judges]
        echo(f"\n{part}\n\n| judge | said | misses | alarms | unsure |\n|---|---|---|---|---|")
        for judge, says in zip(judges, opinions, strict=True):
            echo(row(judge.name, pairs, says))
        panel = first(opinions)
        echo(row("panel", pairs, panel))
        echo("\n| kind, of the panel | said | misses | alarms | unsure |\n|---|---|---|---|---|")
        for kind in sorted({pair.kind for pair in pairs}):
            some = [at for at, pair in enumerate(pairs) if pair.kind == kind]
            echo(row(kind, [pairs[at] for at in some], [panel[at] for at in some]))
        for pair, found in zip(pairs, panel, strict=True):
            if found is not Says.UNSURE and (found is Says.SAME) != pair.same:
                echo(f"wrong, {found}: {pair.question!r}: {pair.earlier!r} / {pair.fresh!r}")


def cost(judges: Sequence[AnswerJudge]) -> None:
    """Print what `equal` and `facts` take together for answers of about 200 tokens."""
    long = [pair for pair in labelled() if min(len(pair.earlier), len(pair.fresh)) >= PARAGRAPH]
    pairs = [
        replace(one, earlier=f"{one.earlier} {two.earlier}", fresh=f"{one.fresh} {two.fresh}")
        for one, two in pairwise(long)
    ]
    best = float("inf")
    for _ in range(20):
        begun = time.process_time()
        for judge in judges[:2]:
            asyncio.run(said(judge, pairs))
        best = min(best, (time.process_time() - begun) / len(pairs))
    characters = sum(len(pair.earlier) + len(pair.fresh) for pair in pairs) / len(pairs) / 2
    echo(f"\nequal and facts: {best * 1e3:.2f} ms of CPU a pair, of {characters:.0f} characters an answer")


def main() -> None:
    """Measure."""
    embedders = installed()
    try:
        judges = judges_of(None, None)
        if embedders.comparer is not None:
            embedders.comparer.compare("ready?", ["ready!"]).result(60)
            judges.append(LikenessJudge(embedders.comparer, a_minute=10**6, wait_s=60.0))
        asyncio.run(measured(judges, sys.argv[1:] or ("errors", "thresholds")))
        cost(judges)
    finally:
        embedders.close()


if __name__ == "__main__":
    main()
