"""Short runs of what `python -m tests.fire.soak`, `idle`, `stalled` and `kills` do for minutes and hours."""

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


@pytest.mark.timeout(120)
async def test_a_soak_leaves_samples_that_can_be_read(tmp_path: Path) -> None:
    log = tmp_path / "soak.jsonl"
    await soak.soak(log, hours=4 / 3600, rate=10, seed=1, every_s=0.4, reader="httptools")
    table, wrong = soak.found(log, warm_up=0)
    assert table.row_count == 8
    assert not [each for each in wrong if "memory" not in each and "late" not in each]


@pytest.mark.timeout(120)
async def test_what_idle_connections_cost() -> None:
    (costs,) = await idle.idle(("responses",), 300, lambda *_: None)
    assert not idle.wrong(costs)


@pytest.mark.timeout(120)
async def test_stalled_readers_are_cheap_and_closed() -> None:
    pairs = await stalled.measure(1, healthy=20, stalled=10, stuck_s=1.0, seed=1, step=lambda: None)
    assert not [fault for fault in stalled.wrong(pairs, 1.0) if "wait" not in fault]


@pytest.mark.timeout(120)
async def test_kills_lose_and_damage_nothing(tmp_path: Path) -> None:
    outcome = await kills.killing(tmp_path, 2, 1, Progress(disable=True))
    assert outcome.server_kills
    assert not outcome.faults
    assert [rows for rows in outcome.rows.values() if rows == ["killed"]]
