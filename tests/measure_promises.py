"""Whether the router's promises are kept, over replays of rows of which both models' answers are known.

    python -m tests.measure_promises FOLDER [--replays N] [--seed N] [--jobs N] [--only NAME] [--json FILE]

FOLDER has files of rows {"prompt", "small_correct", "large_correct"}. A replay is a
shuffle of all rows, each of which is asked once; the router learns as it would: from checks that fail a wrong answer
with 0.8 and a right one with 0.1, of whichever model has answered, and from pairs that are judged by chance. A small
answer that fails is replaced by the large one. Nothing is known at the start of a replay.

Of money, rows are drawn again and again for ten days, by a clock that the replay sets. A day has its hours, and days
differ. Costs are those of lengths of answers that differ a lot, and what runs has not settled yet. A day fits if the
small model alone, with its escalations, does not pass its money: on others nothing that a router does keeps it.
"""

import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property, partial
from heapq import heappop, heappush
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from millrace.funnel.routing.features import Features, features_of
from millrace.funnel.routing.heads import Heads
from millrace.funnel.routing.promises import Place, Promised, Promises
from millrace.types import Message, Prompt, Tier
from tests.support.clock import ManualClock

PLACE: Place = ("tenant", "auto")
CATCHES, ALARMS = 0.8, 0.1  # of the checks
WEAK = 0.3  # weight of a check's verdict, as a label
DAYS, REQUESTS, DAY = 10, 2000, 86_400  # requests of a day, about
USUAL, SCATTER = 180, 0.83  # tokens of an answer, the median; how its logarithm scatters
PRICES = {Tier.SMALL: (0.15, 0.60), Tier.LARGE: (2.50, 10.0)}  # dollars per million tokens of input and output
ROOM = 0.95  # of the money: what the small model alone costs at most on a day that has room for the large one
LARGE_SHARE = 0.3  # that the money of a day pays for, about


@dataclass(frozen=True)
class Row:
    """A request, and whether each model answers it rightly."""

    prompt: str
    right: dict[Tier, bool]

    @property
    def length(self) -> int:
        """Characters."""
        return len(self.prompt)

    @cached_property
    def features(self) -> Features:
        """What the heads learn from."""
        return features_of(Prompt(messages=(Message(role="user", parts=(self.prompt,)),)))


def rows_of(folder: Path) -> list[Row]:
    """Read all rows of a folder."""
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_bytes().splitlines()]
    return [row_of(json.loads(line)) for line in lines]


def row_of(row: dict[str, Any]) -> Row:
    """Read one row."""
    right = {Tier.SMALL: bool(row["small_correct"]), Tier.LARGE: bool(row["large_correct"])}
    return Row(row["prompt"], right)


@dataclass
class Seen:
    """What became of the requests of a replay, in order."""

    tiers: list[bool] = field(default_factory=list)  # whether the large model was asked first
    large_calls: list[bool] = field(default_factory=list)  # with escalations
    right: list[bool] = field(default_factory=list)  # what the user got
    large_right: list[bool] = field(default_factory=list)
    alone: list[bool] = field(default_factory=list)  # whether no failed check was to be followed by the large model


class Replay:
    """One router that starts with nothing, its promise, and its users."""

    def __init__(
        self,
        promised: Promised,
        seed: int,
        *,
        shadow: float,
        knows_failed: bool = False,
        checks: bool = True,
        learns: bool = True,
    ) -> None:
        """`shadow`: the share of answers that are judged. `knows_failed`: checks judge all small answers of pairs."""
        self.checks = checks
        self._learns = learns
        self.chance = np.random.default_rng(seed)
        self.clock = ManualClock(0.0)
        self.promises = Promises(promised, self.clock)
        self.seen = Seen()
        self._heads = Heads()
        self._shadow = shadow
        self._knows_failed = knows_failed

    def score(self, row: Row) -> float:
        """Return the gain that is expected of the large model."""
        return self._heads.gain(row.features) if self._learns else row.length

    def ask(self, row: Row, *, small_right: bool | None = None) -> tuple[Tier, bool]:
        """Answer a request. Return who was asked first, and whether that was escalated."""
        right = dict(row.right)
        if small_right is not None:
            right[Tier.SMALL] = small_right
        score = self.score(row)
        threshold = self.promises.threshold(PLACE)
        tier = Tier.LARGE if score >= threshold.value else Tier.SMALL
        self.promises.routed(PLACE, score, tier, escalates=threshold.escalates)
        failed = self._check(row, right, tier, score)
        escalated = failed and tier is Tier.SMALL and threshold.escalates
        if escalated:
            self._check(row, right, Tier.LARGE, score)
        self._judge(row, right, tier, score, escalated=escalated)
        shown = Tier.LARGE if escalated else tier
        self.seen.tiers.append(tier is Tier.LARGE)
        self.seen.large_calls.append(shown is Tier.LARGE)
        self.seen.right.append(right[shown])
        self.seen.large_right.append(right[Tier.LARGE])
        self.seen.alone.append(not threshold.escalates)
        return tier, escalated

    def _check(self, row: Row, right: dict[Tier, bool], tier: Tier, score: float) -> bool:
        failed = self.checks and self._fails(right[tier])
        self.promises.flagged(PLACE, tier, failed, score)
        passed = 0.0 if failed else 1.0
        small = tier is Tier.SMALL
        if self._learns and self.checks:
            self._heads.learn(row.features, passed if small else None, None if small else passed, WEAK)
        return failed

    def _judge(self, row: Row, right: dict[Tier, bool], tier: Tier, score: float, *, escalated: bool) -> None:
        if not escalated and self.chance.random() >= self._shadow:
            return
        small, large = right[Tier.SMALL], right[Tier.LARGE]
        failed = escalated or (self._fails(small) if self._knows_failed and tier is Tier.LARGE else None)
        gain, probability = large - small, 1.0 if escalated else self._shadow
        self.promises.judged(PLACE, score, tier, gain, probability, failed=failed, large=float(large))
        if not escalated and self._learns:
            self._heads.learn(row.features, float(small), float(large))

    def _fails(self, right: bool) -> bool:
        return bool(self.chance.random() < (ALARMS if right else CATCHES))


def quality(promised: Promised, rows: list[Row], seed: int, **options: Any) -> dict[str, float]:
    """Return what a stream of all rows got, of the large model's quality, and what that took."""
    replay = Replay(promised, seed, **options)
    for at in replay.chance.permutation(len(rows)):
        replay.ask(rows[at])
    seen, last = replay.seen, len(rows) // 3
    first = seen.tiers.index(False) if False in seen.tiers else len(rows)
    return {
        "kept": sum(seen.right) / sum(seen.large_right),
        "kept since small": sum(seen.right[first:]) / max(sum(seen.large_right[first:]), 1) if first < len(rows) else 1,
        "large first": float(np.mean(seen.tiers)),
        "large first, last third": float(np.mean(seen.tiers[-last:])),
        "large calls, last third": float(np.mean(seen.large_calls[-last:])),
        "first small at": first,
    }


def worse(promised: Promised, rows: list[Row], seed: int, **options: Any) -> dict[str, float]:
    """Return the share of large calls before and after the small model becomes worse by 15 points, in silence."""
    replay = Replay(promised, seed, **options)
    order = replay.chance.permutation(len(rows))
    half = len(rows) * 2 // 3
    for at in order[:half]:
        replay.ask(rows[at])
    loses = 0.15 / np.mean([row.right[Tier.SMALL] for row in rows])
    for at in order[half:]:
        small = rows[at].right[Tier.SMALL] and replay.chance.random() >= loses
        replay.ask(rows[at], small_right=bool(small))
    tiers, right, large = (
        np.array(each, float) for each in (replay.seen.tiers, replay.seen.right, replay.seen.large_right)
    )
    return {
        "before": float(tiers[half - 500 : half].mean()),
        "within 500": float(tiers[half + 300 : half + 500].mean()),
        "within 1000": float(tiers[half + 500 : half + 1000].mean()),
        "kept after": float(right[half:].sum() / large[half:].sum()),
    }


def share(promised: Promised, rows: list[Row], seed: int, **options: Any) -> dict[str, float]:
    """Return the share of requests that the large model was asked first for, and how far it strays."""
    replay = Replay(promised, seed, **options)
    for at in replay.chance.permutation(len(rows)):
        replay.ask(rows[at])
    tiers = np.array(replay.seen.tiers, float)
    windows = tiers[: len(tiers) // 500 * 500].reshape(-1, 500).mean(axis=1)
    return {"share": float(tiers.mean()), "lowest of 500": float(windows.min()), "highest of 500": float(windows.max())}


def spending(promised: Promised, rows: list[Row], seed: int, *, dearer: str = "", **options: Any) -> dict[str, float]:
    """Return what the days cost, in parts of what was promised.

    `dearer`: whose price is three times as high from noon of the sixth day on.
    """
    assert promised.spend_per_day is not None
    replay = Replay(promised, seed, **options)
    chance, running = replay.chance, list[_Running]()
    failing = np.random.default_rng([seed, 1])  # of what the checks would have said of small answers that nobody got
    spent, floor, ceiling, alone, asked = ([0.0] * DAYS for _ in range(5))
    for number, now in enumerate(arrivals(chance)):
        row = rows[chance.integers(len(rows))]
        is_dearer = now >= 5.5 * DAY
        factor = {tier: 3.0 if is_dearer and dearer in (tier.value, "both") else 1.0 for tier in Tier}
        cost = {tier: factor[tier] * dollars(row, tier, chance) for tier in Tier}
        while running and running[0].at <= now:
            _settle(replay, heappop(running))
        replay.clock.now = now
        tier, escalated = replay.ask(row)
        escalates, day = not replay.seen.alone[-1], int(now // DAY)
        due = cost[tier] + (cost[Tier.LARGE] if escalated else 0.0)
        heappush(running, _Running(now + chance.lognormal(1.5, 0.8), number, tier, escalates, due, cost[tier]))
        fails = ALARMS if row.right[Tier.SMALL] else CATCHES
        would = replay.checks and failing.random() < fails if tier is Tier.LARGE or not escalates else escalated
        spent[day] += due
        floor[day] += cost[Tier.SMALL] + (cost[Tier.LARGE] if would else 0.0)
        ceiling[day] += cost[Tier.LARGE]
        alone[day] += not escalates
        asked[day] += 1
    aim = float(promised.spend_per_day)
    parts, least = np.array(spent) / aim, np.array(floor) / aim
    could = np.minimum(np.array(ceiling) / aim, 1.0)  # not more than the traffic is worth
    could = np.where(least > 1, 1.0, could)
    fits = least <= 1  # days that the small model alone, with its escalations, does not pass
    given = np.array(alone) / np.array(asked)
    return {
        "highest day": float(parts.max()),
        "highest day that fits": float(parts[fits].max(initial=0.0)),
        "days that do not fit": float((~fits).sum()),
        "highest of small alone": float(least.max()),
        "first day": float(parts[0]),
        "mean of later days": float(parts[1:].mean()),
        "lowest later day": float((parts / could)[1:].min()),
        "large first": float(np.mean(replay.seen.tiers)),
        "without escalations": float(np.mean(replay.seen.alone)),
        "without escalations, most of a day with room": float(given[least <= ROOM].max(initial=0.0)),
    }


class _Running(NamedTuple):
    at: float  # its end
    number: int
    tier: Tier
    escalates: bool
    due: float  # dollars
    alone: float  # dollars of its first answer


def _settle(replay: Replay, ended: _Running) -> None:
    replay.clock.now = ended.at
    due, alone = (Decimal(str(round(each, 9))) for each in (ended.due, ended.alone))
    replay.promises.spent(PLACE, ended.tier, due, escalates=ended.escalates, alone=alone)


def dollars(row: Row, tier: Tier, chance: np.random.Generator) -> float:
    """Return what an answer costs. Its length differs as much as that of real ones does."""
    return _dollars(row.length, tier, chance.lognormal(math.log(USUAL), SCATTER))


def _dollars(characters: float, tier: Tier, tokens: float) -> float:
    per_input, per_output = PRICES[tier]
    return (characters / 4 * per_input + tokens * per_output) / 1e6


def arrivals(chance: np.random.Generator) -> list[float]:
    """Return when requests come: few at night, most in the afternoon, fewer at the weekend, and each day differs."""
    found: list[float] = []
    for day in range(DAYS):
        size = REQUESTS * chance.lognormal(0, 0.15) * (0.6 if day % 7 in (5, 6) else 1.0)
        hours = np.exp(1.2 * np.sin((np.arange(24) - 9) / 24 * 2 * np.pi)) * chance.lognormal(0, 0.15, 24)
        counts = chance.poisson(size * hours / hours.sum())
        found += [day * DAY + hour * 3600 + at for hour in range(24) for at in chance.uniform(0, 3600, counts[hour])]
    return sorted(found)


def a_day(rows: list[Row], *, checks: bool, share: float) -> Decimal:
    """Return the dollars that pay for a share of large answers on a usual day."""
    characters, tokens = float(np.mean([row.length for row in rows])), USUAL * math.exp(SCATTER**2 / 2)
    mean = {tier: _dollars(characters, tier, tokens) for tier in Tier}
    escalated = 0.3 * mean[Tier.LARGE] * checks
    of_one = mean[Tier.LARGE] * share + (mean[Tier.SMALL] + escalated) * max(1 - share, 0)
    return Decimal(str(round(REQUESTS * of_one, 2)))


@dataclass(frozen=True)
class Show:
    """One promise, how it is measured, and which replays keep it."""

    run: Callable[..., dict[str, float]]
    promised: Promised
    keeps: Callable[[dict[str, float]], bool]
    options: dict[str, Any]


def shows(rows: list[Row]) -> dict[str, Show]:
    """Return all that is measured."""
    found: dict[str, Show] = {}
    kinds = [(0.95, 0.02, True, False), (0.95, 0.02, True, True), (0.97, 0.1, True, False), (0.97, 0.1, True, True)]
    for q, shadow, checks, knows in [*kinds, (0.9, 0.1, False, False), (0.95, 0.1, False, False)]:
        name = f"keep {q}, {shadow:.0%} judged{', all checked' * knows}{', no checks' * (not checks)}"
        options = {"shadow": shadow, "knows_failed": knows, "checks": checks}
        found[name] = Show(quality, Promised(keep_quality=q), partial(_kept, q), options)
    options = {"shadow": 0.1, "knows_failed": True}
    found["worse, keep 0.95, 10% judged"] = Show(worse, Promised(keep_quality=0.95), _answers, options)
    for part in (0.1, 0.3, 0.6):
        keeps = partial(_near, part)
        found[f"share {part}"] = Show(share, Promised(large_share=part), keeps, {"shadow": 0.02})
    settings = (("", True), ("", False), ("large", False), ("both", False), ("both", True))
    amounts = [(*each, 1.6 if each == ("both", True) else LARGE_SHARE) for each in settings]
    for dearer, checks, part in [*amounts, ("", True, 0.1), ("", True, -0.05), ("both", True, 0.8)]:
        words = f"{', no checks' * (not checks)}{f', {dearer} three times as dear' if dearer else ''}"
        words += ", hardly enough" * ((dearer, checks, part) not in amounts) + (", too little" * (part < 0))
        dollars_a_day = a_day(rows, checks=checks, share=part)
        of_money: dict[str, Any] = {"shadow": 0.0, "dearer": dearer, "checks": checks, "learns": False}
        found[f"money{words}"] = Show(spending, Promised(spend_per_day=dollars_a_day), _pays, of_money)
    return found


def _kept(promised: float, got: dict[str, float]) -> bool:
    return got["kept"] >= promised


def _answers(got: dict[str, float]) -> bool:
    return got["within 500"] > got["before"] + 0.1


def _pays(got: dict[str, float]) -> bool:
    return got["highest day"] <= 1.02


def _near(part: float, got: dict[str, float]) -> bool:
    return (
        abs(got["share"] - part) <= 0.01 and got["lowest of 500"] > part - 0.07 and got["highest of 500"] < part + 0.07
    )


_ROWS: list[Row] = []


def _begin(folder: Path) -> None:
    _ROWS.extend(rows_of(folder))


def _one(name: str, seed: int) -> tuple[str, dict[str, float]]:
    show = shows(_ROWS)[name]
    return name, show.run(show.promised, _ROWS, seed, **show.options)


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--replays", default=100, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the first replay.")
@click.option("--jobs", default=2, show_default=True)
@click.option("--only", default="", help="Measure only what has this in its name.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all figures there too.")
def main(folder: Path, replays: int, seed: int, jobs: int, only: str, output: Path | None) -> None:
    """Print how often each promise was kept."""
    wanted = {name: show for name, show in shows(rows_of(folder)).items() if only in name}
    tasks = [(name, seed + number) for name in wanted for number in range(replays)]
    got: dict[str, list[dict[str, float]]] = {name: [] for name in wanted}
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (folder,)) as pool:
        for name, figures in track(pool.map(_one, *zip(*tasks, strict=True), chunksize=2), "replays", len(tasks)):
            got[name].append(figures)
    table = Table("promise", "kept", "figures: mean (5 % to 95 %)")
    for name, show in wanted.items():
        kept = sum(map(show.keeps, got[name]))
        table.add_row(name, f"{kept} of {replays}", "\n".join(_line(got[name], figure) for figure in got[name][0]))
    Console(width=120).print(table)
    if output:
        output.write_text(json.dumps(got), "utf-8")


def _line(got: list[dict[str, float]], figure: str) -> str:
    values = [each[figure] for each in got]
    low, high = np.quantile(values, [0.05, 0.95])
    return f"{figure} {np.mean(values):.4g} ({low:.4g} to {high:.4g}, at most {max(values):.4g})"


if __name__ == "__main__":
    main()
