"""PROTOCOL.md and the code have the same events, endpoints, options, numbers and errors."""

import re
from typing import get_args

import msgspec
import pytest

from millrace import app, settings
from millrace.errors import RULES
from millrace.wire import asyncapi, contracts, limits, responses as wire, ui_chunks
from millrace.wire.options import Options
from tests.support.paths import REPOSITORY
from tests.support.server import configuration_for

PAGE = (REPOSITORY / "PROTOCOL.md").read_text("utf-8")


def section(title: str) -> str:
    """Return what stands under a heading, up to the next one."""
    (found,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def rows(title: str) -> list[list[str]]:
    """Return the cells of the first table of a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def named(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_every_event_of_the_server_is_specified_and_no_other() -> None:
    written = [
        name for title in ("Server to client", "Once negotiated") for row in rows(title) for name in named(row[0])
    ]
    assert sorted(written) == sorted(contracts.tag(shape) for shape in contracts.SENT)


def test_every_frame_of_a_client_is_specified_and_no_other() -> None:
    written = [name for row in rows("Client to server") for name in named(row[0])]
    assert sorted(written) == sorted(contracts.tag(shape) for shape in contracts.RECEIVED)


def test_every_frame_and_chunk_of_a_chat_is_specified_and_no_other() -> None:
    tables = [table.splitlines() for table in section("Chats").split("\n\n") if table.startswith("| ")]
    written = [sorted(name for line in table[2:] for name in named(line.split(" | ")[0])) for table in tables]
    shapes = [asyncapi.CHAT_RECEIVED, asyncapi.CHAT_SENT, get_args(ui_chunks.ServerChunk)]
    assert written == [sorted(map(contracts.tag, kinds)) for kinds in shapes]


@pytest.mark.parametrize(
    "shape", [wire.Hello, wire.Notice, wire.Route, wire.Revise, wire.UsageSoFar, wire.Resumed, wire.Draining]
)
def test_the_fields_of_a_negotiated_event_are_told(shape: type[msgspec.Struct]) -> None:
    (row,) = [row for row in rows("Once negotiated") if named(row[0]) == [contracts.tag(shape)]]
    documented = set(re.findall(r"\w+", row[1])) | {"sequence_number", "stream_id"}
    fields = [field.encode_name for field in msgspec.structs.fields(shape)]
    fields += [
        name for part in (wire.ConnectionLimits, wire.ResumeLimits) if shape is wire.Hello for name in _names(part)
    ]
    assert set(fields) <= documented


def test_every_endpoint_is_specified_and_no_other() -> None:
    written = {tuple(named(row[0])[0].split(" ")) for row in rows("Endpoints")}
    served = {
        (method, str(getattr(route, "path_format", "")))
        for route in app.create_app(
            settings.build(configuration_for("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"), {})
        ).routes
        for method in (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}
    }
    page = ("GET", "/")
    assert written - {page} == served - {page, ("GET", "")}
    assert {(endpoint.method.upper(), endpoint.path) for endpoint in contracts.OPERATIONS} <= written


def test_every_error_is_specified_as_it_is_and_no_other() -> None:
    written = {named(code)[0]: (int(status), again.startswith("yes")) for code, status, again in rows("Errors")}
    assert written == {code: (rule.status, rule.retry) for code, rule in RULES.items()}


def test_every_option_is_specified_and_no_other() -> None:
    (line,) = [part for part in section("Options").split("\n\n") if part.startswith("`strategy`")]
    assert named(line) == [*Options.__struct_fields__]


def test_the_readme_leads_here_and_the_documentation_tells_every_option() -> None:
    assert "(PROTOCOL.md)" in (REPOSITORY / "README.md").read_text("utf-8")
    page = (REPOSITORY / "docs" / "requests.md").read_text("utf-8")
    table = [line for line in page.splitlines() if line.startswith("| `")]
    documented = {name for line in table for name in named(line.split(" | ")[0])}
    assert set(Options.__struct_fields__) <= documented


def _names(shape: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(shape)]


# Every number of the page as it is written there; {0} stands for the number of `limits` of that name.
NUMBERS = {
    "REVOKED_S": ("is refused within {0:g} s",),
    "TICKET_S": ("valid for one connection, for {0:g} s",),
    "MAX_MESSAGE_BYTES": ("`limits.max_message_bytes` ({mib:g} MiB)",),
    "MAX_VALUES": ("and {0:,} JSON values",),
    "STREAM_ID_CHARACTERS": ("(`[A-Za-z0-9_.-]{{1,{0}}}`)",),
    "MAX_RUNNING": ("A connection runs at most {0} requests at once",),
    "MAX_QUEUED": ("Another {0} wait; after that: `queue_full`",),
    "QUEUED_BYTES": ("of at most {mib:g} MiB together",),
    "MAX_LANES": ("At most {0} named lanes may be busy",),
    "HEARTBEAT_S": ("ping every {0:g} s (`heartbeat_s`). A peer that does not answer one within {0:g} s",),
    "MAX_AGE_S": ("`limits.max_age_s` ({minutes:g} minutes)",),
    "SOCKET_BYTES": ("too much waits ({waiting:g} KiB)",),
    "WAITING_BYTES": ("too much waits ({waiting:g} KiB)",),
    "MAX_FRAMES": ("no more events once it holds {0:,} frames",),
    "STUCK_S": ("client reads nothing for {0:g} s", "within `stuck_s` ({0:g} s) of its first byte"),
    "MERGE_TOKENS": ("at most {0} tokens",),
    "SHORT_BYTES": ("(a request that holds over {kib:g} KiB)",),
    "SCHEMA_TURN_S": ("whose turn does not come within {0:g} s",),
    "LEAST_RATE": ("1 s more for each {kib:g} KiB",),
    "MAX_REFUSED": ("abuse ({0:,} refused",),
    "REFUSED_WITHIN_S": (" frames within {0:g} s",),
    "MAX_TOOLS": ("At most {0} tools, {0} in a namespace",),
    "MOST_TOOLS": ("in a namespace, {0:,} together",),
    "PING_BYTES": ("any JSON of at most {kib:g} kB",),
    "KEPT_S": (
        "can be replayed while it runs and for up to {minutes:g} minutes after its end",
        "and within {minutes:g} minutes of its end",
        "the response is kept in memory for {minutes:g} minutes",
    ),
    "DETACHED_S": ("nobody listens to runs on for {0:g} s (`detached_s`)",),
    "REPLAY_BYTES": ("`resume.bytes` ({mib:g} MiB)",),
    "USAGE_EVERY_S": ("at most {count} a second",),
    "SILENT_S": ("nothing to send for {0:g} s",),
    "LINGER_S": ("stays open for at least {article} second",),
    "SPREAD_S": ("spread over up to {words} seconds",),
    "BATCH_BYTES": ("at most {mb:g} MB",),
    "BATCH_LINES": ("and {0:,} lines; more",),
    "BATCHES_WAITING": ("a queue of {0} batches",),
    "RELEASED_S": ("socket is closed within {ms:g} ms of a cancel",),
}


def phrases(name: str, value: float) -> list[str]:
    """Return the phrases of a number, with its value as the page writes it."""
    words = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
    return [
        phrase.format(
            value,
            kib=value / 1024,
            mib=value / 2**20,
            mb=value / 10**6,
            ms=value * 1000,
            minutes=value / 60,
            waiting=(limits.SOCKET_BYTES + limits.WAITING_BYTES) / 1024,
            words=words.get(int(value)),
            count=words.get(round(1 / value)),
            article="a" if value == 1 else f"{value:g}",
        )
        for phrase in NUMBERS[name]
    ]


def test_every_number_of_the_page_is_in_one_file() -> None:
    """Each constant of `wire/limits.py` is on the page with its value; each quantity of the page is such a constant."""
    values = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert values.keys() == NUMBERS.keys()
    page = re.sub(r"\s+", " ", PAGE)
    written = [phrase for name, value in values.items() for phrase in phrases(name, value)]
    assert [phrase for phrase in written if phrase not in page] == []
    for phrase in sorted(written, key=len, reverse=True):
        page = page.replace(phrase, "")
    assert re.findall(r"\d[\d,.]* (?:s|ms|seconds|minutes|KiB|MiB|kB|frames|refused|requests|lanes)\b", page) == []


def test_the_close_codes_of_the_page_are_those_of_the_code() -> None:
    (closes,) = re.findall(r"\*\*Closes\.\*\*(.*?)\n\n", PAGE, re.DOTALL)
    assert sorted(map(int, re.findall(r"\b1\d{3}\b", closes))) == sorted(limits.CloseCode)
