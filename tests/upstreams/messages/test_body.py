"""Requests of the Messages API: what the fields of a prompt become, and what is told where it has no such thing."""

import dataclasses
import json
import time
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.types import (
    Api,
    Call,
    Format,
    Media,
    Message,
    Native,
    Price,
    Prompt,
    Sealed,
    Tier,
    Tool,
    ToolCall,
)
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams.messages import body as messages
from millrace.upstreams.messages.api import MESSAGES, VERSION
from millrace.upstreams.messages.body import MOST_OUTPUT
from millrace.upstreams.messages.turns import Turns
from millrace.upstreams.quirks import Quirks
from millrace.upstreams.sent_tools import SentTools
from tests.support.messages_server import check
from tests.support.messages_wire import redacted, thinking
from tests.support.provider import MODEL

BIG = replace(MODEL, context_window=200_000, max_output_tokens=None)
ASKED = Message(role="user", parts=("How deep is it?",))
WEATHER = Tool(name="get_weather", description="Get it.", parameters={"type": "object", "properties": {}})
CALLED = Message(role="assistant", calls=(ToolCall(id="toolu_1", name="get_weather", arguments='{"city":"Paris"}'),))
MARK = {"type": "ephemeral"}


def sealed(fields: dict[str, Any], **at: Any) -> Sealed:
    return Sealed(api=Api.MESSAGES, fields=fields, **at)


def sent(*asked: Message, quirks: Quirks = Quirks(), marks: bool = False, **prompt: Any) -> tuple[Any, list[str]]:  # noqa: B008
    """Return the body as the server reads it, without marks of our own unless they are wanted, and the notes."""
    if not marks:
        quirks = replace(quirks, drop=quirks.drop | {"cache_control"})
    call = Call(model=BIG, prompt=Prompt(messages=asked or (ASKED,), **prompt), room=190_000)
    _, raw, notes = MESSAGES.request(call, quirks)
    fields = json.loads(raw)
    check(fields, MOST_OUTPUT)
    return fields, notes


def turns(*asked: Message, **prompt: Any) -> list[Any]:
    return [(turn["role"], turn["content"]) for turn in sent(*asked, **prompt)[0]["messages"]]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_a_plain_question() -> None:
    fields, notes = sent()
    assert fields == {
        "model": "m",
        "max_tokens": MOST_OUTPUT,
        "messages": [{"role": "user", "content": [text("How deep is it?")]}],
        "stream": True,
    }
    assert notes == []


@pytest.mark.parametrize(
    ("asked", "room", "limit", "most"),
    [
        (None, 1000, None, 1000),
        (70_000, 190_000, None, 70_000),
        (70_000, 190_000, 8192, 8192),
        (None, 9000, 8192, 8192),
    ],
)
def test_a_cap_is_always_sent(asked: int | None, room: int, limit: int | None, most: int) -> None:
    """What is set, else what fits; and never more than the model is known to give."""
    call = Call(model=BIG, prompt=Prompt(messages=(ASKED,), max_output_tokens=asked), room=room)
    assert messages.request(call, Quirks(output_limit=limit))[0]["max_tokens"] == most


def test_instructions_at_the_beginning_are_the_system_prompt() -> None:
    """A block of each part; empty ones are left out, which the API refuses."""
    first = Message(role="system", parts=("Be brief.", "", "Be kind."))
    fields, _ = sent(first, Message(role="system", parts=(" ",)), ASKED)
    assert fields["system"] == [text("Be brief."), text("Be kind.")]
    assert len(fields["messages"]) == 1


def test_instructions_between_turns_stand_where_the_model_takes_them() -> None:
    """After what a user says; else, and for models that take none there, they are told as what they are."""
    told = Message(role="system", parts=("Now be brief.",))
    marked = text("<system>\nNow be brief.\n</system>")
    said = Message(role="assistant", parts=("Deep.",))
    assert turns(ASKED, told) == [("user", [text("How deep is it?")]), ("system", [text("Now be brief.")])]
    assert turns(ASKED, told, quirks=Quirks(system_turns=False)) == [("user", [text("How deep is it?"), marked])]
    assert turns(ASKED, said, told, ASKED)[2] == ("user", [marked, text("How deep is it?")])
    assert turns(ASKED, told, ASKED) == [("user", [text("How deep is it?"), marked, text("How deep is it?")])]


def test_a_block_at_the_end_whose_text_is_none() -> None:
    """A client carries what it likes, and the provider may say what it thinks of it."""
    block = sealed({"type": "text", "text": 5})
    prompt = Prompt(messages=(ASKED, Message(role="assistant", sealed=(block,))))
    _, raw, _ = MESSAGES.request(Call(model=BIG, prompt=prompt, room=190_000), Quirks())
    last = json.loads(raw)["messages"][-1]
    assert last["role"] == "assistant"
    assert [{name: one[name] for name in block.fields} for one in last["content"]] == [block.fields]


def test_instructions_alone_are_what_is_asked() -> None:
    """The API wants a turn."""
    fields, _ = sent(Message(role="system", parts=("Be brief.",)), Message(role="system", parts=("Tell a story.",)))
    assert fields["system"] == [text("Be brief.")]
    assert fields["messages"] == [{"role": "user", "content": [text("<system>\nTell a story.\n</system>")]}]


def test_results_of_parallel_calls_and_words_after_them_are_one_turn() -> None:
    calls = tuple(ToolCall(id=f"toolu_{at}", name="get_weather", arguments="{}") for at in range(2))
    found = Message(role="tool", parts=("21",), call_id="toolu_0")
    failed = Message(role="tool", parts=(), call_id="toolu_1", is_error=True)
    _, answer, results = turns(ASKED, Message(role="assistant", calls=calls), found, failed, ASKED, tools=(WEATHER,))
    uses = [{"type": "tool_use", "id": f"toolu_{at}", "name": "get_weather", "input": {}} for at in range(2)]
    assert answer == ("assistant", uses)
    assert results == (
        "user",
        [
            {"type": "tool_result", "tool_use_id": "toolu_0", "content": [text("21")]},
            {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True},
            text("How deep is it?"),
        ],
    )


def test_results_come_first_whatever_was_said_in_front_of_them() -> None:
    """The API takes them nowhere else."""
    told = Message(role="system", parts=("Be quick.",))
    found = Message(role="tool", parts=("21",), call_id="toolu_1")
    _, _, (_, blocks) = turns(ASKED, CALLED, told, found, ASKED, tools=(WEATHER,))
    assert [block["type"] for block in blocks] == ["tool_result", "text", "text"]


def test_many_results_in_one_turn_take_no_longer_each() -> None:
    calls = tuple(ToolCall(id=f"toolu_{at}", name="f", arguments="{}") for at in range(20_000))
    results = (Message(role="tool", parts=("21",), call_id=call.id) for call in calls)
    messages = (ASKED, Message(role="assistant", calls=calls), *results)
    began = time.process_time()
    made = Turns(messages, SentTools(()), Quirks()).turns
    assert time.process_time() - began < 2  # seconds; looking at all earlier ones each time takes eight
    assert [block["tool_use_id"] for block in made[-1]["content"]] == [call.id for call in calls]


def test_ids_of_other_providers_are_replaced_in_calls_and_results() -> None:
    calls = Message(role="assistant", calls=(ToolCall(id="functions.f:0|x", name="f", arguments="{}"),))
    result = Message(role="tool", parts=("21",), call_id="functions.f:0|x")
    _, (_, (use,)), (_, (found,)) = turns(ASKED, calls, result)
    assert use["id"] == found["tool_use_id"]
    assert use["id"].startswith("toolu_")


@pytest.mark.parametrize(
    ("arguments", "given"),
    [('{"a": 1.0, "b": 1e3}', None), ("no JSON", {"arguments": "no JSON"}), ("[1]", {"arguments": [1]})],
)
def test_arguments_go_back_as_they_came(arguments: str, given: Any) -> None:
    """To the byte, since they are a part of what is cached. What is no object is put into one."""
    call = Message(role="assistant", calls=(ToolCall(id="toolu_1", name="f", arguments=arguments),))
    result = Message(role="tool", parts=("21",), call_id="toolu_1")
    request = Call(model=BIG, prompt=Prompt(messages=(ASKED, call, result)), room=1000)
    _, raw, _ = messages.request(request, Quirks())
    if given is None:
        assert f'"input":{arguments}'.encode() in raw
    else:
        assert json.loads(raw)["messages"][1]["content"][0]["input"] == given


PNG = "data:image/png;base64,iVBORw0KGgo="
MEDIA: dict[str, tuple[Media, dict[str, Any]]] = {
    "an image": (
        Media(kind="image", fields={"url": PNG}),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
    ),
    "an image elsewhere": (
        Media(kind="image", fields={"url": "https://pictures.example/1.png", "detail": "auto"}),
        {"type": "image", "source": {"type": "url", "url": "https://pictures.example/1.png"}},
    ),
    "an image at the provider": (
        Media(kind="image", fields={"file_id": "file_1"}),
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    ),
    "a PDF": (
        Media(kind="file", fields={"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}),
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "a.pdf",
        },
    ),
    "a PDF elsewhere": (
        Media(kind="file", fields={"file_url": "https://files.example/1.pdf"}),
        {"type": "document", "source": {"type": "url", "url": "https://files.example/1.pdf"}},
    ),
    "base64 alone": (
        Media(kind="file", fields={"file_data": "JVBE"}),
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
    ),
    "a text": (
        Media(kind="file", fields={"file_data": f"data:text/plain;base64,{b64encode('Tür'.encode()).decode()}"}),
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Tür"}},
    ),
    "a block of this API": (
        Media(kind="block", fields={"text": "x"}, sealed=sealed({"type": "search_result", "source": "s"})),
        {"type": "search_result", "source": "s"},
    ),
    "a block of another API": (
        Media(kind="block", fields={"text": "x"}, sealed=Sealed(api=Api.RESPONSES, fields={"type": "y"})),
        text("x"),
    ),
}


@pytest.mark.parametrize("name", MEDIA)
def test_what_is_no_text(name: str) -> None:
    """In a question, and in the result of a tool."""
    part, block = MEDIA[name]
    result = Message(role="tool", parts=(part,), call_id="toolu_1")
    ((_, question), _, (_, (found,))) = turns(Message(role="user", parts=("?", part)), CALLED, result, tools=(WEATHER,))
    assert question == [text("?"), block]
    assert found["content"] == [block]


def test_what_a_client_of_this_api_says_within_blocks_is_at_its_place() -> None:
    """However deep; where there is no such place, it has none."""
    part = Media(kind="file", fields={"file_url": "https://files.example/1.pdf"})
    extras = (
        (("content", 1, "citations"), {"enabled": True}),
        (("content", 1, "source", "x"), 1),
        (("content", 1, "y", "z"), 2),
    )
    asked = Message(role="user", parts=("", part)).with_unread(extras, Api.MESSAGES)
    ((_, (block,)),) = turns(asked)
    assert (block["citations"], block["source"]["x"]) == ({"enabled": True}, 1)
    assert "y" not in block


def test_a_recording_is_refused_with_what_to_do() -> None:
    """The API hears nothing."""
    part = Media(kind="audio", fields={"data": "x", "format": "wav"})
    with pytest.raises(UpstreamError, match="takes no audio") as raised:
        sent(Message(role="user", parts=("?", part)))
    assert (raised.value.rule.status, raised.value.rule.retry, raised.value.billable) == (400, False, False)


def test_an_answer_goes_back_in_the_order_in_which_it_came() -> None:
    """With what only this API understands at its places, to the byte; what another API has sealed stays here."""
    first, second, hidden = thinking("Hm ö."), thinking("So."), redacted()
    search = ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, {"type": "x_tool_result"})
    calls = tuple(ToolCall(id=f"toolu_{at}", name="get_weather", arguments="{}") for at in range(2))
    answer = Message(
        role="assistant",
        parts=("I look.", "It is wet."),
        calls=calls,
        reasoning="Hm ö.So.",
        sealed=(
            sealed(first),
            sealed(hidden),
            *(sealed(block, parts_before=1) for block in search),
            Sealed(api=Api.RESPONSES, fields={"type": "reasoning"}),
            sealed(second, parts_before=2, calls_before=1),
        ),
    )
    results = [Message(role="tool", parts=("21",), call_id=call.id) for call in calls]
    request = Call(model=BIG, prompt=Prompt(messages=(ASKED, answer, *results), tools=(WEATHER,)), room=1000)
    fields, raw, notes = messages.request(request, Quirks())
    kinds = [block["type"] for block in fields["messages"][1]["content"]]
    expected = ["thinking", "redacted_thinking", "text", "server_tool_use", "x_tool_result", "text", "tool_use"]
    assert kinds == [*expected, "thinking", "tool_use"]
    assert all(msgspec.json.encode(block) in raw for block in (first, second, hidden, *search))
    assert notes == ["without encrypted reasoning"]


def test_an_answer_of_sealed_blocks_alone_stays_an_answer() -> None:
    """A model may pause before it says a word."""
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    answer = Message(role="assistant", sealed=(sealed(thinking("Hm.")), sealed(search)))
    assert turns(ASKED, answer)[1] == ("assistant", [thinking("Hm."), search])


def test_another_speed_or_model_has_no_price_so_it_is_left_out_and_told() -> None:
    native = Native(api=Api.MESSAGES, fields={"speed": "fast", "fallbacks": [{"model": "other"}], "top_k": 3})
    fields, notes = sent(ASKED, native=native)
    assert fields.keys().isdisjoint({"speed", "fallbacks"})
    assert fields["top_k"] == 3
    assert notes == ["without speed: it has no price here", "without fallbacks: it has no price here"]


def test_text_with_citations_stands_for_the_same_text() -> None:
    """A block with them comes after its text, which may have been joined with the text before it."""
    cited = {"type": "text", "text": "It is wet.", "citations": [{"type": "char_location"}]}
    for parts in (("I look. It is wet.",), ("It is wet.",)):
        answer = Message(role="assistant", parts=parts, sealed=(sealed(cited, parts_before=1),))
        blocks = turns(ASKED, answer, ASKED)[1][1]
        assert blocks == [*([text("I look. ")] if len(parts[0]) > 10 else []), cited]


def test_thinking_of_other_models_stays_here_and_is_told() -> None:
    answer = Message(role="assistant", parts=("Deep.",), reasoning="Hm.", own_fields={"reasoning_details": [1]})
    fields, notes = sent(ASKED, answer, ASKED)
    assert fields["messages"][1]["content"] == [text("Deep.")]
    assert notes == ["without reasoning_details", "without reasoning"]


def test_an_answer_that_the_model_goes_on_with_ends_in_a_word() -> None:
    """White space at its end is refused. An empty answer is none."""
    said = Message(role="assistant", parts=("The depth is: \n",))
    assert turns(ASKED, said)[1] == ("assistant", [text("The depth is:")])
    assert len(turns(ASKED, Message(role="assistant", parts=("",)), ASKED)) == 1
    assert turns(ASKED, Message(role="assistant", refusal="I won't."))[1] == ("assistant", [text("I won't.")])


def test_tools() -> None:
    """Functions, custom tools as functions of one text, namespaces, and what the provider runs as it came."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    search = sealed({"type": "web_search_20250305", "name": "web_search", "max_uses": 2})
    tools = (
        dataclasses.replace(WEATHER, strict=True, unread=((("input_examples",), [{}]),), unread_api=Api.MESSAGES),
        Tool(name="apply_patch", description="Change files.", is_custom=True, grammar=grammar),
        Tool(name="wait", namespace="clock", parameters={"properties": {"s": {}}}),
        Tool(name="web_search", hosted=search),
        Tool(name="file_search", hosted=Sealed(api=Api.RESPONSES, fields={"type": "file_search"})),
    )
    fields, notes = sent(tools=tools, tool_choice=ToolChoice("function", "wait", "clock"))
    weather, patch, wait, hosted = fields["tools"]
    assert weather == {
        "name": "get_weather",
        "description": "Get it.",
        "input_schema": {"type": "object", "properties": {}},
        "strict": True,
        "input_examples": [{}],
    }
    assert patch["description"].startswith("Change files.")
    assert patch["description"].endswith("(lark):\nstart: WORD")
    assert patch["input_schema"]["properties"]["input"]["type"] == "string"
    assert wait == {"name": "clock__wait", "input_schema": {"type": "object", "properties": {"s": {}}}}
    assert hosted == search.fields
    assert fields["tool_choice"] == {"type": "tool", "name": "clock__wait"}
    assert notes == ["without file_search"]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (ToolChoice("auto"), True, {"type": "auto"}),
        (ToolChoice("required"), None, {"type": "any"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("function", "get_weather"), None, {"type": "tool", "name": "get_weather"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_of_a_tool(choice: ToolChoice | None, parallel: bool | None, expected: Any) -> None:
    fields, _ = sent(tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=parallel)
    assert fields.get("tool_choice") == expected
    assert "tool_choice" not in sent(tool_choice=choice, parallel_tool_calls=parallel)[0]


def test_calls_of_custom_tools_go_back_as_calls_of_their_functions() -> None:
    call = ToolCall(id="toolu_1", name="exec", namespace="shell", arguments='say "ö"', is_custom=True)
    tool = Tool(name="exec", namespace="shell", is_custom=True)
    result = Message(role="tool", parts=("ok",), call_id="toolu_1")
    _, (_, (use,)), _ = turns(ASKED, Message(role="assistant", calls=(call,)), result, tools=(tool,))
    assert (use["name"], use["input"]) == ("shell__exec", {"input": 'say "ö"'})


SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "additionalProperties": False}


def test_a_format() -> None:
    """A schema is sent; the API has nothing for any JSON, which the check `form` looks at all the same."""
    fields, notes = sent(format=Format(kind="json_schema", name="answer", schema=SCHEMA, strict=True))
    assert fields["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert notes == []
    fields, notes = sent(format=Format(kind="json_object"))
    assert "output_config" not in fields
    assert notes == ["without response_format json_object"]


def test_who_speaks_this_api_is_not_corrected() -> None:
    """Its own fields go on as they are, and nothing is made of its effort but the effort."""
    given = {
        "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
        "top_k": 5,
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        "output_config": {"task_budget": {"type": "tokens", "total": 9}},
        "max_tokens": 1,
        "messages": [],
    }
    native = Native(api=Api.MESSAGES, fields=given)
    fields, notes = sent(
        native=native, reasoning_effort="high", max_output_tokens=4000, format=Format(kind="json_schema", schema=SCHEMA)
    )
    assert fields["max_tokens"] == 4000
    assert {name: fields[name] for name in ("thinking", "top_k", "context_management")} == {
        name: given[name] for name in ("thinking", "top_k", "context_management")
    }
    form = {"type": "json_schema", "schema": SCHEMA}
    assert fields["output_config"] == {"effort": "high", "task_budget": {"type": "tokens", "total": 9}, "format": form}
    assert notes == []
    assert "thinking" not in sent(native=Native(api=Api.MESSAGES), reasoning_effort="high")[0]


def test_fields_of_chat_completions() -> None:
    """Those that the API has under another name, those that it has itself, and those that it has not."""
    extras = {
        "stop": ["END", " "],
        "user": "u",
        "safety_identifier": "s",
        "service_tier": "default",
        "top_k": 3,
        "seed": 7,
        "logit_bias": {"1": 1},
        "prompt_cache_key": "k",
    }
    fields, notes = sent(extras=extras, verbosity="low", temperature=1.5)
    assert fields["stop_sequences"] == ["END"]
    assert fields["metadata"] == {"user_id": "s"}
    assert (fields["service_tier"], fields["top_k"], fields["temperature"]) == ("standard_only", 3, 1.0)
    assert notes == [
        "without seed",
        "without logit_bias",
        "without prompt_cache_key",
        "without verbosity",
        "with temperature 1",
    ]
    assert sent(extras={"stop": "END", "service_tier": "auto"})[0]["service_tier"] == "auto"
    flex, notes = sent(extras={"service_tier": "flex"})
    assert "service_tier" not in flex
    assert notes == ["without service_tier flex: the API has no such tier"]


def test_fields_of_another_api_stay_here_and_are_told() -> None:
    native = Native(api=Api.RESPONSES, fields={"truncation": "auto"}, headers={"anthropic-beta": "x"})
    fields, notes = sent(native=native)
    assert "truncation" not in fields
    assert notes == ["without truncation"]
    call = Call(model=BIG, prompt=Prompt(messages=(ASKED,), native=native))
    assert MESSAGES.headers("k", call) == {"anthropic-version": VERSION, "x-api-key": "k", "Authorization": "Bearer k"}


def test_an_empty_header_of_a_client_names_no_version() -> None:
    native = Native(api=Api.MESSAGES, headers={"anthropic-version": "", "anthropic-beta": ""})
    call = Call(model=BIG, prompt=Prompt(messages=(ASKED,), native=native))
    assert MESSAGES.headers(None, call) == {"anthropic-version": VERSION}


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (None, {}),
        ("sk-ant-api03-x", {"x-api-key": "sk-ant-api03-x"}),
        ("sk-ant-oat01-x", {"Authorization": "Bearer sk-ant-oat01-x"}),
        ("sk-or-x", {"x-api-key": "sk-or-x", "Authorization": "Bearer sk-or-x"}),
    ],
)
def test_a_key_goes_where_the_provider_looks_for_it(key: str | None, headers: dict[str, str]) -> None:
    native = Native(api=Api.MESSAGES, headers={"Anthropic-Beta": "a,b", "anthropic-version": "2024-01-01", "x": "y"})
    call = Call(model=BIG, prompt=Prompt(messages=(ASKED,), native=native))
    assert MESSAGES.headers(key, call) == {"anthropic-beta": "a,b", "anthropic-version": "2024-01-01"} | headers


@pytest.mark.parametrize(
    "base", ["https://api.example", "https://api.example/", "https://api.example/v1", "https://api.example/v1/"]
)
def test_a_base_url_is_taken_with_and_without_v1(base: str) -> None:
    """Anthropic's SDKs have it without, the others of a configuration have it."""
    assert MESSAGES.url(base) == "https://api.example/v1/messages"


def test_a_price_is_that_of_the_tier_that_was_asked_for() -> None:
    """`standard_only` is the standard tier by this API's name."""
    model = replace(BIG, tier=Tier.LARGE, price=Price(input=BIG.price.input, output=BIG.price.output))
    assert model.price_at("standard_only") == model.price
