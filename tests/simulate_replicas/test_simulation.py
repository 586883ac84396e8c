"""The simulation of replicas: on small numbers it agrees with arithmetic, and its costs come from the real parts."""

import asyncio
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.simulate_replicas.costs import Costs, of_an_index, of_postgres, of_redis
from tests.simulate_replicas.service import COMMANDS, CORE, NETWORK, ROWS, TAILING, Load, Service, bound, carried
from tests.support.shared_servers import postgres_server, redis_server

FREE = Costs(**{field.name: 1e-9 for field in fields(Costs)})


def test_it_is_the_same_with_the_same_seed() -> None:
    load = Load(replicas=3, rate=200.0, seed=7)
    assert Service(FREE, load).run() == Service(FREE, load).run()
    assert Service(FREE, load).run() != Service(FREE, replace(load, seed=8)).run()


def test_no_row_is_lost_and_none_is_late_where_nothing_costs() -> None:
    figures = Service(FREE, Load(replicas=3, rate=200.0)).run()
    assert figures.requests == pytest.approx(200 * 8, rel=0.1)
    assert figures.arrived <= figures.settled <= figures.requests
    assert figures.settled - figures.arrived < 200  # those of the last half second
    assert figures.row_lag_s <= 0.5
    assert figures.limits == []


@pytest.mark.parametrize(
    ("dear", "entries", "part"),
    [
        ({"answer_s": 0.02}, 0.0, CORE),
        ({"redis_find_s": 0.004}, 0.0, COMMANDS),
        ({"find_bytes": 500_000.0}, 0.0, NETWORK),
        ({"row_s": 0.004}, 0.0, ROWS),
        ({"insert_s": 0.01}, 0.5, TAILING),
    ],
)
def test_what_is_dear_is_the_first_limit(dear: dict[str, float], entries: float, part: str) -> None:
    """At the rate that arithmetic says, and not far below it."""
    costs, load = replace(FREE, **dear), Load(replicas=2, rate=1.0, entries=entries)
    most = bound(costs, load)
    assert Service(costs, replace(load, rate=1.5 * most)).run().limits[0] == part
    assert Service(costs, replace(load, rate=0.7 * most)).run().limits == []
    assert 0.7 * most <= carried(costs, load, (0.5 * most, 1.5 * most), 3) <= 1.3 * most


def test_replicas_add_up_until_what_they_share_is_the_limit() -> None:
    costs = replace(FREE, answer_s=0.02, row_s=0.004)
    one, two, many = (bound(costs, Load(replicas=number, rate=1.0)) for number in (1, 2, 100))
    assert two == pytest.approx(2 * one)
    assert many == pytest.approx(250, rel=0.01)


def test_a_page_costs_the_lock_even_where_it_has_few_rows() -> None:
    """Each replica looks twice a second: with many of them the lock is busy, and rows wait for their turn."""
    costs = replace(FREE, sync_s=0.01)
    few, many = (Service(costs, Load(replicas=number, rate=200.0)).run() for number in (2, 90))
    assert (few.busy[ROWS] < 0.1, many.busy[ROWS] > 0.8) == (True, True)
    assert few.row_lag_s < many.row_lag_s


def test_lookups_that_are_late_are_misses() -> None:
    figures = Service(replace(FREE, redis_find_s=0.02), Load(replicas=2, rate=100.0)).run()
    assert figures.late_lookups > 0.5
    assert figures.settled > 0


async def test_the_costs_of_redis_are_those_of_the_real_one() -> None:
    with redis_server() as redis:
        found = await of_redis(redis, 40)
    assert set(found) <= {field.name for field in fields(Costs)}
    assert all(value >= 0 for value in found.values())
    assert found["find_bytes"] > 1400  # the answer
    assert found["entry_bytes"] > 2 * 384
    assert 0 < found["redis_find_s"] < 0.01


def test_the_costs_of_postgresql_are_those_of_the_real_one(tmp_path: Path) -> None:
    with postgres_server() as postgres:
        found = asyncio.run(of_postgres(postgres, tmp_path, 10, page=300))  # so that a page takes longer than a row
    assert 0 < found["row_s"] < 0.1
    assert found["page_s"] >= 0 < found["sync_s"]
    assert found["row_bytes"] > 300


def test_an_entry_has_the_size_of_its_vector_and_more() -> None:
    found = of_an_index(200)
    assert 4 * 384 < found["index_bytes"] < 2500
    assert found["insert_s"] > found["load_s"] > 0
