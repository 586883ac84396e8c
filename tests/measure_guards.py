"""Whether a guard keeps a secret from every client, and lets everything else pass.

    python -m tests.measure_guards FOLDER [--planted 1000] [--clean 10000] [--json]

FOLDER has gsm8k.jsonl with rows {"small_answer", "large_answer"}: text that holds nothing a guard forbids. Secrets are
made up and planted in it. Answers are cut at any places, and come over real sockets; all guards are on.
"""

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import click
from rich.progress import Progress, TaskID, track
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from millrace import log
from millrace.funnel.checks.guards import Guards
from millrace.funnel.checks.watch import Watch
from millrace.simulator import answers, prose
from tests.support.manual_attempt import ManualAttempt
from tests.support.planted import KINDS, in_pieces, planted
from tests.support.server import started
from tests.support.tables import print_figures

GUARDS: dict[str, Any] = {
    "secrets": True,
    "cards": True,
    "addresses": True,
    "patterns": ["ACME-[0-9]{6}"],
    "words": ["Project Nightingale"],
}
LANES = 16  # connections
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the models say, and the secret in it; empty: none."""

    text: str
    secret: str = ""


def with_guards(configuration: dict[str, Any]) -> None:
    """Switch all guards on."""
    configuration["guards"] = GUARDS


def planted_in(texts: Sequence[str], count: int) -> list[Answer]:
    """Plant a secret at any place between two words of each text."""
    made: list[Answer] = []
    for seed in range(count):
        rng = Random(seed)
        words = rng.choice(texts).split(" ")
        secret = planted(rng, seed % KINDS)
        words.insert(rng.randrange(len(words) + 1), secret)
        made.append(Answer(" ".join(words), secret))
    return made


@contextmanager
def saying(given: Sequence[Answer]) -> Iterator[None]:
    """Have both models answer with what the question names by its number, cut at any places."""

    def find(question: str, _: str) -> str:
        return given[int(question.rsplit(maxsplit=1)[-1])].text

    def split(text: str) -> Iterator[str]:
        return iter(in_pieces(Random(text), text))

    with patch.object(answers, "find", find), patch.object(prose, "split", split):
        yield


async def of_clients(url: str, given: Sequence[Answer], *, negotiated: bool) -> Figures:
    """Ask for all answers. Count characters of secrets that were shown, that stand, and answers that were changed."""
    counts = {"answers": 0.0, "shown": 0.0, "stands": 0.0, "taken back": 0.0, "changed": 0.0}
    left = [*range(len(given))]
    protocols = [Subprotocol("millrace.v1")] if negotiated else None

    async def lane(progress: Progress, task: TaskID) -> None:
        async with connect(f"{url}/v1/responses", subprotocols=protocols, compression=None) as connection:
            if negotiated:
                await connection.recv()
            while left:
                at = left.pop()
                strategy = ("cascade", "small", "large")[at % 3]
                rate = (0, 2000)[at // 3 % 2]
                options = {"strategy": strategy, "cache": "off"}
                question = f"say [rate={rate}] {at}"
                await connection.send(json.dumps({"type": "response.create", "input": question, "millrace": options}))
                shown, revised = "", 0
                while True:
                    event = json.loads(await connection.recv())
                    if event["type"] == "response.output_text.delta":
                        shown += event["delta"]
                    elif event["type"] == "millrace.revise":
                        shown, revised = "", revised + 1
                    elif event["type"] in ("response.completed", "response.failed", "response.incomplete", "error"):
                        break
                _count(counts, given[at], shown, json.dumps(event, ensure_ascii=False), revised)
                progress.advance(task)

    with Progress() as progress:
        task = progress.add_task("negotiated clients" if negotiated else "plain clients", total=len(given))
        await asyncio.gather(*(lane(progress, task) for _ in range(LANES)))
    return counts


def _count(counts: Figures, answer: Answer, shown: str, terminal: str, revised: int) -> None:
    counts["answers"] += 1
    counts["taken back"] += revised
    if not answer.secret:
        counts["changed"] += shown != answer.text
        return
    before = answer.text.index(answer.secret)
    counts["shown"] += max(0, len(shown) - before)
    counts["stands"] += answer.secret[:8] in terminal
    counts["changed"] += answer.text[:before] != shown[:before]


def of_first_words(texts: Sequence[str], count: int) -> dict[str, Figures]:
    """Return by how many tokens the first word of clean answers is whole later than without a guard."""
    figures: dict[str, Figures] = {}
    for name, guards in sets_of_guards().items():
        later = [_later(guards, [*prose.split(texts[at % len(texts)])]) for at in track(range(count), "first words")]
        figures[f"first word, {name}"] = {
            "answers": count,
            "tokens later, mean": sum(later) / count,
            "p99": sorted(later)[count * 99 // 100],
            "most": max(later),
        }
    return figures


def _later(guards: Guards, tokens: Sequence[str]) -> int:
    text = "".join(tokens)
    word = len(text) - len(text.lstrip()) + len(text.split(maxsplit=1)[0])
    passed: list[str] = []
    attempt = watched(guards, passed)
    whole = next(at for at, size in enumerate(accumulate(map(len, tokens))) if size >= word)
    for at, token in enumerate(tokens):
        attempt.sink([token])
        if sum(map(len, passed)) >= word:
            return at - whole
    return len(tokens) - whole  # with the end


def sets_of_guards() -> dict[str, Guards]:
    """Return the guards that are measured."""
    chosen = {"secrets": {**GUARDS, "cards": False, "addresses": False, "patterns": [], "words": []}, "all": GUARDS}
    return {name: guards for name, each in chosen.items() if (guards := Guards.of(**each)) is not None}


def watched(guards: Guards, passed: list[str]) -> ManualAttempt:
    """Return an attempt whose text passes the guards on its way."""
    attempt = ManualAttempt()
    attempt.sink = passed.extend
    Watch(guards, attempt, holds=True)
    return attempt


def of_tokens(texts: Sequence[str]) -> Figures:
    """Return what a token costs in microseconds of CPU."""
    figures: Figures = {}
    tokens = [list(prose.split(text)) for text in texts[:300]]
    for name, guards in sets_of_guards().items():
        attempts = [watched(guards, []) for _ in tokens]
        began = time.process_time()
        for attempt, said in zip(attempts, tokens, strict=True):
            for token in said:
                attempt.sink([token])
        figures[f"µs a token, {name}"] = 1e6 * (time.process_time() - began) / sum(map(len, tokens))
    return figures


async def over_sockets(texts: Sequence[str], many: int, clean: int) -> dict[str, Figures]:
    """Return what clients saw of answers with secrets, all of them, and of clean ones, half of them each."""
    secret = planted_in(texts, many)
    plain = [Answer(texts[at % len(texts)]) for at in range(clean)]
    figures: dict[str, Figures] = {}
    async with started(with_guards) as running:
        for name, given, negotiated in (
            ("secrets, plain clients", secret, False),
            ("secrets, negotiated clients", secret, True),
            ("clean, plain clients", plain[::2], False),
            ("clean, negotiated clients", plain[1::2], True),
        ):
            with saying(given):
                figures[name] = await of_clients(running.ws_url, given, negotiated=negotiated)
    return figures


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--planted", "many", type=int, default=1000, show_default=True)
@click.option("--clean", type=int, default=10_000, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, many: int, clean: int, *, as_json: bool) -> None:
    """See above."""
    log.configure(level="critical")
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # the simulator's connections are closed while it writes
    rows = [json.loads(line) for line in (folder / "gsm8k.jsonl").read_text("utf-8").splitlines()]
    texts = [row[name] for row in rows for name in ("small_answer", "large_answer") if row[name].strip()]

    async def run() -> dict[str, Figures]:
        figures = {**of_first_words(texts, clean), "cost": of_tokens(texts)}
        return figures | await over_sockets(texts, many, clean)

    figures = asyncio.run(run())
    print_figures(figures, as_json=as_json)


if __name__ == "__main__":
    main()
