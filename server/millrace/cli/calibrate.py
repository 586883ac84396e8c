"""`millrace calibrate`: what routing would do for requests of the user's own, and the threshold for a promise."""

import sys
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from millrace import assembly
from millrace.cli import calibrated, configuration, labelled
from millrace.cli.labelled import Asked
from millrace.cli.rewriting import write_setting
from millrace.funnel.routing.calibration import Pairs, Rule, chosen, keeping, scored, with_share, within
from millrace.funnel.routing.curves import Floats, Ranked
from millrace.funnel.routing.features import features_of
from millrace.funnel.routing.heads import Heads
from millrace.settings import RouterSettings, Settings

ENOUGH = 500  # pairs
SECTION = "router"
PROMISES = ("large_share", "keep_quality", "spend_per_day")
IMPOSSIBLE = 1  # exit code


class _Wish(Struct, frozen=True, kw_only=True):
    """The promise that is asked for; at most one."""

    large_share: float | None
    keep_quality: float | None
    budget: float | None

    @property
    def given(self) -> list[str]:
        """The options that are set."""
        named = {"--large-share": self.large_share, "--keep-quality": self.keep_quality, "--budget": self.budget}
        return [name for name, value in named.items() if value is not None]

    @property
    def key(self) -> str:
        """The setting that it is written to."""
        return "large_share" if self.keep_quality is None else "keep_quality"

    def value(self, large_share: float) -> float:
        """Return what is written there. A budget becomes the share that it buys."""
        asked = self.large_share if self.keep_quality is None else self.keep_quality
        return round(large_share, 4) if asked is None else asked


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--large-share", type=click.FloatRange(0, 1), help="Find the threshold for a share of large calls: 0.3.")
@click.option(
    "--keep-quality",
    type=click.FloatRange(0, 1, min_open=True),
    help="Find the fewest large calls that keep so much of the large model's quality: 0.95.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    help="Find the most large calls for so many dollars per 1,000 such requests, at the configured prices: 2.5.",
)
@click.option("--prompts-only", is_flag=True, help="PAIRS has no labels: set a share by the length of prompts.")
@click.option(
    "--write", is_flag=True, help="Set the promise in the configuration, and have the router take up what it learned."
)
@click.option("--tenant", default="anonymous", show_default=True, help="Whose requests PAIRS are, for --write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configuration.config_option
def calibrate(
    *,
    pairs: Path,
    prompts_only: bool,
    write: bool,
    tenant: str,
    as_json: bool,
    config: Path,
    **wished: float | None,
) -> None:
    """Measure on PAIRS what routing between the two models is worth, and find the threshold for a promise.

    PAIRS is a file of JSON Lines: {"prompt": "...", "small_correct": true, "large_correct": false}. Instead of
    `prompt` a row may have `messages` and `tools` of a chat completion. `subject` groups the table of topics;
    `small_answer` and `large_answer` tell --budget how long answers are. No server is needed, and no model is called.

    The router learns from four fifths of the rows and is measured on the others, in turn. Take 500 pairs or more, of
    your own traffic: what is learned from other prompts does not carry over.
    """
    wish = _Wish(**wished)
    _check(wish, prompts_only=prompts_only, write=write)
    settings = configuration.load(config) if config.exists() or write or wish.budget is not None else None
    if write:
        _check_writable(config, wish.key)
    asked = labelled.read(pairs, labels=not prompts_only)
    console = Console(stderr=True, highlight=False)
    if len(asked) < ENOUGH:
        console.print(f"{len(asked)} pairs are few; take {ENOUGH} or more before you rely on this", style="yellow")
    given = _pairs(asked, console)
    length = scored(Heads(), given.features)
    router = length if prompts_only else _cross_validated(given, console)
    ranked = Ranked(router, given.small, given.large)
    costs = labelled.costs(asked, settings.models)[:, ranked.order] if settings and wish.budget else None
    rule = _rule(wish, settings, costs)
    found = None if rule is None else chosen(ranked, rule, costs)
    report = None if prompts_only else calibrated.report(pairs.name, asked, router, length, found)
    if as_json:
        calibrated.print_json(report, found)
    elif report is not None:
        calibrated.print_report(report, found)
    if found is not None and not as_json:
        calibrated.print_chosen(found, _in_words(wish, _confidence(settings)), labels=not prompts_only)
    if write and settings and found is not None:
        write_setting(config, SECTION, wish.key, wish.value(found.share.value))
        if not prompts_only:
            _store(settings, tenant, given.fit(), f"calibrated by {pairs.name}")


def _check(wish: _Wish, *, prompts_only: bool, write: bool) -> None:
    if len(wish.given) > 1:
        raise click.UsageError(f"{' and '.join(wish.given)} exclude each other; give one")
    if write and not wish.given:
        raise click.UsageError("--write sets a promise; give --large-share, --keep-quality or --budget too")
    if prompts_only and wish.large_share is None:
        raise click.UsageError("--prompts-only needs --large-share: prompts without labels tell nothing of quality")


def _check_writable(config: Path, key: str) -> None:
    """Refuse to write a second promise beside one that the file has."""
    router = tomllib.loads(config.read_text("utf-8")).get(SECTION, {}) if config.exists() else {}
    others = [name for name in PROMISES if name in router and name != key]
    if others:
        raise click.UsageError(
            f"{config}: [{SECTION}] {others[0]} is set, and only one promise can be: remove it first"
        )


def _pairs(asked: list[Asked], console: Console) -> Pairs:
    rows = track(asked, "reading prompts", console=console, disable=not console.is_terminal)
    return Pairs(
        features=[features_of(row.prompt) for row in rows],
        small=np.array([row.small for row in asked], float),
        large=np.array([row.large for row in asked], float),
        keys=[tuple((each.role, each.text) for each in row.prompt.messages) for row in asked],
    )


def _cross_validated(pairs: Pairs, console: Console) -> Floats:
    def tracked(folds: Iterable[NDArray[np.int64]]) -> Iterable[NDArray[np.int64]]:
        return track(folds, "learning", console=console, disable=not console.is_terminal)

    return pairs.cross_validated(tracked)


def _store(settings: Settings, tenant: str, heads: Heads, note: str) -> None:
    """Have the router of a tenant take up what was learned; a running server does so within seconds."""
    folder = settings.server.data_dir

    async def store() -> int:
        async with assembly.router_reports(folder, settings.router, settings.shared, create=True) as reports:
            return await reports.replace(tenant, heads, time.time(), note)

    number = configuration.run_on(
        folder, store, endpoint="/v1/router", nothing="not stored", unable="what was learned is not stored"
    )
    click.echo(f"{folder}: what was learned is snapshot {number} of {tenant!r}; `millrace router` shows it", err=True)


def _rule(wish: _Wish, settings: Settings | None, costs: Floats | None) -> Rule | None:
    if wish.large_share is not None:
        return with_share(wish.large_share)
    if wish.keep_quality is not None:
        return keeping(wish.keep_quality, _confidence(settings))
    if wish.budget is None or costs is None:
        return None
    least, most = (1_000 * float(each.mean()) for each in costs)
    if wish.budget < least:
        click.echo(f"the small model alone costs ${least:.4g} for 1,000 such requests; nothing is found", err=True)
        sys.exit(IMPOSSIBLE)
    if wish.budget >= most:
        click.echo(f"the large model alone costs ${most:.4g} for 1,000 such requests: the budget buys all", err=True)
    return within(wish.budget, costs)


def _confidence(settings: Settings | None) -> float:
    return (settings.router if settings else RouterSettings()).confidence


def _in_words(wish: _Wish, confidence: float) -> str:
    if wish.keep_quality is not None:
        kept = (
            f"{100 * wish.keep_quality:g} % of the large model's quality, kept with {100 * confidence:g} % confidence"
        )
        return f"the fewest large calls for {kept}; more pairs need less margin"
    if wish.budget is not None:
        return f"the most large calls for ${wish.budget:g} per 1,000 such requests, without those that checks add"
    return f"{100 * (wish.large_share or 0):g} % of requests to the large model"
