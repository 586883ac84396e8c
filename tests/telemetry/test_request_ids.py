"""The id of a request stands in the log, the ledger, the answer and every refusal."""

from typing import Any

import aiohttp

from millrace import log
from tests.support.logs import captured_logs
from tests.support.server import Start

FAILING: Any = {"input": "What is a weir? [fault=429]", "model": "small"}


async def test_an_answer_that_failed_has_the_id_of_its_row(start: Start) -> None:
    async with start() as running, aiohttp.ClientSession(running.url) as http:
        with captured_logs(level="info") as logs:
            async with http.post("/v1/responses", json=FAILING) as answer:
                request_id = answer.headers["X-Request-Id"]
                assert answer.status >= 400
            async with http.post("/v1/messages", json={"max_tokens": 5, "messages": []}) as refused:
                assert refused.headers["X-Request-Id"] == refused.headers["Request-Id"]
            for path in ("/v1/nothing", "/v1/responses/resp_nothing"):
                async with http.get(path) as refused:
                    assert refused.headers["X-Request-Id"].startswith("req_")
        async with http.get(f"/v1/ledger/{request_id}") as row:
            assert row.status == 200
    lines = [line for line in logs.from_millrace.getvalue().splitlines() if "model failed" in line or "settled" in line]
    assert len(lines) >= 2
    assert all(request_id in line for line in lines)


def test_a_line_outside_a_request_has_none() -> None:
    with captured_logs(level="info") as logs:
        log.get().info("a line")
        log.request_id.set("")
    assert '"id"' not in logs.from_millrace.getvalue()
