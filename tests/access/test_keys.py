"""Keys: what is kept of them, who they let in, and that a running server heeds what the command line changes."""

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace
from websockets.exceptions import ConnectionClosed

from millrace.access import keys
from millrace.access.keys import ANONYMOUS, Keyring
from millrace.assembly import key_store
from millrace.errors import MillraceError
from millrace.principal import EarlierSecret, Key, Limits, Role
from tests.support.keys import add_key, heeded, keys_command
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import TERMINALS, wire_client

KEY = re.compile(r"mr_[0-9a-f]{12}_[0-9a-f]{64}")


def made(tenant: str = "acme", **fields: Any) -> tuple[Key, str]:
    return keys.make(tenant=tenant, role=fields.pop("role", Role.USE), created_at=1.0, **fields)


def ring(*stored: Key, **options: Any) -> Keyring:
    keyring = Keyring(**{"may_be_open": True} | options)
    keyring.replace(stored)
    return keyring


def test_a_key_is_random_and_only_its_hash_is_kept() -> None:
    """256 bits; nothing of the secret is in what is stored or printed."""
    texts = {made()[1] for _ in range(100)}
    assert len(texts) == 100
    key, text = made()
    secret = text.rpartition("_")[2]
    assert KEY.fullmatch(text)
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in repr(key)
    assert bytes.fromhex(secret) not in key.digest


def test_a_key_opens_for_its_owner_and_no_other_text_does() -> None:
    """One digit more, less or other, another's id, white space, another case."""
    (key, text), (other, other_text) = made(), made("other")
    keyring = ring(key, other)
    assert keyring.owner(text) == key.principal
    assert keyring.owner(other_text).tenant == "other"
    last = "0" if text[-1] != "0" else "1"
    swapped = other_text[:16] + text[16:]
    for wrong in ("", "mr_", text[:-1], text + "0", text[:-1] + last, swapped, f" {text}", text + "\n", text.upper()):
        with pytest.raises(MillraceError) as refused:
            keyring.owner(wrong)
        assert refused.value.code == "unauthorized"
        assert not wrong.strip() or wrong.strip() not in refused.value.message or wrong == "mr_"


def test_auth_is_off_only_while_there_has_never_been_a_key() -> None:
    """A revoked key keeps it on, and so does a table that was emptied; a server open to others is never open."""
    key, _ = made()
    keyring = ring()
    assert keyring.auth_is_off
    assert keyring.is_valid(ANONYMOUS.key_id)
    keyring.replace([key])
    assert not keyring.auth_is_off
    assert not keyring.is_valid(ANONYMOUS.key_id)
    keyring.replace([])
    assert not keyring.auth_is_off
    assert not keyring.is_valid(key.principal.key_id)
    assert not ring(may_be_open=False).auth_is_off


def test_a_keys_own_limits_go_before_the_configured() -> None:
    """Each by itself."""
    key, text = made(limits=Limits(in_flight=2))
    defaults = Limits(in_flight=9, dollars_per_day=Decimal(5))
    assert ring(key, defaults=defaults).owner(text).limits == Limits(in_flight=2, dollars_per_day=Decimal(5))


def rotate(key: Key, until: float) -> tuple[Key, str]:
    """Return a key as it is stored after a rotation, and its new text."""
    digest, text = keys.new_secret(key.principal.key_id)
    owner = replace(key.principal, rotations=key.principal.rotations + 1)
    return replace(key, principal=owner, digest=digest, earlier=EarlierSecret(key.digest, until)), text


def test_after_a_rotation_both_secrets_are_good_until_the_grace_is_over() -> None:
    """For one key: the same id, whose limits and budgets go on."""
    now = [100.0]
    key, old = made(limits=Limits(in_flight=2))
    keyring = ring(key, wall=lambda: now[0])
    came_before = keyring.owner(old)
    rotated, new = rotate(key, until=200.0)
    keyring.replace([rotated])
    assert keyring.owner(new) == rotated.principal
    assert keyring.owner(old) == came_before == key.principal
    assert keyring.owner(new).key_id == keyring.owner(old).key_id
    assert keyring.may_stay(came_before)
    now[0] = 200.0
    assert keyring.owner(new) == rotated.principal
    with pytest.raises(MillraceError, match="this key was rotated; send the new one"):
        keyring.owner(old)
    assert not keyring.may_stay(came_before)
    assert keyring.may_stay(rotated.principal)


def test_a_second_rotation_ends_the_first_secret_at_once() -> None:
    first, texts = made()
    second, new = rotate(first, until=1e12)
    third, newest = rotate(second, until=1e12)
    keyring = ring(third)
    assert [keyring.owner(text).rotations for text in (new, newest)] == [1, 2]
    with pytest.raises(MillraceError, match="unknown key"):
        keyring.owner(texts)
    assert not keyring.may_stay(first.principal)


def test_a_revoked_key_is_refused_with_either_secret() -> None:
    key, old = made()
    rotated, new = rotate(key, until=1e12)
    keyring = ring(replace(rotated, revoked_at=1.0))
    for text in (old, new):
        with pytest.raises(MillraceError, match="this key is revoked"):
            keyring.owner(text)
    assert not keyring.may_stay(rotated.principal)


def test_default_limits_change_while_a_key_keeps_its_own() -> None:
    key, text = made(limits=Limits(in_flight=2))
    keyring = ring(key, defaults=Limits(requests_per_minute=1))
    came_before = keyring.owner(text)
    keyring.set_defaults(Limits(in_flight=9, tokens_per_minute=5))
    wanted = Limits(in_flight=2, tokens_per_minute=5)
    assert keyring.owner(text).limits == keyring.with_limits(came_before).limits == wanted
    assert keyring.with_limits(ANONYMOUS) is ANONYMOUS


async def test_a_rotation_is_stored(tmp_path: Path) -> None:
    key, _ = made()
    digest, _ = keys.new_secret(key.principal.key_id)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)
        assert await store.rotate(key.principal.key_id, digest, 7.0)
        assert not await store.rotate("nothing", digest, 7.0)
        (found,) = await store.load()
        assert (found.digest, found.earlier) == (digest, EarlierSecret(key.digest, 7.0))
        assert found.principal == replace(key.principal, rotations=1)
        await store.revoke(key.principal.key_id, 8.0)
        assert not await store.rotate(key.principal.key_id, digest, 9.0)


async def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    """Every field; and a key is revoked once."""
    limits = Limits(
        requests_per_minute=1,
        tokens_per_minute=2,
        in_flight=3,
        dollars_per_day=Decimal("0.10"),
        connections=4,
        max_output_tokens=5,
    )
    first, second = made(limits=limits, name="ci", role=Role.ADMIN)[0], made("other")[0]
    async with key_store(str(tmp_path)) as store:
        for key in (first, second):
            await store.add(key)
        assert await store.revoke(second.principal.key_id, 5.0)
        assert not await store.revoke(second.principal.key_id, 6.0)
        assert not await store.revoke("nothing", 6.0)
    async with key_store(str(tmp_path)) as store:
        found = {key.principal.key_id: key for key in await store.load()}
    assert found[first.principal.key_id] == first
    assert found[second.principal.key_id].revoked_at == 5.0


async def test_a_store_that_cannot_be_read_leaves_the_keys_as_they_are() -> None:
    """Until it can be read again; and what has not changed is not taken over again."""
    key, text = made()
    answers: list[Any] = [[key], sqlite3.OperationalError("locked"), [], []]
    answers[3] = answers[2]
    keyring, done = ring(), asyncio.Event()
    taken: list[bool] = []

    class Store:
        async def load(self) -> list[Key]:
            taken.append(keyring.is_valid(key.principal.key_id))
            if not answers:
                done.set()
                await asyncio.Event().wait()
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[no-any-return]

    following = asyncio.create_task(keys.follow(keyring, Store(), every_s=0))  # type: ignore[arg-type]
    async with asyncio.timeout(PATIENCE_S):
        await done.wait()
    following.cancel()
    assert taken == [False, True, True, False, False]
    with pytest.raises(MillraceError):
        keyring.owner(text)


async def test_an_unchanged_table_is_the_same_list(tmp_path: Path) -> None:
    """It is asked for every second."""
    async with key_store(str(tmp_path)) as store:
        await store.add(made()[0])
        before = await store.load()
        assert await store.load() is before
        await store.revoke(before[0].principal.key_id, 2.0)
        assert await store.load() is not before


@asynccontextmanager
async def keyed(start: Start, folder: Path) -> AsyncIterator[tuple[Running, Callable[[str | None], Any]]]:
    """Run a server on a folder; yield it, and what asks it for its models with a key: the status, and the body."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(folder)

    async with start(change) as running, aiohttp.ClientSession() as http:

        async def status(key: str | None) -> int:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            async with http.get(f"{running.url}/v1/models", headers=headers) as response:
                await response.read()
                return response.status

        yield running, status


async def becomes(status: Callable[[str | None], Any], key: str | None, wanted: int) -> None:
    """Wait until the server answers so, for as long as a change of keys may take."""

    async def is_so() -> bool:
        return bool(await status(key) == wanted)

    await heeded(is_so)


async def test_a_running_server_heeds_keys_within_two_seconds(start: Start, tmp_path: Path) -> None:
    """Open at first; the first key closes it, another opens for another, and a revoked one is of no use."""
    async with keyed(start, tmp_path) as (_, status):
        assert (await status(None), await status("anything")) == (200, 200)
        first = await asyncio.to_thread(add_key, tmp_path)
        await becomes(status, None, 401)
        assert (await status(first), await status("anything")) == (200, 401)
        second = await asyncio.to_thread(add_key, tmp_path, "--tenant", "other")
        await becomes(status, second, 200)
        await asyncio.to_thread(keys_command, tmp_path, "revoke", first)
        await becomes(status, first, 401)
        assert await status(second) == 200
        await asyncio.to_thread(keys_command, tmp_path, "revoke", second)
        await becomes(status, second, 401)
        assert await status(None) == 401


async def test_a_key_connects_and_a_refusal_is_json_before_the_upgrade(start: Start, tmp_path: Path) -> None:
    """With what an SDK and a browser need to know: the code, and how to authenticate."""
    text = await asyncio.to_thread(add_key, tmp_path)
    async with keyed(start, tmp_path) as (running, _), aiohttp.ClientSession() as http:
        async with wire_client(running.ws_url, additional_headers={"Authorization": f"Bearer {text}"}) as client:
            assert (await client.ask("hello"))[-1]["type"] == "response.completed"
        for query in ("", f"?api_key={text}", f"?access_token={text}", f"?authorization=Bearer%20{text}"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(f"{running.url}/v1/responses{query}")
            assert refused.value.status == 401
            assert refused.value.headers is not None
            assert refused.value.headers["WWW-Authenticate"] == 'Bearer realm="millrace"'
        async with http.post(f"{running.url}/v1/tickets", data=b"{}") as response:
            body = json.loads(await response.read())
        assert (response.status, body["error"]["code"]) == (401, "unauthorized")
        for path in ("/", "/healthz", "/readyz"):
            async with http.get(f"{running.url}{path}") as response:
                assert response.status == 200


async def test_a_rotated_key_goes_on_and_an_old_connection_closes_when_the_grace_is_over(
    start: Start, tmp_path: Path
) -> None:
    """What runs on it is not cut; it takes no new request."""
    old = await asyncio.to_thread(add_key, tmp_path)
    async with (
        keyed(start, tmp_path) as (running, status),
        wire_client(running.ws_url, additional_headers={"Authorization": f"Bearer {old}"}) as client,
    ):
        new = (await asyncio.to_thread(keys_command, tmp_path, "rotate", old, "--grace", "1h")).stdout.strip()
        assert new.split("_")[1] == old.split("_")[1]
        await becomes(status, new, 200)
        assert await status(old) == 200
        await client.create("Tell me. [tokens=60] [rate=15]", model="small")
        await client.until("response.output_text.delta")
        newest = (await asyncio.to_thread(keys_command, tmp_path, "rotate", old, "--grace", "0")).stdout.strip()
        await becomes(status, old, 401)
        await becomes(status, newest, 200)
        assert (await client.until(*TERMINALS))[-1]["type"] == "response.completed"
        with pytest.raises(ConnectionClosed):
            await client.until("response.completed")
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{running.url}/v1/models", headers={"Authorization": f"Bearer {new}"}) as answer,
        ):
            assert (answer.status, (await answer.json())["error"]["message"]) == (
                401,
                "Authorization: this key was rotated; send the new one",
            )
