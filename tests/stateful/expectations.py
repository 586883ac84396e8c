"""What a client receives of each response, and what must always hold of it (PROTOCOL.md, What always holds)."""

from typing import Any

from tests.support.wire_client import TERMINALS

Event = dict[str, Any]

DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.function_call_arguments.delta": "arguments",
}
DONES = {
    "response.output_text.done": ("text", "text"),
    "response.refusal.done": ("refusal", "refusal"),
    "response.reasoning_text.done": ("reasoning", "text"),
    "response.reasoning_summary_text.done": ("reasoning", "text"),
    "response.function_call_arguments.done": ("arguments", "arguments"),
}
ENDS = {
    "response.completed": ("completed",),
    "response.failed": ("failed",),
    "response.incomplete": ("incomplete", "cancelled"),
}
REASONS = {"cancelled", "max_output_tokens", "content_filter", "deadline", "budget_exceeded", "slow_consumer"}
HALTED = {"deadline_exceeded", "budget_exceeded", "slow_consumer"}


class ResponseHistory:
    """The events of one response from the first on, each checked as it comes."""

    def __init__(self, response_id: str, *, negotiated: bool) -> None:
        self.response_id = response_id
        self.negotiated = negotiated
        self.terminal: Event | None = None
        self.kinds: list[str] = []
        self._next_number = 0
        self._words: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self._items: list[Event] = []
        self._done: list[Event] = []

    def take(self, event: Event) -> None:
        """Take the next event."""
        kind = event["type"]
        assert self.terminal is None, f"after the terminal: {event}"
        assert event["sequence_number"] == self._next_number, f"{self._next_number} was due: {event}"
        assert self.negotiated or not kind.startswith("millrace."), f"not negotiated: {event}"
        assert (kind == "response.created") is (self._next_number == 0), f"out of place: {event}"
        self._next_number += 1
        self.kinds.append(kind)
        item_id = str(event.get("item_id"))
        if "item_id" in event:
            is_known = kind == "millrace.revise" or item_id in [item["id"] for item in self._items]
            assert is_known, f"no such item: {event}"
            assert self.response_id.removeprefix("resp_") in item_id, f"an item of another response: {event}"
        if kind in DELTAS:
            assert not self._done, f"after an item was done: {event}"
            self._words.setdefault((item_id, DELTAS[kind]), []).append((event["sequence_number"], event["delta"]))
        elif kind in DONES:
            part, field = DONES[kind]
            assert event[field] == self.content(item_id, part), f"not the content of its deltas: {event}"
        elif kind == "millrace.revise":
            self._revise(event)
        elif kind == "response.output_item.added":
            assert event["output_index"] == len(self._items), f"a gap in the output: {event}"
            self._items.append(event["item"])
        elif kind == "response.output_item.done":
            assert event["output_index"] == len(self._done), f"out of order: {event}"
            self._done.append(event["item"])
        elif kind in TERMINALS:
            self.terminal = event
            self._end(event["response"], kind)

    def content(self, item_id: str, part: str) -> str:
        """Return the content of a part, after the revises."""
        return "".join(words for _, words in self._words.get((item_id, part), ()))

    def _revise(self, event: Event) -> None:
        assert not self._done, f"an answer that stands is taken back: {event}"
        for (item_id, part), words in self._words.items():
            if item_id == event["item_id"]:
                assert part != "arguments", f"a tool call is taken back: {event}"
                words[:] = [(number, text) for number, text in words if number <= event["keep_through"]]

    def _end(self, response: Event, kind: str) -> None:
        assert response["id"] == self.response_id
        assert response["status"] in ENDS[kind], response
        assert [item["id"] for item in response["output"]] == [item["id"] for item in self._items], response
        for item in response["output"]:
            self._check_item(item)
        if self._done:
            assert self._done == response["output"], "what is done is what the terminal repeats"
        error, details = response.get("error"), response.get("incomplete_details")
        assert (error is not None) is (response["status"] == "failed"), response
        assert (details is not None) is (kind == "response.incomplete"), response
        accepted = response["status"] == "completed" or (
            details is not None and details["reason"] in ("max_output_tokens", "content_filter", "budget_exceeded")
        )
        assert accepted or not self._done, f"an item was done, and the answer is none: {response}"
        if details is not None:
            assert details["reason"] in REASONS, response
            assert (details["reason"] == "cancelled") is (response["status"] == "cancelled"), response
        if error is not None and error["code"] in HALTED:
            assert not text_of(response), f"some of it was seen: {response}"
        check_usage(response["usage"])

    def _check_item(self, item: Event) -> None:
        match item["type"]:
            case "message":
                parts = {part["type"]: part for part in item["content"]}
                assert len(parts) == len(item["content"])
                assert parts.get("output_text", {}).get("text", "") == self.content(item["id"], "text"), item
                assert parts.get("refusal", {}).get("refusal", "") == self.content(item["id"], "refusal"), item
            case "reasoning":
                (words,) = item["content"] + item["summary"]
                assert words["text"] == self.content(item["id"], "reasoning"), item
            case "function_call":
                assert item["arguments"] == self.content(item["id"], "arguments"), item


def check_usage(usage: Event) -> None:
    """Fail unless a bill adds up and nothing on it is open."""
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], usage
    assert usage["cost_usd"] >= 0, usage
    assert abs(sum(attempt["cost_usd"] for attempt in usage["attempts"]) - usage["cost_usd"]) < 1e-9, usage
    assert not any(attempt["outcome"] == "running" for attempt in usage["attempts"]), usage


def text_of(response: Event) -> str:
    """Return the words of a response's output."""
    return "".join(
        part.get("text", "") for item in response["output"] if item["type"] == "message" for part in item["content"]
    )


def answer_of(response: Event) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
    """Return a response's words, reasoning, refusal and calls."""
    messages = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    reasoning = [item for item in response["output"] if item["type"] == "reasoning"]
    thoughts = [part["text"] for item in reasoning for part in (*item["content"], *item["summary"])]
    calls = [(item["name"], item["arguments"]) for item in response["output"] if item["type"] == "function_call"]
    refusals = [part["refusal"] for part in messages if part["type"] == "refusal"]
    return text_of(response), "".join(thoughts), "".join(refusals), tuple(calls)


class Received:
    """What all clients received of every response: an event is the same for every client, and at every time."""

    def __init__(self) -> None:
        self.histories: dict[tuple[str, bool], ResponseHistory] = {}  # by id, negotiated or not
        self.owners: dict[str, str] = {}  # tenants by response
        self.lanes: dict[str, str | None] = {}  # where a response was sent first
        self.repeated = 0  # events that were received a second time
        self._events: dict[tuple[str, bool], list[Event]] = {}

    def count(self, response_id: str, *, negotiated: bool) -> int:
        """Return how many events of a response somebody has."""
        return len(self._events.get((response_id, negotiated), ()))

    def take(self, response_id: str, event: Event, tenant: str, *, negotiated: bool) -> None:
        """Take an event that a client received: new, or equal to the one that others received."""
        assert self.owners.setdefault(response_id, tenant) == tenant, f"of another tenant: {event}"
        self.lanes.setdefault(response_id, event.get("stream_id"))
        place = (response_id, negotiated)
        events = self._events.setdefault(place, [])
        event = {name: value for name, value in event.items() if name != "stream_id"}
        number = event["sequence_number"]
        if number < len(events):
            assert event == events[number], f"sent differently before: {event}, {events[number]}"
            self.repeated += 1
            return
        events.append(event)
        history = self.histories.get(place)
        if history is None:
            history = self.histories[place] = ResponseHistory(response_id, negotiated=negotiated)
        history.take(event)

    @property
    def ended(self) -> list[Event]:
        """The responses in all terminals."""
        return [history.terminal["response"] for history in self.histories.values() if history.terminal is not None]
