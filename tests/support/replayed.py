"""A mixed workload on a real server with two simulated models, and what a replay of its ledger says."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import aiohttp
from rich.progress import track

from millrace import assembly, settings
from millrace.assembly.accounts import replays, rules_of
from millrace.settings import Settings
from millrace.simulator import EASY, LARGE, SMALL, Simulator
from millrace.wire import replay as wire
from tests.support.server import configuration_for, serving, without_delays

Sections = Mapping[str, dict[str, Any]]  # of a configuration
AT_ONCE = 8  # requests
_WORDS = (
    "harbour ledger copper meadow signal orchard lantern granite velvet compass furnace glacier pepper saddle marble "
    "thunder walnut canyon ribbon anchor beacon cobalt dagger ember falcon garnet hazel indigo jasper kettle"
)
WORDS = tuple(_WORDS.split())
# The simulated models answer these anew in each wording, so a stored answer is wrong for another one.
FICKLE = ("How do I reset my password?", "How can I cancel my subscription?", "Where can I see my last invoice?")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the topic makes the scope of the semantic cache."""

    topic: str
    text: str


def workload(count: int, seed: int, hard: float = 0.5) -> list[Asked]:
    """Return a fifth of repeats, a sixth of rewordings, and fresh questions.

    The longer, the more often these are hard: about `hard` of the longest ones.
    """
    rng = Random(seed)
    made: list[Asked] = []
    reworded: list[Asked] = []
    for number in range(count):
        chance = rng.random()
        if made and chance < 0.2:
            made.append(rng.choice(made[-500:]))
        elif reworded and chance < 0.35:
            made.append(_reworded(rng, rng.choice(reworded[-100:])))
        elif chance < 0.45:
            question = rng.choice(EASY if rng.random() < 0.88 else FICKLE)
            made.append(Asked(f"Team {number // 40}.", question))
            reworded.append(made[-1])
        else:
            made.append(_fresh(rng, number, hard))
    return made


def _reworded(rng: Random, asked: Asked) -> Asked:
    words = asked.text.lower().rstrip("?.!")
    return Asked(asked.topic, words if rng.random() < 0.5 else f"{words}?")


def _fresh(rng: Random, number: int, hard: float) -> Asked:
    length = rng.randint(4, 60)
    text = f"Item {number}: " + " ".join(rng.choice(WORDS) for _ in range(length))
    weak = " [weak]" if rng.random() < hard * (0.04 + length / 60) else ""
    return Asked("", f"{text} [tokens={rng.randint(20, 40) + 3 * length}]{weak}" if not weak else text + weak)


def changed(folder: Path, small: Simulator, large: Simulator, sections: Sections) -> dict[str, Any]:
    """Return a configuration; `sections` are merged into it."""
    configuration = configuration_for(small.base_url, large.base_url, data_dir=str(folder))
    configuration["evidence"] = {"judged": True, "hit_share": 0.3, "dollars_per_day": "100"}
    for name, values in sections.items():
        configuration[name] = configuration.get(name, {}) | values
    return configuration


async def ran(folder: Path, asked: Sequence[Asked], *, sections: Sections, shows: bool = False) -> Settings:
    """Send all requests to a server under these settings, and return these.

    A lookup may take as long as it wants: how many are late is the machine's doing, and differs from run to run.
    """
    with patch.object(assembly, "LOOKUP_S", 60.0):
        return await _ran(folder, asked, sections, shows=shows)


async def _ran(folder: Path, asked: Sequence[Asked], sections: Sections, *, shows: bool) -> Settings:
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        configuration = changed(folder, small, large, sections)
        waiting = iter(track(asked, "asking", transient=True, disable=not shows))
        async with serving(configuration) as url, aiohttp.ClientSession(url) as session:

            async def ask() -> None:
                for each in waiting:
                    system = [{"role": "system", "content": each.topic}] if each.topic else []
                    body = {"model": "auto", "messages": [*system, {"role": "user", "content": each.text}]}
                    async with session.post("/v1/chat/completions", json=body) as answer:
                        assert answer.status == 200, await answer.text()
                        await answer.read()

            await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        return settings.build(configuration, {})


async def replayed(now: Settings, change: Callable[[Settings], Settings] = lambda same: same) -> wire.ReplayReport:
    """Return the replay of all that a server has kept, with other settings."""
    async with replays(now.server.data_dir, now) as opened:
        return await opened.report(time.time() - 86_400, rules_of(now), rules_of(change(now)), [])
