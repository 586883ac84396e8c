"""Keys of several replicas: PostgreSQL has the truth, and each of them goes on with its copy."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from click.testing import CliRunner, Result

from millrace.__main__ import main
from millrace.access.keys import make
from millrace.principal import Key, Role
from millrace.stores.database import SqliteDatabase
from millrace.stores.keys import StoredKeys
from millrace.stores.postgres.database import PostgresAwayError, PostgresDatabase
from millrace.stores.postgres.keys import SharedKeys
from tests.support.keys import heeded
from tests.support.replicas import replicas
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S

NOW = 1_796_000_000.0


class Replica(NamedTuple):
    """The keys of a replica, and its own copy of them."""

    keys: SharedKeys
    copy: StoredKeys


@pytest.fixture
async def pair(server: SharedServer, service: str, tmp_path: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    disks = [SqliteDatabase(str(tmp_path / name)) for name in ("one", "two")]
    remote = PostgresDatabase(server.url, service)
    copies = [StoredKeys(disk) for disk in disks]
    one, two = [Replica(SharedKeys(StoredKeys(remote), copy), copy) for copy in copies]
    for disk in disks:
        await disk.ready()
    yield one, two
    remote.close()
    for disk in disks:
        disk.close()


def key(tenant: str, at: float = NOW) -> Key:
    return make(tenant=tenant, role=Role.USE, name=f"of {tenant}", created_at=at)[0]


async def test_what_one_changes_the_other_has_and_copies(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    first, second = key("acme"), key("other", NOW + 1)
    await one.keys.add(first)
    assert await two.keys.load() == [first]
    await two.keys.add(second)
    assert await one.keys.load() == [first, second]
    assert await one.keys.load() is await one.keys.load()
    assert await one.keys.revoke(second.principal.key_id, NOW + 5)
    assert not await two.keys.revoke(second.principal.key_id, NOW + 6)
    assert await two.keys.rotate(first.principal.key_id, b"0" * 32, NOW + 9)
    found = await two.keys.load()
    assert [each.revoked_at for each in found] == [None, NOW + 5]
    assert found[0].principal.rotations == 1
    assert await two.copy.load() == found


async def test_a_replica_starts_and_goes_on_with_its_copy(
    server: SharedServer, pair: tuple[Replica, Replica], tmp_path: Path
) -> None:
    one, two = pair
    await one.keys.add(key("acme"))
    known = await one.keys.load()
    await asyncio.to_thread(server.kill)
    try:
        assert await one.keys.load() == known
        with pytest.raises(TimeoutError, match="is not known"):  # it has never seen them
            await two.keys.load()
        with pytest.raises(PostgresAwayError):
            await one.keys.revoke(known[0].principal.key_id, NOW)
    finally:
        await asyncio.to_thread(server.start)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                assert await two.keys.load() == known
                break
            except TimeoutError:
                await asyncio.sleep(0.05)


async def test_keys_that_a_data_dir_had_before_hold_everywhere(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    mine, ours = key("before"), key("ours", NOW + 1)
    await two.keys.add(ours)
    await one.copy.add(mine)
    assert await one.keys.load() == [mine, ours]
    assert await two.keys.load() == [mine, ours]


async def test_a_revoke_holds_although_one_of_the_stores_has_lost_it(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    mine = key("before")
    await one.copy.add(mine)
    await two.copy.add(mine)
    await one.copy.revoke(mine.principal.key_id, NOW)
    await two.keys.load()
    await one.keys.load()
    assert [each.revoked_at for each in await two.keys.load()] == [NOW]


def command(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["keys", *words, "--config", str(folder / "millrace.toml")])


def configured(folder: Path, url: str, service: str) -> None:
    folder.mkdir()
    models = "".join(
        f'[models.{tier}]\nupstream = "openai"\nbase_url = "http://127.0.0.1:9"\nmodel = "m"\n'
        'price = { input = "1", output = "2" }\n'
        for tier in ("small", "large")
    )
    shared = f'[shared]\npostgres = "{url}"\nname = "{service}"\n'
    (folder / "millrace.toml").write_text(f'[server]\nport = 0\ndata_dir = "{folder}"\n{models}{shared}')


def test_commands_change_the_keys_of_all(server: SharedServer, service: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    configured(here, server.url, service)
    configured(there, server.url, service)
    added = command(here, "add", "--tenant", "acme")
    key_id = added.stdout.removeprefix("mr_").partition("_")[0]
    assert key_id in command(there, "list").stdout
    assert command(there, "rotate", key_id).exit_code == 0
    assert command(there, "revoke", key_id).exit_code == 0
    assert command(here, "revoke", key_id).exit_code == 1


def test_commands_say_what_is_missing(server: SharedServer, tmp_path: Path) -> None:
    configured(tmp_path / "new", server.url, "nothing_yet")
    ended = command(tmp_path / "new", "list")
    assert ended.exit_code == 2
    assert "millrace db upgrade" in ended.output
    configured(tmp_path / "away", "postgresql://127.0.0.1:1/x", "away")
    ended = command(tmp_path / "away", "add", "--tenant", "acme")
    assert ended.exit_code == 3
    assert "does not answer" in ended.output


async def test_a_revoke_holds_at_all_replicas_within_two_seconds(
    server: SharedServer, service: str, tmp_path: Path
) -> None:
    remote = PostgresDatabase(server.url, service)
    store = StoredKeys(remote)
    made, text = make(tenant="acme", role=Role.USE, created_at=NOW)
    await store.add(made)
    headers = {"authorization": f"Bearer {text}"}
    shared = {"postgres": server.url, "name": service}
    async with replicas(2, shared, folder=tmp_path) as running, aiohttp.ClientSession(headers=headers) as client:

        async def status(url: str) -> int:
            async with client.get(f"{url}/v1/models") as answer:
                return answer.status

        assert [await status(each.url) for each in running] == [200, 200]
        await store.revoke(made.principal.key_id, NOW)

        async def is_known() -> bool:
            return [await status(each.url) for each in running] == [401, 401]

        await heeded(is_known)
    await asyncio.to_thread(remote.close)
