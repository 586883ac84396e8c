"""Feedback on a response: once for each key, of the tenant alone, and a bad answer is in no cache any more."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.errors import MillraceError
from millrace_client import Client
from tests.support.server import Running, Start
from tests.support.tenants import shared_server
from tests.support.wire_client import wire_client

ASKED, SAME = "How do I reset my router?", "How can I reset my router?"


async def say(
    running: Running, response_id: str, body: Any, header: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    address = f"{running.url}/v1/responses/{response_id}/feedback"
    async with aiohttp.ClientSession(headers=header) as session, session.post(address, json=body) as answer:
        return answer.status, await answer.json()


async def ask(running: Running, question: str, **fields: Any) -> tuple[str, str]:
    """Return the id of the answer, and which cache gave it."""
    async with wire_client(running.ws_url, negotiated=True) as client:
        response = (await client.ask(question, **fields))[-1]["response"]
    return response["id"], response["metadata"]["millrace.cache"]


async def test_a_bad_answer_leaves_both_caches(millrace: Running) -> None:
    """By the response that it was made for, also if it is still on its way into one of them."""
    first, _ = await ask(millrace, ASKED)
    assert (await ask(millrace, ASKED))[1] == "exact"
    status, answer = await say(millrace, first, {"rating": "down", "better": "Hold the button."})
    assert (status, answer["id"], answer["rating"]) == (200, first, "down")
    assert answer["deleted"]["exact"] == 1
    assert (await ask(millrace, SAME))[1] == "miss"
    assert (await ask(millrace, ASKED))[1] != "exact"  # it may have the new answer to the same


@pytest.mark.parametrize(("question", "cache"), [(ASKED, "exact"), (SAME, "semantic")])
async def test_so_does_one_that_a_cache_gave(millrace: Running, question: str, cache: str) -> None:
    await ask(millrace, ASKED)
    again, by = await ask(millrace, question)
    assert by == cache
    deleted = (await say(millrace, again, {"rating": "down"}))[1]["deleted"]
    assert deleted["exact"] == 1
    assert deleted["semantic"] == 1 or cache == "exact"  # then it may be still on its way into the semantic one
    assert (await ask(millrace, ASKED))[1] == "miss"


async def test_a_good_answer_stays_and_is_rated_once(millrace: Running) -> None:
    first, _ = await ask(millrace, ASKED)
    assert (await say(millrace, first, {"rating": "up"}))[0] == 200
    for rating in ("up", "down"):
        status, refused = await say(millrace, first, {"rating": rating})
        assert (status, refused["error"]["code"]) == (409, "feedback_exists")
    assert (await ask(millrace, ASKED))[1] == "exact"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "rating"),
        ({"rating": "bad"}, "rating"),
        ({"rating": "up", "better": 1}, "better"),
    ],
)
async def test_a_wrong_body_is_refused_by_the_name_of_its_field(millrace: Running, body: Any, param: str) -> None:
    first, _ = await ask(millrace, ASKED)
    status, refused = await say(millrace, first, body)
    assert (status, refused["error"]["param"]) == (400, param)


async def test_only_its_tenant_may_speak_of_a_response(start: Start, tmp_path: Path) -> None:
    """To others it is not there, and its answer stays in the caches."""
    async with shared_server(start, tmp_path, "acme", "other") as shared:
        async with wire_client(shared.running.ws_url, additional_headers=shared.header("acme")) as client:
            response_id = (await client.ask(ASKED))[-1]["response"]["id"]
            for tenant, status in (("other", 404), ("acme", 200)):
                said = await say(shared.running, response_id, {"rating": "down"}, shared.header(tenant))
                assert said[0] == status
        assert said[1]["deleted"]["exact"] == 1


async def test_the_python_client_gives_feedback(millrace: Running) -> None:
    async with Client(millrace.ws_url) as client:
        reply = await client.ask(ASKED)
        answer = await client.feedback(reply.id, "down")
        assert answer.deleted.exact == 1
        with pytest.raises(MillraceError, match="counts once"):
            await client.feedback(reply.id, "up")
