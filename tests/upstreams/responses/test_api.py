"""Calls over the Responses API: where they go, what they carry, and what is learned from what a server refuses."""

import json
from dataclasses import replace

import pytest

from millrace.errors import UpstreamError
from millrace.types import Api, Message, Sealed
from millrace.upstreams.quirks import LEARNED_S
from millrace.upstreams.responses.api import RESPONSES
from millrace.upstreams.responses.body import request
from tests.support import responses_wire as wire
from tests.support.provider import (
    CALL,
    HEAD,
    Provider,
    Script,
    body,
    one_after_another,
    refusal,
    says,
    scripted_provider,
)
from tests.support.responses_wire import Answer

WHOLE = HEAD + body(*Answer(items=(wire.message("Hi"),)).stream())
NOT_ENCRYPTED = refusal(400, {"message": "Encrypted content is not supported with this model.", "param": "include"})
UNVERIFIED = refusal(
    400, {"message": "The encrypted content gAAA... could not be verified.", "code": "invalid_encrypted_content"}
)


@pytest.mark.parametrize("key", [None, "sk-secret"])
async def test_a_call_goes_to_the_responses_with_the_key(key: str | None) -> None:
    """As a bearer token, where there is one; never in a repr."""
    async with scripted_provider(says(WHOLE), key=key, api=RESPONSES) as provider:
        await provider.upstream.open(CALL).done
        assert "sk-secret" not in f"{provider.upstream.endpoint!r}"
    ((head, sent),) = provider.requests
    assert head.startswith("POST /v1/responses HTTP/1.1")
    assert [line for line in head.splitlines() if line.lower().startswith("authorization")] == (
        [f"Authorization: Bearer {key}"] if key else []
    )
    assert sent == json.loads(request(CALL, provider.upstream.endpoint.quirks)[1])


async def ask(provider: Provider, call: object = CALL) -> tuple[str, ...]:
    assert isinstance(call, type(CALL))
    attempt = provider.upstream.open(call)
    await attempt.done
    await attempt.task
    return attempt.notes


async def test_a_model_without_reasoning_to_encrypt_is_learned() -> None:
    """For an hour; then it is asked again."""
    scripts: tuple[Script, ...] = (says(NOT_ENCRYPTED), says(WHOLE), says(WHOLE), says(WHOLE))
    async with scripted_provider(one_after_another(*scripts), api=RESPONSES) as provider:
        for _ in range(2):
            assert await ask(provider) == ("without reasoning.encrypted_content",)
        provider.now += LEARNED_S + 1
        assert await ask(provider) == ()
    assert ["include" in sent for _, sent in provider.requests] == [True, False, False, True]


async def test_reasoning_of_another_account_is_left_out_of_that_request_alone() -> None:
    """As after a failover. The next request may have the model's own."""
    item = Sealed(api=Api.RESPONSES, fields=wire.reasoning("Hm."))
    asked = CALL.prompt.messages[0]
    history = (asked, Message(role="assistant", parts=("Yes.",), sealed=(item,)), asked)
    call = replace(CALL, prompt=replace(CALL.prompt, messages=history))
    scripts: tuple[Script, ...] = (says(UNVERIFIED), says(WHOLE), says(WHOLE))
    async with scripted_provider(one_after_another(*scripts), api=RESPONSES) as provider:
        assert await ask(provider, call) == ("without encrypted_content", "without encrypted reasoning")
        assert await ask(provider, call) == ()
    kinds = [[item["type"] for item in sent["input"]] for _, sent in provider.requests]
    assert kinds == [
        ["message", "reasoning", "message", "message"],
        ["message", "message", "message"],
        ["message", "reasoning", "message", "message"],
    ]


async def test_what_cannot_be_left_out_is_passed_on() -> None:
    refused = refusal(400, {"message": "Invalid schema for function 'f'.", "type": "invalid_request_error"})
    async with scripted_provider(says(refused), api=RESPONSES) as provider:
        with pytest.raises(UpstreamError, match="Invalid schema") as raised:
            await provider.upstream.open(CALL).done
    assert (raised.value.rule.status, raised.value.billable, len(provider.requests)) == (400, False, 1)
