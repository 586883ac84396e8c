"""What clients of the Messages API send: what other APIs have too becomes neutral, the rest goes back as it came."""

import copy
import dataclasses
import json
import random
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.types import Api, Format, Media, Message, Native, Sealed, Strategy, Tool, ToolCall
from millrace.types.tool_choice import ToolChoice
from millrace.wire import carried
from millrace.wire.messages import PATHS, read_count, read_messages
from millrace.wire.reading import decode
from millrace.wire.requests import Create

CHECKS = ("empty", "form")
ASKED: dict[str, Any] = {"role": "user", "content": "?"}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
CALLING = {"role": "assistant", "content": [USE]}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "4"}
CALL = ToolCall(id="t1", name="f", arguments='{"a":1}')
MARK = {"type": "ephemeral"}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "ErUB=="}
SCHEMA = {"type": "object"}
TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA}
USER = Message(role="user", parts=("?",))


def read(*messages: Any, headers: dict[str, str] | None = None, **fields: Any) -> Create:
    """Read a body as it comes off the wire."""
    body = {"max_tokens": 9, "messages": list(messages) or [ASKED]} | fields
    return read_messages(decode(json.dumps(body), "a body"), CHECKS, headers or {})


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [*content]}


def answer(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [*content]}


def sealed(fields: dict[str, Any], parts: int = 0, calls: int = 0, api: Api = Api.MESSAGES) -> Sealed:
    return Sealed(api=api, fields=fields, parts_before=parts, calls_before=calls)


TURNS: list[tuple[list[Any], list[Message]]] = [
    ([ASKED], [USER]),
    ([user({"type": "text", "text": "a"}, {"type": "text", "text": "b"})], [Message(role="user", parts=("a", "b"))]),
    (
        [ASKED, {"role": "system", "content": "Brief."}, {"role": "assistant", "content": "!"}, ASKED],
        [USER, Message(role="system", parts=("Brief.",)), Message(role="assistant", parts=("!",)), USER],
    ),
    (
        [ASKED, CALLING, user(RESULT)],
        [USER, Message(role="assistant", calls=(CALL,)), Message(role="tool", parts=("4",), call_id="t1")],
    ),
    (
        [
            ASKED,
            CALLING,
            user(
                RESULT | {"is_error": True, "content": [{"type": "text", "text": "no"}]},
                *user({"type": "text", "text": "go on"})["content"],
            ),
        ],
        [
            USER,
            Message(role="assistant", calls=(CALL,)),
            Message(role="tool", parts=("no",), call_id="t1", is_error=True),
            Message(role="user", parts=("go on",)),
        ],
    ),
    (
        [ASKED, CALLING, user({"type": "tool_result", "tool_use_id": "t1"})],
        [USER, Message(role="assistant", calls=(CALL,)), Message(role="tool", call_id="t1")],
    ),
    (
        [ASKED, CALLING, user({"type": "text", "text": "a"}, RESULT)],
        [
            USER,
            Message(role="assistant", calls=(CALL,)),
            Message(role="tool", parts=("4",), call_id="t1"),
            Message(role="user", parts=("a",)),
        ],
    ),
]


@pytest.mark.parametrize(("given", "messages"), TURNS)
def test_turns(given: list[Any], messages: list[Message]) -> None:
    """Results of tools become messages of their own, in front of what the user says beside them."""
    assert list(read(*given).prompt.messages) == messages


MEDIA: list[tuple[dict[str, Any], Media]] = [
    (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        Media(kind="image", fields={"url": "data:image/png;base64,iVBO"}),
    ),
    (
        {"type": "image", "source": {"type": "url", "url": "https://a.test/1"}},
        Media(kind="image", fields={"url": "https://a.test/1"}),
    ),
    ({"type": "image", "source": {"type": "file", "file_id": "f1"}}, Media(kind="image", fields={"file_id": "f1"})),
    (
        {
            "type": "document",
            "title": "T",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        },
        Media(kind="file", fields={"file_data": "data:application/pdf;base64,JVBE", "filename": "T"}),
    ),
    ({"type": "document", "source": {"type": "url", "url": "u"}}, Media(kind="file", fields={"file_url": "u"})),
    ({"type": "document", "source": {"type": "file", "file_id": "f1"}}, Media(kind="file", fields={"file_id": "f1"})),
]


@pytest.mark.parametrize(("block", "media"), MEDIA)
def test_images_and_files(block: dict[str, Any], media: Media) -> None:
    """In a user's message and in the result of a tool."""
    assert read(user(block)).prompt.messages[0].parts == (media,)
    made = read(ASKED, CALLING, user(RESULT | {"content": [block]})).prompt.messages[2]
    assert made.parts == (media,)


BLOCKS: list[tuple[dict[str, Any], str]] = [
    (
        {
            "type": "document",
            "title": "T",
            "context": "C",
            "source": {"type": "text", "media_type": "text/plain", "data": "D"},
            "citations": {"enabled": True},
            "cache_control": MARK,
        },
        "T\nC\nD",
    ),
    (
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        },
        "a\nb",
    ),
    (
        {"type": "search_result", "title": "T", "source": "https://a.test", "content": [{"type": "text", "text": "x"}]},
        "T\nhttps://a.test\nx",
    ),
    ({"type": "container_upload", "file_id": "f1"}, ""),
]


@pytest.mark.parametrize(("block", "text"), BLOCKS)
def test_a_block_that_only_this_api_has_keeps_all_of_it(block: dict[str, Any], text: str) -> None:
    """Others get its text, if it has one."""
    (part,) = read(user(block, {"type": "text", "text": "?"})).prompt.messages[0].parts[:1]
    assert part == Media(kind="block", fields={"text": text} if text else {}, sealed=sealed(block))


def test_an_answer_keeps_its_thoughts_and_what_the_provider_ran() -> None:
    """Byte for byte and in their places; the words of thoughts are reasoning for other APIs."""
    redacted = {"type": "redacted_thinking", "data": "E"}
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"url": "u", "cache_control": MARK}]}
    text = {"type": "text", "text": "a"}
    given = answer(THINKING, redacted, text, search, found, THINKING, USE, {"type": "new_kind", "x": 1})
    made = read(ASKED, given, user(RESULT)).prompt.messages[1]
    assert made.sealed == (
        sealed(THINKING),
        sealed(redacted),
        sealed(search, 1),
        sealed(found, 1),
        sealed(THINKING, 1),
        sealed({"type": "new_kind", "x": 1}, 1, 1),
    )
    assert (made.parts, made.calls, made.reasoning) == (("a",), (CALL,), "Hm.Hm.")


def test_thoughts_of_others_come_back_out_of_the_signature() -> None:
    """What other APIs want back is carried by it; what is not signed at all is only reasoning."""
    item = sealed({"type": "reasoning", "encrypted_content": "E"}, api=Api.RESPONSES)
    word = carried.write({"reasoning_details": [1]}, {"t1": {"extra_content": {}}}, [item])
    given = answer(
        {"type": "thinking", "thinking": "One.", "signature": carried.write({}, {})},
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "Two.", "signature": word},
        {"type": "thinking", "thinking": "Three.", "signature": ""},
        USE,
    )
    made = read(ASKED, given, user(RESULT)).prompt.messages[1]
    assert made.reasoning == "One.Two.Three."
    assert made.sealed == (dataclasses.replace(item, parts_before=1),)
    assert made.own_fields == {"reasoning_details": [1]}
    assert made.calls == (replace(CALL, own_fields={"extra_content": {}}),)


def test_marks_and_fields_of_this_api_keep_their_places() -> None:
    body = read(
        ASKED,
        answer(
            {"type": "text", "text": "a", "citations": [{"n": 1}]},
            USE | {"cache_control": MARK, "caller": {"type": "direct"}},
        ),
        user(
            RESULT | {"cache_control": MARK, "content": [{"type": "text", "text": "4", "cache_control": MARK}]},
            {"type": "text", "text": "b"},
            {"type": "image", "source": {"type": "url", "url": "u"}, "cache_control": MARK},
        ),
        system=[{"type": "text", "text": "S", "cache_control": MARK}, {"type": "text", "text": "T"}],
        tools=[TOOL | {"cache_control": MARK, "eager_input_streaming": True}],
    ).prompt
    assert [dict(message.unread) for message in body.messages] == [
        {("content", 0, "cache_control"): MARK},
        {},
        {
            ("content", 0, "citations"): [{"n": 1}],
            ("tool_calls", 0, "cache_control"): MARK,
            ("tool_calls", 0, "caller"): {"type": "direct"},
        },
        {("cache_control",): MARK, ("content", 0, "cache_control"): MARK},
        {("content", 1, "cache_control"): MARK},
    ]
    assert {message.unread_api for message in body.messages if message.unread} == {Api.MESSAGES}
    assert dict(body.tools[0].unread) == {("cache_control",): MARK, ("eager_input_streaming",): True}
    assert body.messages[0].parts == ("S", "T")


def test_the_settings_of_a_request() -> None:
    body = read(
        system="Be brief.",
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop_sequences=["END"],
        service_tier="standard_only",
        metadata={"user_id": "u", "app": "a", "millrace.strategy": "large"},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}, "task_budget": 3},
        thinking={"type": "adaptive"},
        context_management={"edits": []},
        stream=True,
        headers={"anthropic-version": "2023-06-01", "anthropic-beta": "a,b"},
    )
    prompt = body.prompt
    assert prompt.messages[0] == Message(role="system", parts=("Be brief.",))
    assert (prompt.temperature, prompt.top_p, prompt.max_output_tokens, body.stream) == (0.5, 0.9, 9, True)
    assert prompt.format == Format(kind="json_schema", name="answer", schema=SCHEMA)
    assert prompt.reasoning_effort == "high"
    assert prompt.extras == {"stop": ["END"], "user": "u", "service_tier": "default"}
    assert prompt.native == Native(
        api=Api.MESSAGES,
        fields={
            "top_k": 5,
            "thinking": {"type": "adaptive"},
            "context_management": {"edits": []},
            "output_config": {"task_budget": 3},
        },
        headers={"anthropic-version": "2023-06-01", "anthropic-beta": "a,b"},
    )
    assert (body.strategy, body.metadata) == (Strategy.LARGE, {"app": "a"})
    assert body.not_passed_on == ()


def test_a_model_that_is_not_to_think_is_given_no_effort_elsewhere() -> None:
    """For this API the effort is that of the whole answer."""
    prompt = read(thinking={"type": "disabled"}, output_config={"effort": "high"}).prompt
    assert prompt.reasoning_effort is None
    assert prompt.native is not None
    assert prompt.native.fields == {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}


def test_the_earlier_place_of_a_format() -> None:
    body = read(output_format={"type": "json_schema", "schema": SCHEMA})
    assert body.prompt.format is not None
    assert body.paths.schema == "output_format.schema"
    assert read().paths == PATHS


def test_what_has_no_place_in_any_model_is_told() -> None:
    assert read(ASKED | {"name": "n"}).not_passed_on == ("messages[0].name",)


SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
BASH = {"type": "bash_20250124", "name": "bash"}
TOOLS: list[tuple[dict[str, Any], Tool]] = [
    (TOOL, Tool(name="f", description="d", parameters=SCHEMA, unread_api=Api.MESSAGES)),
    (
        TOOL | {"type": "custom", "strict": True},
        Tool(name="f", description="d", parameters=SCHEMA, strict=True, unread_api=Api.MESSAGES),
    ),
    (SEARCH, Tool(name="web_search", hosted=sealed(SEARCH))),
    (BASH, Tool(name="bash", hosted=sealed(BASH))),
    (
        {"type": "mcp_toolset", "mcp_server_name": "m"},
        Tool(name="mcp_toolset", hosted=sealed({"type": "mcp_toolset", "mcp_server_name": "m"})),
    ),
]


@pytest.mark.parametrize(("given", "tool"), TOOLS)
def test_tools(given: dict[str, Any], tool: Tool) -> None:
    """One that the provider defines is called by its own name."""
    assert read(tools=[given]).prompt.tools == (tool,)


CHOICES: list[tuple[dict[str, Any], ToolChoice, bool | None]] = [
    ({"type": "auto"}, ToolChoice("auto"), None),
    ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
    ({"type": "none"}, ToolChoice("none"), None),
    ({"type": "tool", "name": "f", "disable_parallel_tool_use": False}, ToolChoice("function", "f"), None),
    ({"type": "tool", "name": "web_search"}, ToolChoice("hosted", "web_search"), None),
]


@pytest.mark.parametrize(("given", "choice", "parallel"), CHOICES)
def test_tool_choices(given: dict[str, Any], choice: ToolChoice, parallel: bool | None) -> None:
    prompt = read(tools=[TOOL, SEARCH], tool_choice=given).prompt
    assert (prompt.tool_choice, prompt.parallel_tool_calls) == (choice, parallel)
    if given["type"] in ("auto", "none"):
        assert read(tool_choice=given).prompt.tool_choice is None


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"max_tokens": None}, "max_tokens", "expected a whole number, got null"),
    ({"max_tokens": 0}, "max_tokens", ">= 1"),
    ({"messages": []}, "messages", "length >= 1"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
    ({"messages": [ASKED | {"role": "tool"}]}, "messages[0].role", "is not one of assistant, system, user"),
    ({"messages": [user({"text": "?"})]}, "messages[0].content[0].type", "missing"),
    ({"messages": [user({"type": "txt"})]}, "messages[0].content[0].type", "'txt' is not one of text, image"),
    ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text", "missing"),
    ({"messages": [user({"type": "text", "text": 1})]}, "messages[0].content[0].text", "expected a string"),
    ({"messages": [user("?")]}, "messages[0].content[0]", "expected an object, got a string"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages", "nothing to answer"),
    ({"messages": [ASKED, answer({"type": 3})]}, "messages[1].content[0].type", "write one of text, thinking"),
    (
        {"messages": [ASKED, answer({"type": "tool_use", "id": "t", "name": "f", "input": "x"})]},
        "messages[1].content[0].input",
        "expected an object",
    ),
    ({"messages": [user(RESULT)]}, "messages[0].content[0].tool_use_id", "no tool_use before it has this id"),
    (
        {"messages": [ASKED, CALLING, user(RESULT | {"content": [USE]})]},
        "messages[2].content[0].content[0].type",
        "is not one of",
    ),
    (
        {"messages": [user({"type": "image", "source": {"type": "base64", "data": "x"}})]},
        "messages[0].content[0].source.media_type",
        "missing",
    ),
    (
        {"messages": [user({"type": "image", "source": {"type": "ftp"}})]},
        "messages[0].content[0].source.type",
        "is not supported",
    ),
    (
        {"messages": [user({"type": "document", "source": {"type": "content", "content": [{"type": "tool_use"}]}})]},
        "messages[0].content[0].source.content[0].type",
        "is not one of",
    ),
    ({"system": [{"type": "image"}]}, "system[0].type", "'image' is not one of text"),
    ({"system": [{"type": "container_upload"}]}, "system[0].type", "'container_upload' is not one of text"),
    (
        {"messages": [ASKED, {"role": "system", "content": [{"type": "tool_reference", "tool_name": "f"}]}]},
        "messages[1].content[0].type",
        "'tool_reference' is not one of text",
    ),
    ({"system": 3}, "system", "expected a string or an array"),
    ({"temperature": 1.5}, "temperature", "<= 1"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "missing"),
    ({"tools": [{"type": 3}]}, "tools[0].type", "expected a string"),
    ({"tool_choice": {"type": "any"}}, "tool_choice.type", "there are no tools"),
    (
        {"tool_choice": {"type": "tool", "name": "g"}, "tools": [TOOL]},
        "tool_choice.name",
        "'g' is not one of the tools",
    ),
    ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, "tool_choice.name", "missing"),
    ({"tool_choice": {"type": "required"}}, "tool_choice.type", "is not one of any, auto, none, tool"),
    ({"thinking": {"type": ""}}, "thinking.type", "length >= 1"),
    ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type", "write json_schema"),
    ({"service_tier": "flex"}, "service_tier", "is not one of auto, standard_only"),
    ({"metadata": {"user_id": 3}}, "metadata.user_id", "expected a string"),
    ({"metadata": {"millrace.delivery": "soon"}}, 'metadata["millrace.delivery"]', "is not one of"),
    ({"millrace": {"cache": "no"}}, "millrace.cache", "is not one of"),
]


@pytest.mark.parametrize(("fields", "param", "message"), FAULTS)
def test_a_fault_names_its_field_and_what_to_write(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(MillraceError) as raised:
        read(**fields)
    assert (raised.value.code, raised.value.param) == ("invalid_request", param)
    assert message in raised.value.message
    assert raised.value.message.startswith(param)


def test_only_a_count_needs_no_cap() -> None:
    body = decode(json.dumps({"messages": [ASKED], "system": "S"}))
    assert read_count(body, CHECKS, {}).prompt.max_output_tokens is None
    with pytest.raises(MillraceError, match="max_tokens: missing"):
        read_messages(body, CHECKS, {})


WHOLE: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "S", "cache_control": MARK}],
    "messages": [
        user({"type": "text", "text": "?"}, BLOCKS[0][0], MEDIA[0][0]),
        answer(THINKING, {"type": "text", "text": "a"}, USE),
        user(RESULT | {"is_error": True}, {"type": "text", "text": "b", "cache_control": MARK}),
    ],
    "tools": [TOOL, SEARCH],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "high"},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["E"],
}


def test_a_body_that_is_cut_anywhere_is_no_json() -> None:
    raw = json.dumps(WHOLE).encode()
    assert read_messages(decode(raw), CHECKS, {}).model == "m"
    for at in range(len(raw)):
        with pytest.raises(MillraceError) as raised:
            read_messages(decode(raw[:at]), CHECKS, {})
        assert raised.value.code == "invalid_json"


STRANGE: tuple[Any, ...] = (
    None,
    True,
    3,
    -1.5,
    "x",
    "",
    [],
    {},
    [None],
    {"type": "text"},
    [{"type": "tool_use"}],
    {"a": [{}]},
)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_in_a_field_it_is_read_or_refused(seed: int) -> None:
    """Never a crash; what is refused names a field that is there, or whose place is."""
    rng = random.Random(seed)
    for _ in range(50):
        body = json.loads(json.dumps(WHOLE))
        for _ in range(rng.choice((1, 1, 2, 4))):
            _change(body, rng)
        error = refusal_of(body)
        if error is not None:
            assert (error.code, bool(error.param)) == ("invalid_request", True)
            assert error.message.startswith(str(error.param)[:40])


def refusal_of(body: Any) -> MillraceError | None:
    try:
        read_messages(decode(json.dumps(body)), CHECKS, {})
    except MillraceError as error:
        return error
    return None


def _change(node: Any, rng: random.Random) -> None:
    """Put something strange at a random place, or take something away."""
    while True:
        if not node:
            return
        at = rng.choice([*node]) if isinstance(node, dict) else rng.randrange(len(node))
        if isinstance(node[at], dict | list) and rng.random() < 0.8:
            node = node[at]
        elif rng.random() < 0.3:
            del node[at]
            return
        else:
            node[at] = copy.deepcopy(rng.choice(STRANGE))
            return
