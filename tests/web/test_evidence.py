"""`GET /v1/evidence`: who may read it, whose it is, and what it says of a period."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from millrace.principal import Role
from millrace.stores.database import SqliteDatabase
from millrace.stores.evidence import SqliteEvidence
from tests.support.frames import validate_answer
from tests.support.judged import judged
from tests.support.server import Running, Start
from tests.web.test_cache import keyed, told

DAY_S = 86_400


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A folder in which hits of two tenants were judged, one of them long ago."""
    database = SqliteDatabase(str(tmp_path))
    store = SqliteEvidence(database, keep_days=30, wall=time.time)
    now = time.time()
    await store.add(
        [
            judged("1", "same", tenant="acme", scope=b"\xaa", taken_at=now),
            judged("2", "different", tenant="acme", scope=b"\xaa", taken_at=now - 20 * DAY_S),
            judged("3", "different", tenant="other", scope=b"\xbb", taken_at=now),
        ]
    )
    await asyncio.to_thread(database.close)
    return tmp_path


async def test_it_is_for_admins_alone(start: Start, tmp_path: Path) -> None:
    async with keyed(start, tmp_path, ("acme", Role.USE)) as (http,):
        status, said = await told(http, "GET", "/v1/evidence")
    assert (status, said["error"]["code"]) == (403, "forbidden")
    assert "--role admin" in said["error"]["message"]


async def test_an_admin_reads_of_the_tenant_alone(start: Start, folder: Path) -> None:
    """As the contract has it; the operator's cost is not a tenant's."""
    async with keyed(start, folder, ("acme", Role.ADMIN), ("other", Role.ADMIN)) as (own, other):
        status, report = await told(own, "GET", "/v1/evidence")
        validate_answer("get", "/v1/evidence", 200, report)
        assert (status, report["tenant"], report["cost"]) == (200, "acme", None)
        assert (report["semantic"]["wrong"]["judged"], report["semantic"]["wrong"]["estimate"]) == (1, 0.0)
        assert [each["scope"] for each in report["semantic"]["scopes"]] == ["aa"]
        month = (await told(own, "GET", "/v1/evidence?since=4w"))[1]
        assert month["semantic"]["wrong"]["judged"] == 2
        theirs = (await told(other, "GET", "/v1/evidence?since=4w"))[1]
        assert [each["scope"] for each in theirs["semantic"]["scopes"]] == ["bb"]


async def test_before_anything_was_judged_all_is_null(millrace: Running) -> None:
    """Also on a server without a folder."""
    async with aiohttp.ClientSession(millrace.url) as http:
        status, report = await told(http, "GET", "/v1/evidence")
    validate_answer("get", "/v1/evidence", 200, report)
    assert (status, report["judges_now"], report["near_misses"]["estimate"]) == (200, False, None)


async def test_a_period_that_is_none_is_refused(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as http:
        status, said = await told(http, "GET", "/v1/evidence?since=lately")
    assert (status, said["error"]["code"], said["error"]["param"]) == (400, "invalid_request", "since")
    assert "such as 90m, 12h, 7d or 4w" in said["error"]["message"]
