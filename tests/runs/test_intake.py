"""From what a client asked to a run, while settings change."""

from decimal import Decimal
from typing import Any

import pytest
from openai import APIStatusError

from millrace.errors import MillraceError
from millrace.principal import LimitRules, Limits, Principal, Role
from millrace.stores.limits import MemoryLimiter
from tests.support.batches import client_of
from tests.support.live_server import LiveServer, live_server
from tests.support.server import process_of

OWNER = Principal(key_id="k", tenant="t", role=Role.USE, limits=Limits())
PENNY = Limits(dollars_per_day=Decimal("0.01"))


async def asked(live: LiveServer, question: str) -> str | None:
    async with client_of(live.running.url) as client:
        answer = await client.chat.completions.create(model="small", messages=[{"role": "user", "content": question}])
        return answer.choices[0].message.content


async def test_a_budget_that_comes_while_a_request_is_read_counts_what_was_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with live_server() as live:
        assert await asked(live, "Hello")
        intake = process_of(live.running).intake
        complete = intake._completed

        async def completed(request: Any) -> Any:
            live.configuration["limits"] = {"tenant": {"dollars_per_day": "0.000001"}}
            await live.reload()
            return await complete(request)

        monkeypatch.setattr(intake, "_completed", completed)
        with pytest.raises(APIStatusError, match=r"1\d{3}% of this tenant") as refused:
            await asked(live, "Who are you?")
        assert refused.value.status_code == 402


async def test_an_account_that_is_not_read_is_told() -> None:
    """That of a key is read once; that of a user is dropped when many others came since."""

    async def spent(names: Any, _: bool) -> Any:
        return {}

    limiter = MemoryLimiter(lambda: 0.0, lambda: 0.0, spent, LimitRules(user=PENNY), most=1)
    assert not limiter.lacks(OWNER)
    assert limiter.lacks(OWNER, "ann")
    await limiter.prepare(OWNER, "ann")
    assert not limiter.lacks(OWNER, "ann")
    await limiter.prepare(OWNER, "ben")
    assert limiter.lacks(OWNER, "ann")
    with pytest.raises(MillraceError):
        limiter.admit(OWNER, Decimal(1), 1, "ben")
