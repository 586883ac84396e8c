"""What sessions of 50 turns cost that are kept at a model, against those in which every turn is routed alone.

    python -m tests.measure_sessions [--sessions N] [--seed N] [--json FILE]

The history of a session grows with each turn. Each model's provider keeps a prompt in its cache for five minutes after
its last use, and sells what is read from there at a tenth. Hard turns come in runs. The router's score of a turn is
noisy, so that routing alone flips between the models. An answer counts as much as it is likely to be right, by how hard
its turn is: drawing that would only add noise, of several percent of the bill. Sessions are measured at the threshold
of routing alone, and at the one at which as many answers are right as there: a promise makes that of the former.
The last line of a kind is the cheapest plan of who knows all turns, which of them are hard and when they come: what no
router can be below.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import click
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from millrace import pricing
from millrace.funnel.catalog import Catalog
from millrace.funnel.routing.promises import Threshold
from millrace.funnel.routing.sessions import Sessions
from millrace.types import Price, Strategy, Tier, Usage
from tests.support.clock import ManualClock
from tests.support.scripted_models import LARGE, SMALL, request

TURNS = 50
KEPT_S = 300  # by a provider's cache, after its last use
FIRST, GROWTH = 8000, 1000  # tokens of the history at first, and that each turn adds
THRESHOLD = 0.2  # of routing alone
RIGHT = {(Tier.SMALL, False): 0.92, (Tier.LARGE, False): 0.93, (Tier.SMALL, True): 0.5, (Tier.LARGE, True): 0.8}

SMALL_PRICED = replace(SMALL, price=Price(input=Decimal("0.15"), output=Decimal("0.60"), cached_input=Decimal("0.015")))
LARGE_PRICED = replace(LARGE, price=Price(input=Decimal("2.5"), output=Decimal(10), cached_input=Decimal("0.25")))
MODELS = {Tier.SMALL: SMALL_PRICED, Tier.LARGE: LARGE_PRICED}
OTHER = {Tier.SMALL: Tier.LARGE, Tier.LARGE: Tier.SMALL}
FIGURES = ("at", "tokens", "output")  # of a turn


@dataclass(frozen=True)
class Kind:
    """A kind of sessions."""

    gap: float  # seconds between turns, the median
    stays: float = 0.75  # how often a hard turn follows a hard one
    becomes: float = 0.15  # how often one follows an easy one


KINDS = {
    "a person who reads, flips": Kind(150.0, stays=0.4, becomes=0.4),
    "a person who reads": Kind(150.0),
    "a quick person, flips": Kind(75.0, stays=0.4, becomes=0.4),
    "a quick person": Kind(75.0),
    "an agent": Kind(10.0),
}


@dataclass(frozen=True)
class Turn:
    """A turn of a session."""

    at: float  # seconds
    tokens: int  # of its prompt
    output: int  # tokens
    score: float  # the gain that the router expects of the large model
    is_hard: bool


class PromptCache:
    """What the provider of one model has in its cache of one session."""

    def __init__(self) -> None:
        self._tokens, self._at = 0, -1e9

    def charge(self, turn: Turn) -> int:
        """Return how many tokens of a turn are read from the cache; then put it there."""
        cached = self._tokens if turn.at - self._at < KEPT_S else 0
        self._tokens, self._at = turn.tokens, turn.at
        return cached


@dataclass
class Sum:
    """What sessions have cost, and what they got."""

    dollars: float = 0.0
    right: float = 0.0  # answers, that are expected to be
    large: int = 0
    switches: int = 0


def session(chance: np.random.Generator, kind: Kind) -> list[Turn]:
    """Return the turns of a session."""
    turns, now, tokens, hard = list[Turn](), 0.0, FIRST, False
    for _ in range(TURNS):
        hard = bool(chance.random() < (kind.stays if hard else kind.becomes))
        score = float(chance.normal(0.35 if hard else 0.05, 0.15))
        turns.append(Turn(now, tokens, int(chance.lognormal(5.5, 0.7)), score, hard))
        now += kind.gap * float(chance.lognormal(0, 0.5))
        tokens += int(GROWTH * chance.lognormal(-0.2, 0.6))
    return turns


def bill(turns: list[Turn], tiers: Iterator[Tier], total: Sum) -> None:
    """Add what a session costs that is answered by these models."""
    caches = {tier: PromptCache() for tier in Tier}
    last = None
    for turn, tier in zip(turns, tiers, strict=True):
        cached = caches[tier].charge(turn)
        usage = Usage(input_tokens=turn.tokens, cached_input_tokens=cached, output_tokens=turn.output)
        total.dollars += float(pricing.cost(usage, MODELS[tier].price))
        total.right += RIGHT[tier, turn.is_hard]
        total.large += tier is Tier.LARGE
        total.switches += last is not None and tier is not last
        last = tier


def alone(turns: list[Turn], threshold: float) -> Iterator[Tier]:
    """Route every turn by its score."""
    return (Tier.LARGE if turn.score >= threshold else Tier.SMALL for turn in turns)


class Held:
    """Routes the turns of sessions together. Sessions follow each other."""

    def __init__(self, threshold: Threshold) -> None:
        self._clock = ManualClock()
        self._sessions = Sessions(Catalog(SMALL_PRICED, LARGE_PRICED, {}, Strategy.AUTO), self._clock)
        self._threshold = threshold
        self._number = 0

    def tiers(self, turns: list[Turn]) -> Iterator[Tier]:
        """Return whom each turn of a session is put to."""
        self._number += 1
        asked = request(session=f"session {self._number}")
        for turn, wanted in zip(turns, alone(turns, self._threshold.value), strict=True):
            self._clock.now = turn.at
            asked = replace(asked, input_tokens=turn.tokens)
            yield self._sessions.hold(asked, wanted, turn.score, self._threshold)[0]


def bill_of(sessions: list[list[Turn]], threshold: Threshold) -> Sum:
    """Return what sessions cost that are kept at a model."""
    held, total = Held(threshold), Sum()
    for turns in sessions:
        bill(turns, held.tiers(turns), total)
    return total


class Foreseen:
    """A session whose turns are all known, with which of them are hard, and when they come."""

    def __init__(self, turns: list[Turn]) -> None:
        self._turns = turns
        at, tokens, output = (np.array([getattr(turn, each) for turn in turns], float) for each in FIGURES)
        cached = np.where(at[:, None] - at < KEPT_S, tokens, 0.0)  # by turn, and when the model was asked last
        cached = np.hstack([cached, np.zeros((TURNS, 1))])  # it never was: -1
        self._dollars = dict[Tier, NDArray[np.float64]]()
        self._right = dict[Tier, NDArray[np.float64]]()
        for tier, model in MODELS.items():
            price = model.price
            dollars = (tokens[:, None] - cached) * float(price.input) + cached * float(price.cached_input or 0)
            self._dollars[tier] = (dollars + output[:, None] * float(price.output)) / 1e6
            self._right[tier] = np.array([[RIGHT[tier, turn.is_hard]] for turn in turns])

    def tiers(self, worth: float) -> Iterator[Tier]:
        """Return the plan that costs least, less so many dollars for each right answer: solved from the last turn."""
        net = {tier: dollars - worth * self._right[tier] for tier, dollars in self._dollars.items()}
        rest = {tier: np.zeros(TURNS + 1) for tier in Tier}  # by who was asked before, and when the other was
        moves = list[dict[Tier, NDArray[np.bool_]]]()
        for turn in reversed(range(TURNS)):
            stay = {tier: net[tier][turn, turn - 1] + rest[tier] for tier in Tier}
            move = {tier: net[other][turn] + rest[other][turn - 1] for tier, other in OTHER.items()}
            moves.append({tier: move[tier] < stay[tier] for tier in Tier})
            rest = {tier: np.minimum(stay[tier], move[tier]) for tier in Tier}
        tier, when = Tier.SMALL, -1
        for turn, has_moved in enumerate(reversed(moves)):
            if has_moved[tier][when]:
                tier, when = OTHER[tier], turn - 1
            yield tier


def foreseen_bill(sessions: list[list[Turn]], worth: float) -> Sum:
    """Return what sessions cost at least whose turns are known, where a right answer is worth so many dollars."""
    total = Sum()
    for turns in sessions:
        bill(turns, Foreseen(turns).tiers(worth), total)
    return total


def compare(sessions: list[list[Turn]]) -> dict[str, Sum]:
    """Return what routing alone costs, and keeping sessions at the same threshold and at the same quality."""
    each = Sum()
    for turns in sessions:
        bill(turns, alone(turns, THRESHOLD), each)
    found = {
        "each turn alone": each,
        "sessions, same threshold": bill_of(sessions, Threshold(THRESHOLD, "")),
        "sessions, promise of quality": bill_of(sessions, Threshold(THRESHOLD, "", binds=True)),
    }
    found["sessions, same quality"] = matched(
        each.right, lambda value: bill_of(sessions, Threshold(value, "")), 0.01, 0.8
    )
    return found


def matched(right: float, run: Callable[[float], Sum], most: float, least: float) -> Sum:
    """Return the bill of a run with as many right answers, between the values with the most and the least of them."""
    more, less = run(most), run(least)
    for _ in range(9):
        total = run((most + least) / 2)
        if total.right >= right:
            most, more = (most + least) / 2, total
        else:
            least, less = (most + least) / 2, total
    return between(less, more, (right - less.right) / (more.right - less.right))


def between(less: Sum, more: Sum, part: float) -> Sum:
    """Return what lies between two bills, as thresholds do that are mixed: a step of one may change many turns."""
    return Sum(
        dollars=less.dollars + part * (more.dollars - less.dollars),
        right=less.right + part * (more.right - less.right),
        large=round(less.large + part * (more.large - less.large)),
        switches=round(less.switches + part * (more.switches - less.switches)),
    )


@click.command(help=__doc__)
@click.option("--sessions", default=200, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all figures there too.")
def main(sessions: int, seed: int, output: Path | None) -> None:
    """Print a table."""
    table = Table("sessions of", "routed", "dollars a session", "of alone", "right", "large", "switches")
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name_of_kind, kind in track(KINDS.items(), "sessions"):
        chance = np.random.default_rng(seed)
        drawn = [session(chance, kind) for _ in range(sessions)]
        found = compare(drawn)
        right = found["each turn alone"].right
        found["all turns known, same quality"] = matched(right, partial(foreseen_bill, drawn), 0.5, 0.0)
        base, turns = found["each turn alone"].dollars, sessions * TURNS
        figures[name_of_kind] = {name: vars(total) for name, total in found.items()}
        for name, total in found.items():
            row = (f"{total.dollars / sessions:.3f}", f"{total.dollars / base:.1%}", f"{total.right / turns:.1%}")
            table.add_row(name_of_kind, name, *row, f"{total.large / turns:.0%}", f"{total.switches / sessions:.1f}")
    Console(width=120).print(table)
    if output:
        output.write_text(json.dumps(figures), "utf-8")


if __name__ == "__main__":
    main()
