"""The Responses API, as OpenAI and servers like it have it."""

from collections.abc import Mapping
from typing import Any

from millrace.types import Call
from millrace.upstreams.quirks import Change, Quirks
from millrace.upstreams.refusals import Refusals
from millrace.upstreams.responses import body
from millrace.upstreams.responses.answer import ResponsesReader


class Responses:
    """The Responses API over server-sent events."""

    def url(self, base_url: str) -> str:
        """Return where requests go."""
        return base_url.rstrip("/") + "/responses"

    def headers(self, key: str | None, _: Call) -> dict[str, str]:
        """Return the header with the key."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def request(self, call: Call, quirks: Quirks) -> tuple[dict[str, Any], bytes, list[str]]:
        """Return the fields of a request body, the body, and notes on what is left out."""
        return body.request(call, quirks)

    def change_for(self, refusal: str, sent: Mapping[str, Any]) -> Change | None:
        """Return the difference that a refusal asks for."""
        return body.change_for(refusal, sent)

    def reader(self, call: Call, refusals: Refusals) -> ResponsesReader:
        """Return what reads the answer to a call."""
        model, prompt = call.model, call.prompt
        return ResponsesReader(
            model.id, prompt.tools, refusals, model.context_window, wants_logprobs=prompt.wants_logprobs
        )


RESPONSES = Responses()
