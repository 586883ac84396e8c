"""How soon `prefix` shows the first word, what it catches before that, and that no plain client loses one.

    python -m tests.measure_first_word FOLDER [--requests 10000] [--json]

FOLDER has gsm8k.jsonl with rows {"small_answer"}. Answers come as tokens of o200k_base, 50 a second. A hold of 40
judges what has come after 40 tokens, or the whole answer if it is shorter, by the checks of a beginning.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import click
from rich.progress import Progress, TaskID, track
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from millrace import log
from millrace.funnel import checks
from millrace.funnel.checks.beginning import MOST_DELTAS, Beginning
from millrace.simulator import prose
from millrace.simulator.easy_questions import EASY_ANSWERS
from millrace.simulator.hard_questions import HARD_ANSWERS, REFUSED, UNKNOWN, UNSURE
from millrace.types import Finish, FinishReason
from tests.support.inline_schemas import InlineSchemas
from tests.support.scripted_models import request
from tests.support.server import started
from tests.support.tables import print_figures

PER_S = 50  # tokens
ROWS = 500
LANES = 16  # connections
Figures = dict[str, float]
CHECKS = checks.Checks(InlineSchemas())


def held(text: str) -> tuple[int, str | None]:
    """Return how many tokens come before the first is shown, and the check that the beginning failed by then."""
    said: list[str] = []
    beginning = Beginning(CHECKS, request(), lambda: checks.Candidate(text="".join(said), finish=None))
    for token in prose.split(text):
        said.append(token)
        verdict = beginning.verdict(said)
        if verdict is not None:
            return len(said), verdict.check
    whole = checks.Candidate(text=text, finish=None)
    return len(said), _of_the_whole(whole)


def held_for_forty(text: str) -> str | None:
    """Return the check of a beginning that fails within a hold of 40 tokens."""
    tokens = [*prose.split(text)]
    candidate = checks.Candidate(text="".join(tokens[:MOST_DELTAS]), finish=None)
    return checks.judge_beginning(candidate).check if len(tokens) > MOST_DELTAS else _of_the_whole(candidate)


def _of_the_whole(candidate: checks.Candidate) -> str | None:
    """Return the check of a beginning that a whole answer fails."""
    whole = replace(candidate, finish=Finish(reason=FinishReason.STOP))
    return checks.judge_beginning(whole).check


def simulated(count: int) -> list[str]:
    """Return answers of the simulator's small model: prepared ones, weak ones and prose."""
    rng = Random(0)
    prepared = [*EASY_ANSWERS.values(), *(answer.weak for answer in HARD_ANSWERS.values())]
    weak = [UNSURE, UNKNOWN, REFUSED]
    rest = [
        prose.passage(rng) if at % 2 else f"{rng.choice(weak)} {prose.passage(rng)}" if at % 4 else prose.markdown(rng)
        for at in range(count)
    ]
    return [*prepared, *weak, *rest]


def of_beginnings(texts: Sequence[str]) -> Figures:
    """Return how long answers are held, and how many weak ones are caught."""
    found = [(*held(text), held_for_forty(text)) for text in track(texts, "answers")]
    times = sorted(count for count, _, _ in found)
    caught = [check for _, check, forty in found if forty is not None]
    return {
        "answers": len(found),
        "tokens held, p50": times[len(times) // 2],
        "p90": times[len(times) * 9 // 10],
        "most": times[-1],
        "seconds, p50": times[len(times) // 2] / PER_S,
        "caught by 40": len(caught),
        "of these caught": sum(check is not None for check in caught),
    }


async def _answer(connection: ClientConnection, question: str, **options: str) -> tuple[float, str, dict[str, object]]:
    """Ask; return the seconds to the first delta, all deltas since the last revise, and the terminal."""
    asked = time.perf_counter()
    await connection.send(json.dumps({"type": "response.create", "input": question, "millrace": options}))
    first, text = 0.0, ""
    while True:
        event = json.loads(await connection.recv())
        match event["type"]:
            case "response.output_text.delta":
                first = first or time.perf_counter() - asked
                text += event["delta"]
            case "millrace.revise":
                text = ""
            case "response.completed" | "response.failed" | "response.incomplete" | "error":
                return first, text, event


def _output(event: dict[str, object]) -> str:
    response = event["response"]
    assert isinstance(response, dict)
    return "".join(part["text"] for item in response["output"] for part in item.get("content", ()) if "text" in part)


async def of_plain_clients(url: str, requests: int) -> Figures:
    """Ask under `prefix`, a third of it what the small model is weak at. Count characters that did not stand."""
    rng, counts = Random(1), {"requests": 0.0, "answered by large": 0.0, "characters taken back": 0.0}
    questions = [f"[weak] {at}" if rng.random() < 1 / 3 else f"talk {at} [tokens.small=60]" for at in range(requests)]

    async def lane(progress: Progress, task: TaskID) -> None:
        async with connect(f"{url}/v1/responses", compression=None) as connection:
            while questions:
                _, text, event = await _answer(connection, questions.pop(), delivery="prefix")
                output = _output(event)
                counts["requests"] += 1
                counts["answered by large"] += event["response"]["metadata"]["millrace.route"] == "large"  # type: ignore[index]
                stands = len(text) if output.startswith(text) else 0
                counts["characters taken back"] += len(text) - stands
                progress.advance(task)

    with Progress() as progress:
        task = progress.add_task("requests", total=requests)
        await asyncio.gather(*(lane(progress, task) for _ in range(LANES)))
    return counts


async def of_speculation(url: str, requests: int) -> Figures:
    """Ask a small model that needs 150 ms for its first token, by turns alone and under `speculate`."""
    times: dict[str, list[float]] = {"small": [], "cascade": []}
    async with connect(
        f"{url}/v1/responses", subprotocols=[Subprotocol("millrace.v1")], compression=None
    ) as connection:
        await connection.recv()
        for at in track(range(2 * requests), "speculate"):
            strategy = ("small", "cascade")[at % 2]
            question = f"talk {at} [tokens=40] [ttft=0.15] [rate={PER_S * 10}]"
            first, *_ = await _answer(connection, question, strategy=strategy, delivery="speculate", cache="off")
            times[strategy].append(first)
    small, cascade = (statistics.median(times[strategy]) for strategy in ("small", "cascade"))
    return {"small alone, ms": 1000 * small, "speculate, ms": 1000 * cascade, "more, %": 100 * (cascade / small - 1)}


async def _over_sockets(requests: int) -> dict[str, Figures]:
    async with started() as running:
        return {
            "plain clients under prefix": await of_plain_clients(running.ws_url, requests),
            "first token": await of_speculation(running.ws_url, max(10, min(200, requests // 10))),
        }


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--requests", type=int, default=10_000, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, requests: int, *, as_json: bool) -> None:
    """See above."""
    log.configure(level="critical")
    rows = [json.loads(line) for line in (folder / "gsm8k.jsonl").read_text("utf-8").splitlines()]
    given = [row["small_answer"] for row in Random(0).sample(rows, min(ROWS, len(rows)))]
    figures = {"GSM8K": of_beginnings(given), "simulator": of_beginnings(simulated(ROWS))}
    figures |= asyncio.run(_over_sockets(requests))
    print_figures(figures, as_json=as_json)


if __name__ == "__main__":
    main()
