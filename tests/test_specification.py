"""PROTOCOL.md and the code name the same events, endpoints, options and errors, and of the errors say the same."""

import re

import msgspec
import pytest

from millrace import app, settings
from millrace.errors import RULES
from millrace.wire import contracts, responses as wire
from millrace.wire.options import Options
from tests.conftest import REPOSITORY, tree

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


@pytest.mark.parametrize("shape", [wire.Hello, wire.Route, wire.Revise, wire.UsageSoFar, wire.Resumed, wire.Draining])
def test_the_fields_of_a_negotiated_event_are_told(shape: type[msgspec.Struct]) -> None:
    (row,) = [row for row in rows("Once negotiated") if named(row[0]) == [contracts.tag(shape)]]
    told = set(re.findall(r"\w+", row[1])) | {"sequence_number", "stream_id"}
    fields = [field.encode_name for field in msgspec.structs.fields(shape)]
    fields += [
        name for part in (wire.ConnectionLimits, wire.ResumeLimits) if shape is wire.Hello for name in _names(part)
    ]
    assert set(fields) <= told


def test_every_endpoint_is_specified_and_no_other() -> None:
    written = {tuple(named(row[0])[0].split(" ")) for row in rows("Endpoints")}
    served = {
        (method, str(getattr(route, "path", "")))
        for route in app.create_app(settings.build(tree("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"), {})).routes
        for method in (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}
    }
    page = ("GET", "/")
    assert written - {page} == served - {page, ("GET", "")}
    assert {(endpoint.method.upper(), endpoint.path) for endpoint in contracts.ENDPOINTS} <= written


def test_every_error_is_specified_as_it_is_and_no_other() -> None:
    written = {named(code)[0]: (int(status), again.startswith("yes")) for code, status, again in rows("Errors")}
    assert written == {code: (rule.status, rule.retry) for code, rule in RULES.items()}


def test_every_option_is_specified_and_no_other() -> None:
    (line,) = [part for part in section("Options").split("\n\n") if part.startswith("`strategy`")]
    assert named(line) == [*Options.__struct_fields__]


def test_the_readme_leads_here_and_tells_every_option() -> None:
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    assert "(PROTOCOL.md)" in readme
    table = [line for line in readme.splitlines() if line.startswith("| `")]
    told = {name for line in table for name in named(line.split(" | ")[0])}
    assert set(Options.__struct_fields__) <= told


def _names(shape: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(shape)]
