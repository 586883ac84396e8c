"""How often the semantic cache serves pairs of questions, and how often it should not have.

    python -m tests.measure_semantic tests/data/paraphrases.jsonl [more.jsonl ...] [--rows N] [--hashing]

A row is {"a", "b"} with "same" (true or false) or "duplicate" (1 or 0), and perhaps "kind". Each pair is a cache of
one entry, `a`, asked for `b`. Nothing else decides: the threshold, the guards, and whether both stand by themselves.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from millrace.caches.embedders import best_installed
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.guards import Question, agree, self_contained
from millrace.ports import Embedder


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


def read(path: Path, rows: int | None = None) -> list[Pair]:
    """Return the pairs of a file, the first `rows` of them."""
    lines = path.read_text("utf-8").splitlines()[:rows]
    return [Pair.of(json.loads(line)) for line in lines]


def objection(pair: Pair, embedder: Embedder) -> str | None:
    """Return None where `a`'s answer would be served for `b`, else why it is not."""
    for text in (pair.a, pair.b):
        reason = self_contained(text)
        if reason is not None:
            return reason
    cosine = float(embedder.embed(pair.a) @ embedder.embed(pair.b))
    if cosine < embedder.threshold:
        return f"nothing near ({cosine:.2f})"
    return agree(Question.read(pair.a), Question.read(pair.b), embedder.strict)


def share(served: Iterable[bool]) -> str:
    """Return served of all, in percent."""
    given = list(served)
    return f"{100 * sum(given) / len(given):.1f} % ({sum(given)}/{len(given)})" if given else "-"


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--rows", type=int, help="Only the first rows of each file.")
@click.option("--hashing", is_flag=True, help="The embedder without weights, under the strict guards.")
@click.option("--show", is_flag=True, help="Print what was served wrongly, and why the rest was not.")
def main(paths: tuple[Path, ...], rows: int | None, hashing: bool, show: bool) -> None:
    """Print hit % of duplicates and false-hit % of others, by file and kind."""
    console = Console()
    embedder: Embedder = Hashing() if hashing else best_installed()
    table = Table("file", "kind", "hits", "false hits", title=f"{embedder.name}, cosine >= {embedder.threshold}")
    for path in paths:
        pairs = read(path, rows)
        reasons = [objection(pair, embedder) for pair in track(pairs, description=path.name, console=console)]
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
