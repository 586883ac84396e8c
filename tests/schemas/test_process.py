"""Schemas and texts of every kind, hostile ones too, through a real process."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace.ports import SchemaReport
from millrace.schemas import SchemaProcess, process as module
from tests.support.logs import captured_logs
from tests.support.stopped_schemas import stopped
from tests.support.waiting import within

USABLE = SchemaReport()
TOO_MUCH = SchemaReport(unchecked=("",))


@pytest.fixture
async def schemas() -> AsyncIterator[SchemaProcess]:
    """A process that is started when it is first asked."""
    made = SchemaProcess()
    try:
        yield made
    finally:
        await asyncio.to_thread(made.close)


async def report(schemas: SchemaProcess, schema: Any) -> SchemaReport:
    (found,) = await schemas.compile([json.dumps(schema).encode()], "t")
    return found


async def matches(schemas: SchemaProcess, value: Any, schema: Any) -> bool:
    text = value if isinstance(value, str) else json.dumps(value)
    return await schemas.matches(text, json.dumps(schema).encode(), "t")


def properties(count: int, pattern: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {f"k{n}": {"type": "string", "pattern": f"{pattern}{n}"} for n in range(count)},
    }


def doubling(levels: int) -> dict[str, Any]:
    """Return a schema that applies 2**levels subschemas to one value."""

    def pair(level: int) -> dict[str, Any]:
        return {"anyOf": [{"$ref": f"#/$defs/d{level}"}] * 2}

    return pair(0) | {"$defs": {f"d{n}": pair(n + 1) for n in range(levels)} | {f"d{levels}": {"type": "null"}}}


NODE = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, [3, 10**400], [[], 3.5, "no JSON {", ""]),
        (
            {"required": ["a"], "additionalProperties": False, "properties": {"a": {}}},
            [{"a": 1}],
            [{}, {"a": 1, "b": 2}],
        ),
        ({"properties": {"a": {"pattern": "^x+$"}}}, [{"a": "xx"}], [{"a": "xy"}]),
        (NODE, ["[" * 200 + "]" * 200], ["[" * 200 + "1" + "]" * 200, "[" * 1_000_000]),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "null"}]}, [[None]], [[1]]),
        ({"type": "string", "pattern": "^a+$"}, ["a" * 500_000], ["a" * 500_000 + "b"]),
    ],
)
async def test_a_schema_is_applied(schemas: SchemaProcess, schema: Any, good: list[Any], bad: list[Any]) -> None:
    """To what is JSON and to what is not, short or long, flat or deep."""
    assert await report(schemas, schema) == USABLE
    for value in good:
        text = value if isinstance(value, str) and value.startswith("[") else json.dumps(value)
        assert await schemas.matches(text, json.dumps(schema).encode(), "t")
    for value in bad:
        assert not await matches(schemas, value, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strng"},
        {"properties": []},
        {"pattern": "("},
        {"patternProperties": {"[": {}}},
        {"$ref": "#/$defs/none"},
        {"$schema": "http://127.0.0.1:9/schema"},
        json.loads('{"not":' * 400 + "{}" + "}" * 400),
    ],
    ids=lambda schema: str(schema)[:30],
)
async def test_a_schema_that_nobody_can_use_is_told(schemas: SchemaProcess, schema: dict[str, Any]) -> None:
    """Also when it is asked again."""
    first = await report(schemas, schema)
    assert first.error
    assert await report(schemas, schema) == first


@pytest.mark.parametrize("where", ["/x", "$defs"])
@pytest.mark.parametrize("scheme", ["http", "file"])
async def test_a_remote_reference_is_refused_and_never_fetched(schemas: SchemaProcess, scheme: str, where: str) -> None:
    """A client's schema may not make this server call or read anything."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        address = f"127.0.0.1:{trap.getsockname()[1]}" if scheme == "http" else ""
        reference = {"$ref": f"{scheme}://{address}/etc/hostname"}
        schema = {"$defs": {"a": reference}, "$ref": "#/$defs/a"} if where == "$defs" else reference
        assert "is not fetched; put the definition into the schema" in str((await report(schemas, schema)).error)
        with pytest.raises(BlockingIOError):
            trap.accept()


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(?=(a+)+$)b",
        r"(?!x)a",
        r"(?<=a)b",
        r"(?<!a)b",
        r"^(a+)+\1$",
        r"(?>a+)b",
        r"(?P<n>a)(?P=n)",
        r"(a{900}){900}",
    ],
)
async def test_a_pattern_that_only_backtracking_can_run_is_not_checked(schemas: SchemaProcess, pattern: str) -> None:
    """Nor one that is too large. All else of the schema is."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": pattern}, "b": {"type": "string", "pattern": "^b$"}},
        "required": ["b"],
    }
    assert await report(schemas, schema) == SchemaReport(unchecked=("properties.a.pattern",))
    async with within(10):
        assert await matches(schemas, {"a": "a" * 100_000, "b": "b"}, schema)
    assert not await matches(schemas, {"a": 1, "b": "b"}, schema)
    assert not await matches(schemas, {"a": "", "b": "c"}, schema)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"not": {"pattern": "(?=a)"}}, "not.pattern"),
        ({"oneOf": [{"pattern": "(?=a)"}, {"type": "string"}]}, "oneOf[0].pattern"),
        ({"if": {"pattern": "(?=a)"}, "then": False}, "if.pattern"),
        ({"patternProperties": {"(?=a)": {}}, "additionalProperties": False}, 'patternProperties["(?=a)"]'),
        ({"$defs": {"x y": {"pattern": "(?=a)"}}, "not": {"$ref": "#/$defs/x%20y"}}, '$defs["x y"].pattern'),
    ],
)
async def test_where_leaving_out_would_refuse_more_nothing_is_checked(
    schemas: SchemaProcess, schema: Any, path: str
) -> None:
    """A pattern that is left out allows more; below a `not` that would allow less."""
    assert await report(schemas, schema) == SchemaReport(unchecked=("", path))
    assert await matches(schemas, "anything", schema) is False  # it is no JSON
    assert await matches(schemas, ["anything"], schema)


async def test_what_only_looks_like_a_pattern_is_left_alone(schemas: SchemaProcess) -> None:
    """A property of that name, and constants."""
    schema = {"properties": {"pattern": {"const": {"pattern": "(?=a)"}}, "c": {"pattern": "(?=a)"}}}
    assert await report(schemas, schema) == SchemaReport(unchecked=("properties.c.pattern",))
    assert await matches(schemas, {"pattern": {"pattern": "(?=a)"}, "c": "x"}, schema)
    assert not await matches(schemas, {"pattern": {}}, schema)


async def test_of_many_patterns_some_are_named(schemas: SchemaProcess) -> None:
    """And how many more there are."""
    found = (await report(schemas, properties(50, "(?=a)"))).unchecked
    assert len(found) == 9
    assert found[-1] == "... (42 more)"


@pytest.mark.parametrize(
    "schema",
    [properties(2000, "a{900}b"), {"x": "y" * module.MAX_SCHEMA}],
    ids=["time", "size"],
)
async def test_a_schema_that_takes_too_much_is_not_checked(
    schemas: SchemaProcess, monkeypatch: pytest.MonkeyPatch, schema: Any
) -> None:
    """Neither at first nor later, and the next one is."""
    monkeypatch.setattr(module, "CPU_S_PER_MIB", 0)
    monkeypatch.setattr(module, "CPU_S", 0.03)
    assert await report(schemas, schema) == TOO_MUCH
    async with within(1.0):  # it is remembered
        assert await report(schemas, schema) == TOO_MUCH
    assert await report(schemas, {"type": "string"}) == USABLE


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(40), 1),
        ({"items": {"enum": [{"a": n} for n in range(4000)]}}, [{"a": 3999}] * 4000),
        ({"patternProperties": {f"^a{n}": {} for n in range(2000)}}, {str(n): 1 for n in range(100_000)}),
        ({"pattern": r"(\w{40}x|\w{41}y){20}"}, "w" * 500_000),
    ],
    ids=["alternatives", "members", "keys", "text"],
)
async def test_an_answer_that_takes_too_long_does_not_conform(schemas: SchemaProcess, schema: Any, value: Any) -> None:
    """The process is ended, by its timer; a new one takes what comes next."""
    async with within(40):
        assert not await schemas.matches(json.dumps(value), json.dumps(schema).encode(), "t")
    assert await matches(schemas, 1, {"type": "integer"})


async def test_the_loop_goes_on_meanwhile(schemas: SchemaProcess) -> None:
    """Whatever takes its time does so elsewhere."""
    await report(schemas, {})
    longest, asking = 0.0, asyncio.create_task(report(schemas, properties(3000, r"^\w{60}")))
    while not asking.done():
        began = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - began)
    assert longest < 0.5


async def test_tenants_take_turns(schemas: SchemaProcess) -> None:
    """What one asks a lot of delays another by one job."""
    await report(schemas, {})
    slow = json.dumps(doubling(40)).encode()
    asked = [asyncio.create_task(schemas.matches("1", slow, "busy")) for _ in range(12)]
    await asyncio.sleep(0)
    assert await schemas.matches("1", b"{}", "other")
    assert sum(task.done() for task in asked) <= 3
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


async def test_what_is_compiled_is_bounded_by_the_memory_it_takes(schemas: SchemaProcess) -> None:
    """1,000 patterns of this kind take 50 MiB; the process ends rather than keep them all, and nothing is lost."""
    pids = set()
    for number in range(6):
        schema = properties(700, f"a{{900}}b{number}x")
        assert (await report(schemas, schema)).error is None
        if schemas._process is not None:
            pids.add(schemas._process.pid)
            with open(f"/proc/{schemas._process.pid}/statm") as file:  # noqa: ASYNC230, PTH123 - a file of the kernel
                assert int(file.read().split()[1]) * 4096 < 200 * 2**20
    assert await matches(schemas, {"k1": "b"}, {"required": ["k1"]})
    assert schemas.bytes_used < 2**20


async def test_a_process_that_cannot_start_checks_nothing_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Requests go on."""
    broken = tmp_path / "worker.py"
    broken.write_text("import no_such_module\n")
    monkeypatch.setattr(module, "PROGRAM", broken)
    schemas = SchemaProcess()
    with captured_logs() as logs:
        try:
            for _ in range(3):
                assert await report(schemas, {"type": "string"}) == TOO_MUCH
                assert not await matches(schemas, "a", {"type": "string"})
        finally:
            await asyncio.to_thread(schemas.close)
    assert logs.text.count("schemas cannot be checked") == 1


async def test_what_waits_at_the_end_is_let_go() -> None:
    """And what is asked afterwards."""
    schemas = SchemaProcess()
    asked = [asyncio.create_task(matches(schemas, 1, doubling(40))) for _ in range(20)]
    await asyncio.sleep(0.05)
    async with within(10):
        await asyncio.to_thread(schemas.close)
    assert await asyncio.gather(*asked) == [False] * 20
    assert await report(schemas, {"type": "string"}) == TOO_MUCH


async def test_of_one_tenant_the_smallest_goes_first(schemas: SchemaProcess) -> None:
    """Many large schemas of one client hardly delay the small one of another."""
    await report(schemas, {})
    asked = [asyncio.create_task(report(schemas, properties(1500, f"^\\w{{60}}{n}x"))) for n in range(8)]
    await asyncio.sleep(0)
    assert await report(schemas, {"type": "string"}) == USABLE
    assert sum(task.done() for task in asked) <= 2
    await asyncio.gather(*asked)


async def test_what_waits_too_long_for_its_turn_is_not_checked(
    schemas: SchemaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a text it is checked that it is JSON. It is not remembered as too much, and is compiled when asked again."""
    await report(schemas, {})
    monkeypatch.setattr(module, "MAX_TURN_S", 0.3)
    with stopped(schemas):
        first = asyncio.create_task(report(schemas, {"type": "null"}))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        waiting = [
            asyncio.create_task(report(schemas, {"type": "integer"})),
            asyncio.create_task(matches(schemas, 1, {"type": "string"})),
            asyncio.create_task(matches(schemas, "{", {"type": "string"})),
        ]
        await asyncio.sleep(0.05)
        assert schemas._waiting_bytes > 30
        async with within(5):
            found: list[Any] = await asyncio.gather(*waiting)
        assert found == [TOO_MUCH, True, False]
        assert time.monotonic() - began >= 0.3
        assert schemas._waiting_bytes == 0
    assert await first == USABLE  # it had its turn
    assert await report(schemas, {"type": "integer"}) == USABLE
    assert not await matches(schemas, 1, {"type": "string"})


async def test_small_ones_do_not_keep_a_large_one_of_the_same_tenant_from_its_turn(schemas: SchemaProcess) -> None:
    """However many of them come: every second turn is for the oldest."""
    await report(schemas, {})
    with stopped(schemas):
        blocking = asyncio.create_task(report(schemas, {"const": "blocking"}))
        await asyncio.sleep(0.05)
        large = asyncio.create_task(report(schemas, properties(200, "^a")))
        small = [asyncio.create_task(report(schemas, {"const": number})) for number in range(100)]
        await asyncio.sleep(0.05)
    await large
    assert sum(one.done() for one in small) < 20
    await asyncio.gather(blocking, *small)


async def test_what_is_given_up_while_it_waits_is_let_go(schemas: SchemaProcess) -> None:
    """Its bytes count until then."""
    await report(schemas, {})
    with stopped(schemas):
        asked = [asyncio.create_task(report(schemas, {"enum": ["x" * 1000, number]})) for number in range(10)]
        await asyncio.sleep(0.05)
        assert schemas.bytes_used > 9000
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        assert schemas._waiting_bytes == 0
        assert not schemas._waiting
    assert await report(schemas, {"type": "integer"}) == USABLE
