"""Tenants never meet, though they ask the same: each is served its own answers, and nothing where it has none.

`MILLRACE_TENANTS=1000x100000` has so many tenants look up so often.
"""

import asyncio
import os
import random
from functools import partial
from pathlib import Path

from millrace.caches.embedders.hashing import Hashing
from millrace.funnel.fingerprint import Scope, keys_of
from millrace.stores.database import SqliteDatabase
from millrace.types import CacheMode, Delivery, Message, Prompt, Request, SemanticHit, Strategy
from tests.support.looks import look
from tests.support.semantic_cache import MODEL, answer, cache_of, control_of, questions, stored

TENANTS, LOOKUPS = map(int, os.environ.get("MILLRACE_TENANTS", "40x2000").split("x"))
ASKED = [
    ("How do I reset my password?", "how can I reset my password"),
    ("What is the capital of France?", "what's the capital of France"),
    ("How do I cancel order 1001?", "how can I cancel order 1001"),
    ("How do I cancel order 1002?", "how can I cancel order 1002"),
    ("How do I get a refund?", "how can I get a refund"),
    ("How do I paint a fence?", "how can I paint a fence"),
]
AT_ONCE = 16


def scope_of(tenant: str) -> bytes:
    prompt = Prompt(messages=(Message(role="user", parts=("?",)),))
    request = Request(
        id="r",
        tenant=tenant,
        model="auto",
        strategy=Strategy.AUTO,
        delivery=Delivery.FINAL,
        cache=CacheMode.ON,
        prompt=prompt,
        metadata={},
    )
    scope = keys_of(request, [MODEL], []).scope
    assert isinstance(scope, Scope)
    return scope.digest


async def test_no_lookup_crosses_between_tenants(tmp_path: Path) -> None:
    """In scopes that come and go, with an index in each; while entries are stored, replaced and deleted."""
    choice = random.Random(5)
    database = SqliteDatabase(str(tmp_path))
    cache = cache_of(
        database, Hashing(), folder=tmp_path / "semantic", index_above=3, hot_scopes=TENANTS // 2, max_waiting=AT_ONCE
    )
    control = control_of(database, [cache])
    scopes = {f"tenant {number}": scope_of(f"tenant {number}") for number in range(TENANTS)}
    kept = {(tenant, question) for tenant in scopes for question, _ in ASKED if choice.random() < 0.5}
    for number, (tenant, question) in enumerate(sorted(kept)):
        cache.store(scopes[tenant], tenant, question, answer(f"{tenant}: {question}"))
        if number % 500 == 499:
            await stored(cache)
    await stored(cache)
    outcomes = {"hit": 0, "miss": 0}

    async def ask() -> None:
        tenant, (question, reworded) = choice.choice(list(scopes)), choice.choice(ASKED)
        text = choice.choice((question, reworded))
        found = await cache.find(scopes[tenant], text)
        if isinstance(found, SemanticHit):
            assert found.answer.text == f"{tenant}: {question}"
            assert (tenant, question) in kept
        else:
            assert found.reason == "nothing near" or found.reason.startswith("near (")
            assert text != question or (tenant, question) not in kept
        outcomes["hit" if isinstance(found, SemanticHit) else "miss"] += 1

    for begin in range(0, LOOKUPS, AT_ONCE):
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        if begin // AT_ONCE % 8 == 0:
            tenant, question = choice.choice(sorted(kept))
            await control.flush(tenant=tenant, scope=scopes[tenant])
            kept -= {(tenant, other) for other, _ in ASKED}
            cache.store(scopes[tenant], tenant, question, answer(f"{tenant}: {question}"))
            kept.add((tenant, question))
            await stored(cache)
            assert await look(database, partial(questions, tenant)) == [question]
    assert min(outcomes.values()) > LOOKUPS // 8
    await cache.close()
    await asyncio.to_thread(database.close)
