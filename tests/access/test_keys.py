"""Keys: what is kept of them, who they let in, and that a running server heeds what the command line changes."""

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner, Result

from millrace.__main__ import main
from millrace.access import keys
from millrace.access.keys import ANONYMOUS, Keyring
from millrace.assembly import key_store
from millrace.cli.keys import check_access
from millrace.errors import MillraceError
from millrace.principal import Key, Limits, Role
from millrace.settings import ServerSettings
from millrace.stores.database import FILE
from tests.conftest import REPOSITORY, Running, Start
from tests.support.wire_client import talking

KEY = re.compile(r"mr_[0-9a-f]{12}_[0-9a-f]{64}")
WITHIN_S = 2.0  # a new key is good, and a revoked one bad


def made(tenant: str = "acme", **fields: Any) -> tuple[Key, str]:
    return keys.make(tenant=tenant, role=fields.pop("role", Role.USE), created_at=1.0, **fields)


def ring(*held: Key, **options: Any) -> Keyring:
    keyring = Keyring(**{"may_be_open": True} | options)
    keyring.replace(held)
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
    assert keyring.is_open
    assert keyring.holds(ANONYMOUS.key_id)
    keyring.replace([key])
    assert not keyring.is_open
    assert not keyring.holds(ANONYMOUS.key_id)
    keyring.replace([])
    assert not keyring.is_open
    assert not keyring.holds(key.principal.key_id)
    assert not ring(may_be_open=False).is_open


def test_a_keys_own_limits_go_before_the_configured() -> None:
    """Each by itself."""
    key, text = made(limits=Limits(in_flight=2))
    defaults = Limits(in_flight=9, dollars_per_day=Decimal(5))
    assert ring(key, defaults=defaults).owner(text).limits == Limits(in_flight=2, dollars_per_day=Decimal(5))


async def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    """Every field; and a key is revoked once."""
    limits = Limits(
        requests_per_minute=1, tokens_per_minute=2, in_flight=3, dollars_per_day=Decimal("0.10"), connections=4
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
            taken.append(keyring.holds(key.principal.key_id))
            if not answers:
                done.set()
                await asyncio.Event().wait()
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[no-any-return]

    following = asyncio.create_task(keys.follow(keyring, Store(), every_s=0))  # type: ignore[arg-type]
    async with asyncio.timeout(5):
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


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["keys", *arguments, "--data-dir", str(folder)])


def add(folder: Path, *arguments: str) -> str:
    """Add a key and return its text."""
    result = run(folder, "add", *(arguments or ("--tenant", "acme")))
    assert result.exit_code == 0, result.output
    return result.stdout.removesuffix("\n")


def test_a_key_is_added_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    """The key alone is on standard output; neither the list nor the file has it."""
    options = ("--role", "admin", "--name", "ci", "--requests-per-minute", "60", "--dollars-per-day", "2.50")
    text = add(tmp_path, "--tenant", "acme", *options)
    assert KEY.fullmatch(text)
    key_id, secret = text.split("_")[1:]
    listed = run(tmp_path, "list").stdout
    for words in (key_id, "acme", "admin", "ci", "60 requests/min, 2.50 $/day"):
        assert words in listed
    assert secret not in listed
    assert all(secret.encode() not in file.read_bytes() for file in tmp_path.iterdir())
    assert run(tmp_path, "revoke", key_id).exit_code == 0
    again = run(tmp_path, "revoke", key_id)
    assert (again.exit_code, "no such key that is still good" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("add",),
        ("add", "--tenant", " "),
        ("add", "--tenant", "a", "--role", "root"),
        ("add", "--tenant", "a", "--in-flight", "0"),
        *(("add", "--tenant", "a", "--dollars-per-day", amount) for amount in ("-1", "nan", "inf", "cheap")),
        ("revoke",),
    ],
)
def test_a_wrong_call_adds_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2."""
    assert run(tmp_path, *arguments).exit_code == 2
    assert run(tmp_path, "list").stdout.count("\n") == 4  # an empty table


def test_keys_need_a_folder(tmp_path: Path) -> None:
    """Memory keeps none; a file is no folder."""
    result = run(Path(":memory:"), "add", "--tenant", "acme")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "keeps nothing" in result.stderr
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "below", "add", "--tenant", "acme").exit_code == 2


def test_the_configured_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --data-dir."""
    monkeypatch.setenv("MILLRACE__SERVER__DATA_DIR", str(tmp_path / "kept"))
    result = CliRunner().invoke(
        main, ["keys", "add", "--tenant", "acme", "--config", str(REPOSITORY / "millrace.toml")]
    )
    assert result.exit_code == 0
    with closing(sqlite3.connect(tmp_path / "kept" / FILE)) as file:
        assert file.execute("SELECT tenant FROM keys").fetchall() == [("acme",)]


def test_a_server_open_to_others_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything listens, with both ways out; a revoked key is no worse than a good one there."""
    monkeypatch.setenv("MILLRACE__SERVER__DATA_DIR", str(tmp_path))
    arguments = ["serve", "--config", str(REPOSITORY / "millrace.toml"), "--host", "0.0.0.0", "--port", "1"]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "server.host: '0.0.0.0' is open to others, and there is no key" in result.stderr
    assert "millrace keys add" in result.stderr
    assert "127.0.0.1" in result.stderr


def test_a_server_open_to_others_may_start_with_a_key(tmp_path: Path) -> None:
    """Any other host than loopback."""
    add(tmp_path)
    assert check_access(ServerSettings(host="0.0.0.0", data_dir=str(tmp_path))) == ""
    assert check_access(ServerSettings(host="127.0.0.1", data_dir=str(tmp_path))) == ""
    assert "millrace keys add" in check_access(ServerSettings(host="127.0.0.1", data_dir=str(tmp_path / "new")))


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


async def becomes(status: Callable[[str | None], Any], key: str | None, wanted: int) -> float:
    """Wait until the server answers so; return how long it took."""
    started = time.monotonic()
    async with asyncio.timeout(10):
        while await status(key) != wanted:  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.02)
    return time.monotonic() - started


async def test_a_running_server_heeds_keys_within_two_seconds(start: Start, tmp_path: Path) -> None:
    """Open at first; the first key closes it, another opens for another, and a revoked one is of no use."""
    async with keyed(start, tmp_path) as (_, status):
        assert (await status(None), await status("anything")) == (200, 200)
        first = await asyncio.to_thread(add, tmp_path)
        assert await becomes(status, None, 401) < WITHIN_S
        assert (await status(first), await status("anything")) == (200, 401)
        second = await asyncio.to_thread(add, tmp_path, "--tenant", "other")
        assert await becomes(status, second, 200) < WITHIN_S
        await asyncio.to_thread(run, tmp_path, "revoke", first)
        assert await becomes(status, first, 401) < WITHIN_S
        assert await status(second) == 200
        await asyncio.to_thread(run, tmp_path, "revoke", second)
        assert await becomes(status, second, 401) < WITHIN_S
        assert await status(None) == 401


async def test_a_key_connects_and_a_refusal_is_json_before_the_upgrade(start: Start, tmp_path: Path) -> None:
    """With what an SDK and a browser need to know: the code, and how to authenticate."""
    text = await asyncio.to_thread(add, tmp_path)
    async with keyed(start, tmp_path) as (running, _), aiohttp.ClientSession() as http:
        async with talking(running.ws_url, additional_headers={"Authorization": f"Bearer {text}"}) as talk:
            assert (await talk.ask("hello"))[-1]["type"] == "response.completed"
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
