"""The link to Redis: a deadline for each call, and none while it is away."""

import asyncio
import time
import traceback

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from millrace.stores.redis.link import CALL_S, PROBE_EVERY_S, SOON_S, RedisAwayError, RedisLink, is_unfit, linked
from tests.support.logs import captured_logs
from tests.support.namespaces import host
from tests.support.ports import free_port
from tests.support.proxy import proxy_to
from tests.support.shared_servers import SharedServer, postgres_server, redis_server
from tests.support.waiting import PATIENCE_S, within


async def returned(link: RedisLink) -> None:
    back = asyncio.Event()
    link.on_return(back.set)
    if link.is_away:
        async with asyncio.timeout(PATIENCE_S):
            await back.wait()


async def test_keys_begin_with_the_name_of_the_service(redis: SharedServer) -> None:
    async with linked(redis.url, "one") as link:
        await link.ask(lambda client: client.set(link.key("a", b"\x00b"), b"1"))
        assert await link.ask(lambda client: client.get(b"one:a:\x00b")) == b"1"


async def test_one_that_is_gone_is_away_until_it_answers_again(redis: SharedServer) -> None:
    async with linked(redis.url, "gone") as link:
        told: list[bool] = []
        link.on_return(lambda: told.append(link.is_away))
        await asyncio.to_thread(redis.kill)
        with pytest.raises(RedisAwayError, match="is away: "):
            await link.ask(lambda client: client.get("x"))
        async with within(5 * CALL_S):  # a hundred refusals at once, not a hundred connections
            for _ in range(100):
                with pytest.raises(RedisAwayError):
                    await link.ask(lambda client: client.get("x"))
        await asyncio.to_thread(redis.start)
        await returned(link)
        assert told == [False]
        assert await link.ask(lambda client: client.get("x")) is None


async def test_one_that_hangs_delays_a_call_by_its_deadline_and_the_next_not_at_all(
    redis: SharedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with linked(redis.url, "hangs") as link:
        redis.hang()
        monkeypatch.undo()
        try:
            began = time.perf_counter()
            with pytest.raises(RedisAwayError, match="did not answer in time"):
                await link.ask(lambda client: client.get("x"))
            assert time.perf_counter() - began >= CALL_S * 0.9
            assert link.is_away
        finally:
            redis.go_on()
        await returned(link)
        assert await link.ask(lambda client: client.get("x")) is None


async def test_one_that_is_slow_is_away_until_it_answers_soon(
    redis: SharedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each call in between would wait for its deadline, again and again."""
    monkeypatch.undo()
    async with proxy_to(redis.url) as slow:
        slow.to_client.latency_s = 2 * SOON_S
        async with linked(slow.url.replace("http", "redis", 1), "slow") as link:
            told = asyncio.Event()
            link.on_return(told.set)
            with pytest.raises(RedisAwayError):
                await link.ask(lambda client: client.get("x"), within_s=SOON_S)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5 * PROBE_EVERY_S):
                    await told.wait()
            assert link.is_away
            slow.calm()
            await returned(link)


async def test_one_whose_cable_is_pulled_is_away_until_it_is_plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told: what was sent is lost, and so is what asks for a new connection."""
    with host() as apart, redis_server(at=apart) as redis:
        async with linked(redis.url, "apart") as link:
            await link.ask(lambda client: client.set(link.key("x"), b"1"))
            apart.cut()
            monkeypatch.undo()
            with pytest.raises(RedisAwayError, match="is away: "):
                await link.ask(lambda client: client.get(link.key("x")))
            async with within(CALL_S):
                with pytest.raises(RedisAwayError):
                    await link.ask(lambda client: client.get(link.key("x")))
            apart.mend()
            await returned(link)
            assert await link.ask(lambda client: client.get(link.key("x"))) == b"1"


async def test_a_command_that_is_refused_fails_alone_and_is_told_without_what_was_sent(redis: SharedServer) -> None:
    async def send(client: Redis) -> None:
        async with client.pipeline(transaction=False) as pipe:
            pipe.lpush(link.key("text"), b"a secret (of pipeline caused error: ", b"and more)")
            await pipe.execute()

    async with linked(redis.url, "wrong") as link:
        await link.ask(lambda client: client.set(link.key("text"), b"text"))
        with captured_logs() as logs, pytest.raises(RedisAwayError, match=r"refuses: .*WRONGTYPE") as caught:
            await link.ask(send)
        assert not link.is_away
    assert "Redis refuses" in logs.text
    assert "secret" not in logs.text + "".join(traceback.format_exception(caught.value))


async def test_one_that_is_full_is_away_until_there_is_room(redis: SharedServer) -> None:
    """Also where a script or a pipeline is the first to notice."""
    plain = Redis.from_url(redis.url)
    async with linked(redis.url, "full") as link:
        await plain.config_set("maxmemory", "100kb")
        script = "return redis.call('SET', KEYS[1], 'x')"
        try:
            with pytest.raises(RedisAwayError, match=r"is away: .*maxmemory"):
                await link.ask(lambda client: client.eval(script, 1, link.key("x")))
            assert link.is_away
        finally:
            await plain.config_set("maxmemory", "0")
            await plain.aclose()
        await returned(link)
        await link.ask(lambda client: client.set(link.key("x"), b"1"))


@pytest.mark.parametrize(("policy", "warns"), [("allkeys-lru", True), ("volatile-ttl", False)])
async def test_one_that_may_evict_anything_is_warned_of(redis: SharedServer, policy: str, *, warns: bool) -> None:
    plain = Redis.from_url(redis.url)
    await plain.config_set("maxmemory", "1gb")
    await plain.config_set("maxmemory-policy", policy)
    with captured_logs() as logs:
        async with linked(redis.url, "evicts"):
            pass
    await plain.config_set("maxmemory", "0")
    await plain.aclose()
    assert ("volatile-ttl" in logs.text) == warns


@pytest.mark.parametrize(
    "said",
    [
        "MISCONF Redis is configured to save",
        "NOREPLICAS Not enough good replicas",
        "BUSY Redis is busy running a script",
    ],
)
def test_one_that_takes_no_commands_is_away(said: str) -> None:
    for text in (said, f"Command # 1 (SET a secret) of pipeline caused error: ('{said}',)"):
        assert is_unfit(ResponseError(text))
    assert not is_unfit(ResponseError(f"Command # 1 (SET {said}) of pipeline caused error: ('WRONGTYPE',)"))


async def test_a_start_without_redis_is_no_error() -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    async with linked(url, "none") as link:
        assert link.is_away
        with pytest.raises(RedisAwayError) as caught:
            await link.ask(lambda client: client.get("x"))
        assert "secret" not in str(caught.value)


async def test_postgresql_runs_in_tests() -> None:
    import psycopg  # noqa: PLC0415

    with postgres_server() as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
