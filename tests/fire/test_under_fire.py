"""Short runs of what `python -m tests.fire.soak`, `idle`, `stalled` and `kills` do for minutes and hours."""

import json
from pathlib import Path
from random import Random

import pytest
from rich.progress import Progress

from tests.fire import idle, kills, soak, stalled
from tests.fire.slope import slope


@pytest.mark.parametrize("per_hour", [0.0, 4.0, 20.0])
def test_a_slope_is_found_among_noise_and_outliers(per_hour: float) -> None:
    noise = Random(1)
    hours = [number / 120 for number in range(240)]
    values = [200 + per_hour * hour + noise.gauss(0, 3) + 80 * (noise.random() < 0.05) for hour in hours]
    found = slope(hours, values)
    assert abs(found.per_hour - per_hour) < 1.5
    assert found.low < found.per_hour < found.high


@pytest.mark.timeout(240)
async def test_a_soak_leaves_samples_that_can_be_read(tmp_path: Path) -> None:
    log = tmp_path / "soak.jsonl"
    await soak.soak(log, hours=4 / 3600, rate=10, seed=1, every_s=0.4, reader="httptools")
    _, wrong = soak.found(log, warm_up=0)
    assert not [each for each in wrong if "crashes" in each or "must not" in each]
    last = json.loads(log.read_text("utf-8").splitlines()[-1])
    assert last["visits"] >= 10
    assert last["ended"] >= 10
    assert sum(last["ends"].values()) >= 10


def _log(folder: Path, **per_hour: float) -> Path:
    """Return the log of two hours in which these figures grow so much an hour, and others wave."""
    flat = {
        "rss_kib": 300_000,
        "anonymous_kib": 270_000,
        "children_kib": 150_000,
        "children_anonymous_kib": 60_000,
        "files": 60,
        "threads": 16,
        "millrace_tasks": 90,
        "millrace_memory_bytes": 5e7,
        "millrace_disk_queue_writes": 3,
    }
    counts = {"visits": 50_000, "ended": 70_000, "faults": 0, "late": 0, "crashes": 0, "new_faults": []}
    noise, log = Random(1), folder / "soak.jsonl"
    rows = []
    for t in range(0, 7200, 30):
        grown = {name: value + per_hour.get(name, 0) * t / 3600 for name, value in flat.items()}
        rows.append({"t": t, **counts, **{name: value * noise.gauss(1, 0.005) for name, value in grown.items()}})
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return log


@pytest.mark.parametrize(
    ("grows", "said"),
    [
        ({}, []),
        ({"rss_kib": 8 * 1024.0}, ["memory of the server"]),
        ({"children_anonymous_kib": 8 * 1024.0}, ["memory of its children"]),
        ({"children_kib": 8 * 1024.0}, []),  # pages of the weights
        ({"files": 10.0}, ["file descriptors"]),
        ({"millrace_tasks": 20.0}, ["tasks"]),
    ],
)
def test_what_grows_in_a_soak_is_told(tmp_path: Path, grows: dict[str, float], said: list[str]) -> None:
    _, wrong = soak.found(_log(tmp_path, **grows), warm_up=20)
    assert [each.partition(",")[0].partition(":")[0] for each in wrong] == said


@pytest.mark.timeout(240)
async def test_what_idle_connections_cost() -> None:
    (costs,) = await idle.idle(("responses",), 300, lambda *_: None)
    assert not idle.wrong(costs)


@pytest.mark.timeout(240)
async def test_stalled_readers_are_cheap_and_closed() -> None:
    """What is a matter of time, and of a peer that reads its close frame in time, is measured by the command."""
    (pair,) = await stalled.measure(1, healthy=20, stalled=10, stuck_s=1.0, seed=1, step=lambda: None)
    assert pair.beside.kib <= stalled.MOST_KIB
    assert len(pair.beside.closed_s) == 10
    assert stalled.TRY_AGAIN_LATER in pair.beside.codes


@pytest.mark.timeout(240)
async def test_kills_lose_and_damage_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """How soon a row is on the disk, and a client knows, is measured by the command: a busy machine is later."""
    monkeypatch.setattr(kills, "AGES_S", 5.0)
    monkeypatch.setattr(kills, "LEARNS_S", 30.0)
    outcome = await kills.killing(tmp_path, 2, 1, Progress(disable=True))
    assert outcome.server_kills
    assert not outcome.faults
    assert [rows for rows in outcome.rows.values() if rows == ["killed"]]
