"""The benchmark of savings counts right: bills, truth, what each lever switches. A small workload, over real HTTP."""

import json
from dataclasses import replace as changed
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from tests.savings import report
from tests.savings.figures import Figures, faults, figures, quantiles, rows_of, waterfall
from tests.savings.levers import ALL, BY_NAME, NONE, setups
from tests.savings.mix import Mix
from tests.savings.stage import Ran, run
from tests.savings.workload import Workload
from tests.support.paths import REPOSITORY

SHIPPED = REPOSITORY / "tests" / "savings" / "mix.toml"
MIX = replace(Mix.read(SHIPPED), requests=40, speed=60.0, per_second=0.7)
URLS = {"small": "http://127.0.0.1:1/v1", "large": "http://127.0.0.1:2/v1"}
SETUPS = {setup.name: setup for setup in setups()}


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload(MIX)


def test_a_workload_is_the_same_again_and_has_the_shares_of_its_mix(workload: Workload) -> None:
    again = Workload(MIX)
    assert [(ask.kind, ask.text, ask.context) for ask in workload.asks] == [
        (ask.kind, ask.text, ask.context) for ask in again.asks
    ]
    kinds = [ask.kind for ask in workload.asks]
    assert [kinds.count(kind) for kind in ("repeated", "reworded", "agent", "retrieved", "fresh")] == [8, 6, 8, 4, 14]


def test_what_is_repeated_was_asked_and_what_is_reworded_was_asked_otherwise() -> None:
    said: dict[str, set[str]] = {}
    for ask in Workload(replace(MIX, requests=800)).asks:
        before = said.setdefault(ask.asked.fact, set())
        if ask.kind == "repeated":
            assert ask.text in before
        elif ask.kind == "reworded":
            assert before
            assert ask.text not in before
        elif ask.kind == "fresh":
            assert not before
        before.add(ask.text)


def test_what_calibrates_the_router_is_never_asked(workload: Workload) -> None:
    rows = [json.loads(line) for line in Workload(MIX, half=0).judged().splitlines()]
    judged = {row["messages"][-1]["content"] for row in rows}
    agents = {ask.text for ask in workload.asks if ask.turn is not None}
    assert not judged & ({ask.text for ask in workload.asks} - agents)
    assert {row["small_correct"] for row in rows} == {True, False}


def test_a_hard_question_has_a_wrong_answer_of_the_small_model(workload: Workload) -> None:
    for ask in Workload(replace(MIX, requests=400)).asks:
        asked = ask.asked
        assert asked.hard is (asked.weak is not None)
        assert asked.is_right(asked.strong)
        assert asked.is_right(asked.brief)
        assert asked.weak is None or not asked.is_right(asked.weak)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("repeated = 0.20", "repeated = 0.30", r"\[kinds\] adds up to 1.1"),
        ("hard = 0.333", "hard = 3", "Share|fresh.hard"),
        ("speed = 8", "sped = 8", "sped|speed"),
        ("[kinds]", "[kinds", "mix.toml"),
    ],
)
def test_a_mix_with_a_fault_is_refused_by_name(tmp_path: Path, old: str, new: str, told: str) -> None:
    file = tmp_path / "mix.toml"
    file.write_text(SHIPPED.read_text("utf-8").replace(old, new, 1), "utf-8")
    with pytest.raises(ValueError, match=told):
        Mix.read(file)


def test_each_lever_switches_what_it_says_and_nothing_else(workload: Workload) -> None:
    """In the settings and in the requests, against those without levers."""
    fresh = next(ask for ask in workload.asks if ask.kind == "fresh")
    retrieved = next(ask for ask in workload.asks if ask.context)

    def of(name: str) -> tuple[set[str], dict[str, object], dict[str, object]]:
        setup = SETUPS[name]
        lines = set(setup.settings(MIX, URLS, Path("/data"), 0.4).splitlines())
        return lines, setup.options(MIX, fresh), setup.options(MIX, retrieved)

    lines, options, long = of(NONE)
    assert options == {"strategy": "large", "cache": "off", "tag": fresh.tag}
    assert "context_budget" not in long
    assert {"exact = false", "semantic = false", "judged = false", "hedge_share = 0"} <= lines
    changes = {name: (of(name)[0] - lines, set(of(name)[1].items()) - set(options.items())) for name in BY_NAME}
    assert changes["exact"] == ({"exact = true"}, {("cache", "on")})
    assert changes["semantic"] == ({"semantic = true", "judged = true"}, {("cache", "on")})
    routing = {"judged = true", "[router]", "large_share = 0.4"}
    assert changes["routing"] == (routing, {("strategy", "auto")})
    assert changes["hedge"] == (routing | {"hedge_share = 0.1"}, {("strategy", "auto")})
    assert changes["concise"] == (set(), {("concise", True)})
    assert changes["trimming"] == (set(), set())
    assert of("trimming")[2]["context_budget"] == MIX.retrieved.budget
    assert all("cached_input" in line for line in changes["prefix"][0])
    assert len(changes["prefix"][0]) == 2
    assert SETUPS[ALL].levers == tuple(BY_NAME.values())


@pytest.mark.timeout(180)
async def test_bills_times_truth_and_the_waterfall_of_two_runs(tmp_path: Path) -> None:
    """Without levers all is the large model's; with all, the sum of the bars is exactly what was saved."""
    ran = [await run(SETUPS[name], MIX, Workload(MIX), tmp_path / name.replace(" ", "-")) for name in (NONE, ALL)]
    off, on = map(figures, ran)
    assert (off.faults, on.faults) == ([], [])
    assert (off.quality, off.failed, off.cache, off.sources) == (1.0, 0, {"miss": 40}, {"large": 40})
    assert off.bill == sum((row.cost for row in rows_of(ran[0].folder)[0]), Decimal(0)) > 0
    assert on.bill < off.bill
    assert on.cache.get("exact", 0) + on.cache.get("joined", 0) + on.cache.get("semantic", 0) > 0
    bars = waterfall(ran[0], ran[1], MIX)
    assert off.bill - sum(bars.values()) == on.bill
    assert bars["routing"] > 0
    assert bars["trimming"] > 0
    assert bars["concise"] > 0
    assert sum(counts["right"] for counts in on.by_kind.values()) == round(on.quality * on.requests)
    _check_faults_are_found(ran[0])
    _check_report([off, on], bars)


def _check_faults_are_found(ran: Ran) -> None:
    """A client that was told another cost, a request without a row, a model that counted more."""
    rows, _ = rows_of(ran.folder)
    dearer = [changed(ran.answered[0], cost=ran.answered[0].cost + 1e-9), *ran.answered[1:]]
    assert any("clients were told" in fault for fault in faults(changed(ran, answered=dearer), rows))
    assert any("has 0 rows" in fault for fault in faults(ran, rows[1:]))
    more = {name: stats | {"input_tokens": stats["input_tokens"] + 1} for name, stats in ran.stats.items()}
    assert any("at the model" in fault for fault in faults(changed(ran, stats=more), rows))


def _check_report(found: list[Figures], bars: dict[str, Decimal]) -> None:
    console = Console(width=170, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        report.show(console, MIX, found, bars)
    said = captured.get()
    for words in ("large only", "all on", "of large only", "waste" if bars["waste"] else "routing"):
        assert words in said
    plot = report.svg(found[0], bars, found)
    assert plot.startswith("<svg")
    assert plot.count("<rect") >= len(bars) // 2
    assert f"| {ALL} | {float(found[1].bill / found[0].bill):.1%} |" in report.markdown(found, bars)
    body = json.loads(report.as_json(MIX, found, bars, 0.4))
    assert [each["name"] for each in body["runs"]] == [NONE, ALL]
    assert len(body["promises"]) == 3


def test_quantiles_are_nearest_ranks() -> None:
    assert quantiles([float(number) for number in range(1, 101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert quantiles([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0}
