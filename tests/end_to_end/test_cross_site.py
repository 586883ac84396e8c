"""Cross-site WebSocket hijacking, tickets and secrets, over real sockets: what a foreign page can do is nothing.

`MILLRACE_TICKETS=1000` uses that many tickets twice, late and from another Origin instead of some dozens.
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from millrace.wire import limits
from tests.support.keyed_server import APP, HEAD, OTHER, KeyedServer, keyed_server
from tests.support.logs import captured_logs
from tests.support.origins import LOOKALIKES
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import wire_client

TICKETS = int(os.environ.get("MILLRACE_TICKETS", "40"))
FOREIGN = [origin for origin in LOOKALIKES if origin.isprintable()]  # a tab makes it no header


@pytest.fixture
async def guarded(start: Start, tmp_path: Path) -> AsyncIterator[KeyedServer]:
    async with keyed_server(start, tmp_path) as made:
        yield made


async def test_every_foreign_page_is_refused_before_the_upgrade(guarded: KeyedServer) -> None:
    """Foreign, null and look-alike Origins × key, ticket, cookie and nothing: all 403; their tickets are not used."""
    ticket = await guarded.ticket()
    credentials = {
        "key": guarded.bearer,
        "ticket": f"Sec-WebSocket-Protocol: millrace.v1, millrace.ticket.{ticket}",
        "cookie": f"Cookie: session={guarded.key}; authorization=Bearer {guarded.key}",
        "nothing": "X-Nothing: 1",
    }
    for origin in FOREIGN:
        for credential in credentials.values():
            answer = await guarded.ask(HEAD, f"Origin: {origin}", credential)
            assert (answer.status, answer.code) == (403, "forbidden"), (origin, credential)
    assert (await guarded.with_ticket(ticket, APP)).status == 101


async def test_a_listed_or_missing_origin_needs_a_credential_that_is_no_cookie(guarded: KeyedServer) -> None:
    """The other half of the matrix; a ticket needs a page, a key does not."""
    cookie = f"Cookie: session={guarded.key}; authorization=Bearer {guarded.key}"
    for lines, status in (
        ((f"Origin: {APP}", guarded.bearer), 101),
        ((guarded.bearer,), 101),
        ((f"Origin: {APP}", cookie), 401),
        ((cookie,), 401),
        ((f"Origin: {APP}",), 401),
        ((), 401),
        ((f"Origin: {APP}", f"Origin: {APP}", guarded.bearer), 400),
        ((guarded.bearer, guarded.bearer), 401),
    ):
        assert (await guarded.ask(HEAD, *lines)).status == status, lines
    assert (await guarded.with_ticket(await guarded.ticket(), APP)).status == 101
    assert (await guarded.with_ticket(await guarded.ticket())).status == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_a_foreign_page_cannot_post_either(guarded: KeyedServer, millrace: Running, origin: str) -> None:
    """A `text/plain` POST needs no preflight; it gets 403, also while auth is off, and no CORS header."""
    body = '{"origin": "http://localhost:3000"}'
    for server, lines in ((guarded, (guarded.bearer,)), (KeyedServer(millrace, ""), ())):
        for head in ("POST /v1/tickets HTTP/1.1", "POST /v1/responses HTTP/1.1", "DELETE /v1/responses/x HTTP/1.1"):
            answer = await server.ask(head, f"Origin: {origin}", "Content-Type: text/plain", *lines, body=body)
            assert (answer.status, answer.code) == (403, "forbidden")
            assert "access-control-allow-origin" not in answer.headers.lower()


async def test_a_listed_page_may_ask_over_http(guarded: KeyedServer) -> None:
    """Preflight and request carry the CORS headers, also a refusal, or the page could not read why; no cookies."""
    preflight = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
    allowed = await guarded.ask("OPTIONS /v1/tickets HTTP/1.1", f"Origin: {APP}", *preflight)
    assert (allowed.status, f"access-control-allow-origin: {APP}" in allowed.headers) == (200, True)
    for lines, status in (((guarded.bearer,), 200), ((), 401)):
        answer = await guarded.ask("GET /v1/models HTTP/1.1", f"Origin: {APP}", *lines)
        assert (answer.status, f"access-control-allow-origin: {APP}" in answer.headers) == (status, True)
        assert "access-control-allow-credentials" not in answer.headers
    foreign = await guarded.ask("OPTIONS /v1/tickets HTTP/1.1", "Origin: https://evil.example", *preflight)
    assert (foreign.status, "access-control-allow-origin" in foreign.headers) == (400, False)


async def test_a_ticket_connects_a_page_and_is_not_echoed(guarded: KeyedServer) -> None:
    """As a browser uses it: the server chooses `millrace.v1`, and the tenant's requests are answered."""
    ticket = await guarded.ticket()
    offered = [Subprotocol("millrace.v1"), Subprotocol(f"millrace.ticket.{ticket}")]
    url = f"{guarded.running.ws_url}/v1/responses"
    async with connect(
        url, subprotocols=offered, origin=Origin(APP), compression=None, open_timeout=PATIENCE_S
    ) as connection:
        assert connection.subprotocol == "millrace.v1"
        assert connection.response is not None
        assert ticket not in str(connection.response.headers)
        assert json.loads(await connection.recv())["type"] == "millrace.hello"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, subprotocols=offered, origin=Origin(APP), open_timeout=PATIENCE_S)
    assert refused.value.response.status_code == 401


async def test_a_ticket_is_asked_for_with_the_right_body(guarded: KeyedServer) -> None:
    """Its page is named in the body or is the asking one; one that could not use it is refused."""
    ask, post = guarded.ask, "POST /v1/tickets HTTP/1.1"
    own = await ask(post, guarded.bearer, f"Origin: {APP}")
    assert own.status == 201
    assert (await guarded.with_ticket(json.loads(own.body)["ticket"], APP)).status == 101
    for body, code in (
        ("{}", "invalid_request"),
        ('{"origin": 1}', "invalid_request"),
        ("[]", "invalid_request"),
        ("{", "invalid_json"),
        ('{"origin": "https://evil.example"}', "forbidden"),
        ('{"origin": "*"}', "forbidden"),
    ):
        assert (await ask(post, guarded.bearer, body=body)).code == code


async def test_tickets_used_twice_late_or_elsewhere_are_refused(
    guarded: KeyedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time."""
    for _ in range(TICKETS):
        once, elsewhere = await guarded.ticket(), await guarded.ticket()
        assert (await guarded.with_ticket(once, APP)).status == 101
        assert (await guarded.with_ticket(once, APP)).status == 401
        assert (await guarded.with_ticket(elsewhere, OTHER)).status == 401
        assert (await guarded.with_ticket(elsewhere, APP)).status == 401
    with monkeypatch.context() as patch:
        patch.setattr(limits, "TICKET_S", 0.0)  # so that it is late at once
        for _ in range(TICKETS):
            assert (await guarded.with_ticket(await guarded.ticket(), APP)).status == 401


async def test_no_secret_is_in_any_log_line(guarded: KeyedServer) -> None:
    """Good and bad keys and tickets, in the header, the subprotocol and, wrongly, the query; at every level."""
    with captured_logs(level="debug") as logs:
        ticket, unused = await guarded.ticket(), await guarded.ticket()
        bad = guarded.key[:-4] + "0000"
        assert (await guarded.with_ticket(ticket, APP)).status == 101
        assert (await guarded.with_ticket(ticket, APP)).status == 401
        assert (await guarded.with_ticket(unused, "https://evil.example")).status == 403
        assert (await guarded.ask(HEAD, f"Authorization: Bearer {bad}")).status == 401
        for secret in (guarded.key, f"millrace.ticket.{unused}"):
            asked = HEAD.replace("/v1/responses", f"/v1/responses?api_key={secret}")
            assert (await guarded.ask(asked, guarded.bearer)).status == 101
            assert (await guarded.ask(asked)).status == 401
            assert (await guarded.ask(f"GET /v1/models?key={secret} HTTP/1.1", guarded.bearer)).status == 200
        headers = {"Authorization": f"Bearer {guarded.key}"}
        async with wire_client(guarded.running.ws_url, additional_headers=headers) as client:
            await client.ask("a question that nobody else may read")
    heard = logs.text
    assert "WebSocket /v1/responses?api_key=mr_" in heard  # it has been listened to
    for secret in (guarded.key.rpartition("_")[2], bad.rpartition("_")[2], ticket, unused, "nobody else may read"):
        assert secret not in heard
