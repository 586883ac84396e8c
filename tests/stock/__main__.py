"""`python -m tests.stock`: run stock clients against a server and say what works; exit code 1 where something does not.

`--prepare` only makes the clients' environments, `--url` names a server that already runs, words choose scenarios:
`python -m tests.stock langchain chat_tools`. `--providers` goes round two turns with each strict provider instead,
`--scripted` lets SDKs of providers meet the scripted servers that stand for them in other tests.
"""

import argparse
import asyncio
import contextlib
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from millrace import log
from tests.stock import every_api, rounds, scripted_servers
from tests.stock.environment import prepare
from tests.stock.scenarios import EVERY_API, ROUNDS, SCENARIOS, SCRIPTED, Result, Scenario, missing, run_all
from tests.stock.server import serving


def chosen(scenarios: tuple[Scenario, ...], words: list[str]) -> tuple[Scenario, ...]:
    """Return the scenarios of the clients or programs that are named; all where none is."""
    return tuple(
        scenario
        for scenario in scenarios
        if not words or scenario.client in words or scenario.program.stem in words or scenario.program.name in words
    )


async def results(url: str | None, scenarios: tuple[Scenario, ...]) -> list[Result]:
    """Run the scenarios against a server of their own, or the one that is named."""
    async with contextlib.nullcontext(url) if url else serving() as base_url:
        return await run_all(base_url, scenarios)


def table(ended: list[Result]) -> Table:
    """Return client by scenario, and the reason of each failure."""
    drawn = Table("client", "scenario", "", "seconds", "reason", title="Stock clients, only a base URL changed")
    for result in ended:
        mark = Text("failed", "bold red") if result.reason else Text("passed", "green")
        scenario = result.scenario
        drawn.add_row(scenario.client, scenario.name, mark, f"{result.seconds:.1f}", Text(result.reason))
    return drawn


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.stock", description=__doc__)
    parser.add_argument("words", nargs="*", help="a client or a program; without any, all")
    parser.add_argument("--prepare", action="store_true", help="only make the environments")
    parser.add_argument("--providers", action="store_true", help="two turns with each strict provider")
    parser.add_argument("--scripted", action="store_true", help="SDKs of providers against scripted servers")
    parser.add_argument("--apis", action="store_true", help="clients with models of each API behind Millrace")
    parser.add_argument("--url", help="the base URL of a server that runs: http://127.0.0.1:8000/v1")
    arguments = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    prepare()
    if arguments.prepare:
        return 0
    kinds = (
        (arguments.providers, ROUNDS, rounds.run),
        (arguments.scripted, SCRIPTED, scripted_servers.run),
        (arguments.apis, EVERY_API, every_api.run),
    )
    wanted, run = next(((every, run) for is_asked, every, run in kinds if is_asked), (SCENARIOS, None))
    scenarios = chosen(wanted, arguments.words)
    if not scenarios:
        sys.exit("no scenario is called that; see tests/stock/clients")
    log.configure(level="error")
    ended = asyncio.run(results(arguments.url, scenarios)) if run is None else run(scenarios)
    Console().print(table(ended))
    failed = sum(bool(result.reason) for result in ended)
    Console().print(f"{len(ended) - failed} of {len(ended)} passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
