"""Anthropic's Messages API, and servers that speak it too."""

from collections.abc import Mapping
from typing import Any

from millrace.types import Api, Call
from millrace.upstreams.messages import body, refused
from millrace.upstreams.messages.answer import MessagesReader
from millrace.upstreams.quirks import Change, Quirks
from millrace.upstreams.refusals import Refusals

VERSION = "2023-06-01"  # of the API, where the client names none
_OF_A_CLIENT = ("anthropic-version", "anthropic-beta")
_ANTHROPICS, _OF_A_USER = "sk-ant-", "sk-ant-oat"  # beginnings of Anthropic's keys


class Messages:
    """The Messages API."""

    def url(self, base_url: str) -> str:
        """Return where requests go. The base URL may be with /v1 at its end, or as Anthropic's SDKs have it."""
        return base_url.rstrip("/").removesuffix("/v1") + "/v1/messages"

    def headers(self, key: str | None, call: Call) -> dict[str, str]:
        """Return the headers with the key, the version, and what the client wants of this API in its own headers."""
        headers = {"anthropic-version": VERSION}
        native = call.prompt.native
        if native is not None and native.api is Api.MESSAGES:
            given = {name.lower(): value for name, value in native.headers.items()}
            headers |= {name: value for name, value in given.items() if name in _OF_A_CLIENT and value}
        return headers | _key_headers(key)

    def request(self, call: Call, quirks: Quirks) -> tuple[dict[str, Any], bytes, list[str]]:
        """Return the fields of a request body, the body, and notes on what is left out."""
        return body.request(call, quirks)

    def change_for(self, refusal: str, sent: Mapping[str, Any]) -> Change | None:
        """Return the difference that a refusal asks for."""
        return refused.change_for(refusal, sent)

    def reader(self, call: Call, refusals: Refusals) -> MessagesReader:
        """Return what reads the answer to a call."""
        return MessagesReader(call, refusals)


def _key_headers(key: str | None) -> dict[str, str]:
    """Return the headers with the key. Anthropic takes one of its keys in one place; others look in either."""
    if not key:
        return {}
    by_name, bearer = {"x-api-key": key}, {"Authorization": f"Bearer {key}"}
    if key.startswith(_OF_A_USER):
        return bearer
    return by_name if key.startswith(_ANTHROPICS) else by_name | bearer


MESSAGES = Messages()
