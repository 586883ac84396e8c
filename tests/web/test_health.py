"""What `/healthz?verbose` shows, and to whom."""

import aiohttp
import pytest

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from tests.support.frames import validate_answer
from tests.support.server import Running, Start


async def test_it_shows_what_is_kept_in_memory_by_account(millrace: Running) -> None:
    """Open on loopback as long as there is no key; every account has a bound, and they add up."""
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{millrace.url}/healthz?verbose") as answer:
            assert answer.status == 200
            health = await answer.json()
        async with http.get(f"{millrace.url}/healthz?verbose=false") as answer:
            assert "memory" not in await answer.json()
    validate_answer("get", "/healthz", 200, health)
    accounts = health["memory"]["accounts"]
    assert {"running responses", "ended responses"} <= {account["name"] for account in accounts}
    assert health["memory"]["used"] == sum(account["used"] for account in accounts)
    assert all(0 <= account["used"] <= account["allowed"] <= health["memory"]["allowed"] for account in accounts)


@pytest.mark.parametrize(("role", "status"), [(None, 401), (Role.USE, 403), (Role.ADMIN, 200)])
async def test_once_there_is_a_key_it_is_for_admins_alone(
    start: Start, tmp_path: object, role: Role | None, status: int
) -> None:
    """And health itself for everybody."""
    key, text = keys.make(tenant="acme", role=role or Role.USE, created_at=1.0)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)
    headers = {"Authorization": f"Bearer {text}"} if role else {}
    async with (
        start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        async with http.get(f"{running.url}/healthz?verbose=1") as answer:
            assert (answer.status, "memory" in await answer.text()) == (status, status == 200)
        async with http.get(f"{running.url}/healthz") as answer:
            assert answer.status == 200
