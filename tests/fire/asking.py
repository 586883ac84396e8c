"""Sends requests of a grammar over HTTP, and holds the answers to the contract."""

import json
from collections import Counter

import aiohttp
import yarl

from tests.fire.grammar import Asked, Ids
from tests.fire.target import LONGEST, Target
from tests.fire.watch import HANG_S, HangError
from tests.support import frames as contract

LONGER_S = 5.0  # a schema may wait so long for its turn (PROTOCOL.md); reports read all that was ever asked
REPORTS = ("/v1/evidence", "/v1/levers", "/v1/router", "/v1/dashboard", "/v1/cache")


async def ask(target: Target, http: aiohttp.ClientSession, asked: Asked, ids: Ids, seen: Counter[str]) -> None:
    """Send one request, and check its answer."""
    what = f"{asked.method} {asked.template}"
    is_longer = asked.body is not None or asked.template.startswith(REPORTS)
    try:
        answer = _answer(target.running.url, http, asked)
        status, kind, body = await target.watch.within(answer, LONGER_S if is_longer else HANG_S)
    except (HangError, aiohttp.ClientError) as error:
        if isinstance(error, aiohttp.ClientOSError) and len(asked.body or b"") > LONGEST:
            return  # refused before all of it was sent
        target.watch.fault(f"{what}: {error!r} for {asked.target[:100]} {(asked.body or b'')[:200]!r}")
        return
    seen[f"{what} {status}"] += 1
    try:
        _check(asked, status, kind, body, ids)
    except (AssertionError, ValueError) as error:
        target.watch.fault(
            f"{what} {status}: {str(error)[:250]} for {asked.target[:100]} {(asked.body or b'')[:100]!r}"
        )


async def _answer(base: str, http: aiohttp.ClientSession, asked: Asked) -> tuple[int, str, bytes]:
    url = yarl.URL(base + asked.target, encoded=True)  # as it is: dots and all
    headers = {"Content-Type": ""} | asked.headers if asked.body is not None else asked.headers
    async with http.request(asked.method, url, headers=headers, data=asked.body, allow_redirects=False) as answer:
        return answer.status, answer.content_type, await answer.read()


def _check(asked: Asked, status: int, kind: str, body: bytes, ids: Ids) -> None:
    """Fail unless an answer is one that the contract has."""
    assert status not in (500, 501, 505), "a fault of the server"
    assert b'"internal_error"' not in body, "internal_error"
    method, template = asked.method.lower(), asked.template
    if kind == "text/event-stream":
        for event in body.decode().split("\n\n"):
            lines = [line.removeprefix("data: ") for line in event.splitlines() if line.startswith("data: ")]
            if lines and lines != ["[DONE]"]:
                contract.validate_streamed(method, template, json.loads("\n".join(lines)))
    elif kind == "application/json":
        document = json.loads(body)
        if template != "/v1/embeddings":  # the provider's words
            contract.validate_answer(method, template, status, document)
        ids.learn(document)
        if status >= 400:
            assert document["error"]["message"], "it says nothing"
    elif status != 307:  # a slash too many
        assert kind == "application/octet-stream", f"it is {kind}"
        assert status == 200
