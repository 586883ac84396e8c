"""What clients send: every field as it is read, every fault with its path, and nothing that can crash the reader."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from millrace.errors import RULES, MillraceError
from millrace.types import RESPONSES_PATHS, CacheMode, Delivery, Format, Message, OnDisconnect, Paths, Strategy, Tool
from millrace.types.tool_choice import ToolChoice
from millrace.wire import limits, requests
from millrace.wire.options import Options
from millrace.wire.reading import MAX_DEPTH, decode
from millrace.wire.requests import Cancel, Create, Ping, Resume

CHECKS = ("empty", "refusal", "form")
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
WEATHER = {"type": "function", "name": "weather", "description": "d", "parameters": SCHEMA, "strict": True}


def read(**fields: Any) -> Create:
    """Read a body as it comes off the wire."""
    frame = json.dumps({"type": "response.create", "input": "x"} | fields)
    return requests.read_create(requests.open_frame(frame).fields, CHECKS)


def fault(**fields: Any) -> MillraceError:
    with pytest.raises(MillraceError) as raised:
        read(**fields)
    error = raised.value
    assert error.param is not None
    assert error.message.startswith(error.param)
    return error


def test_what_is_left_out_has_its_default() -> None:
    """None stands for the operator's."""
    create = read()
    assert create.prompt.messages == (Message(role="user", parts=("x",)),)
    assert (create.model, create.cache, create.on_disconnect) == ("auto", CacheMode.ON, OnDisconnect.CANCEL)
    assert (create.generate, create.stream, create.concise, create.include_usage) == (True, False, False, False)
    assert (create.metadata, create.context, create.cache_scope) == ({}, (), "")
    named = "strategy delivery checks check_schema max_cost_usd deadline_ms idempotency_key store"
    assert {getattr(create, name) for name in named.split()} == {None}
    assert {getattr(create.prompt, name) for name in ("tool_choice", "parallel_tool_calls", "format")} == {None}
    assert (create.prompt.tools, create.prompt.extras) == ((), {})


FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    ({"model": "m"}, "model", "m"),
    ({"previous_response_id": "resp_1"}, "previous_response_id", "resp_1"),
    ({"store": False}, "store", False),
    ({"store": True}, "store", True),
    ({"generate": False}, "generate", False),
    ({"generate": False, "input": []}, "generate", False),
    ({"stream": True}, "stream", True),
    ({"instructions": "i"}, "instructions", "i"),
    ({"metadata": {"a": "b", "millrace.cache": "on"}}, "metadata", {"a": "b"}),
    ({"millrace": {"context": ["a", {"text": "b", "score": 1}]}}, "context", ("a", "b")),
    ({"millrace": {"checks": ["form", {"json_schema": SCHEMA}, "empty", "form"]}}, "checks", ("form", "empty")),
    ({"millrace": {"checks": ["form", {"json_schema": SCHEMA}]}}, "check_schema", SCHEMA),
    (
        {"millrace": {"checks": ["form", {"json_schema": {}}]}},
        "paths",
        Paths(check_schema="millrace.checks[1].json_schema"),
    ),
    ({}, "paths", RESPONSES_PATHS),
    ({"metadata": {"millrace.max_cost_usd": "1"}}, "paths", Paths(max_cost='metadata["millrace.max_cost_usd"]')),
    ({"millrace": {"checks": []}}, "checks", ()),
    ({"millrace": {"checks": None, "strategy": None}}, "checks", None),
    ({"millrace": {"max_cost_usd": 0.1}}, "max_cost_usd", Decimal("0.1")),
    ({"millrace": {"max_cost_usd": 2}}, "max_cost_usd", Decimal(2)),
    ({"millrace": {"max_cost_usd": "0.000000001"}}, "max_cost_usd", Decimal("1e-9")),
    ({"millrace": {"unheard_of": 1}, "unheard_of": 2}, "metadata", {}),
    ({"metadata": {"millrace.unheard_of": "1"}}, "metadata", {}),
]


@pytest.mark.parametrize(("fields", "name", "value"), FIELDS)
def test_a_field_is_read(fields: dict[str, Any], name: str, value: Any) -> None:
    """Unknown ones are let pass."""
    assert getattr(read(**fields), name) == value


PROMPT: list[tuple[dict[str, Any], str, Any]] = [
    ({"temperature": 0}, "temperature", 0.0),
    ({"top_p": 0.5}, "top_p", 0.5),
    ({"max_output_tokens": 7}, "max_output_tokens", 7),
    ({"reasoning": {"effort": "low", "summary": "auto"}}, "reasoning_effort", "low"),
    ({"text": {"verbosity": "low"}}, "verbosity", "low"),
    ({"text": {"format": {"type": "text"}}}, "format", None),
    ({"text": {"format": {"type": "json_object"}}}, "format", Format(kind="json_object")),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
        "format",
        Format(kind="json_schema", name="n", schema=SCHEMA, strict=True),
    ),
    ({"tools": [WEATHER]}, "tools", (Tool(name="weather", description="d", parameters=SCHEMA, strict=True),)),
    ({"tools": [{"type": "function", "name": "f"}]}, "tools", (Tool(name="f"),)),
    ({"tools": [WEATHER], "tool_choice": "required"}, "tool_choice", ToolChoice("required")),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "weather"}},
        "tool_choice",
        ToolChoice("function", "weather"),
    ),
    ({"tool_choice": "auto"}, "tool_choice", None),
    ({"tools": [WEATHER], "parallel_tool_calls": False}, "parallel_tool_calls", False),
    ({"parallel_tool_calls": False}, "parallel_tool_calls", None),
    ({"service_tier": "flex", "user": "u", "top_k": 5}, "extras", {"service_tier": "flex", "user": "u", "top_k": 5}),
    ({"truncation": "auto", "include": ["x"], "top_logprobs": 0}, "extras", {}),
]


@pytest.mark.parametrize(("fields", "name", "value"), PROMPT)
def test_a_field_of_the_prompt_is_read(fields: dict[str, Any], name: str, value: Any) -> None:
    """A choice among no tools is none."""
    assert getattr(read(**fields).prompt, name) == value


def test_instructions_come_first() -> None:
    """They are a system message."""
    messages = read(instructions="Be kind.", input=[{"role": "developer", "content": "d"}, {"role": "user"} | TEXT])
    assert [(message.role, message.text) for message in messages.prompt.messages] == [
        ("system", "Be kind."),
        ("system", "d"),
        ("user", "t"),
    ]


TEXT = {"content": [{"type": "input_text", "text": "t"}]}
BOTH_WAYS: dict[str, tuple[Any, str, Any]] = {
    "strategy": ("race", "race", Strategy.RACE),
    "delivery": ("final", "final", Delivery.FINAL),
    "cache": ("only", "only", CacheMode.ONLY),
    "cache_scope": ("s", "s", "s"),
    "context_version": ("v", "v", "v"),
    "context_budget": (300, "300", 300),
    "checks": (["empty", "form"], " empty, form,", ("empty", "form")),
    "max_cost_usd": (0.25, "0.25", Decimal("0.25")),
    "deadline_ms": (3_600_000, "3600000", 3_600_000),
    "on_disconnect": ("detach", "detach", OnDisconnect.DETACH),
    "concise": (True, "true", True),
    "tag": ("t" * 64, "t" * 64, "t" * 64),
    "evidence": (False, "false", False),
    "idempotency_key": ("k" * 256, "k" * 256, "k" * 256),
    "grace_ms": (0, "0", 0),
    "hedge_ms": (60_000, "60000", 60_000),
}


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_an_option_stands_in_the_object_or_in_metadata(name: str) -> None:
    """With the same meaning; the object goes before metadata, whose value is not even read then."""
    value, text, meant = BOTH_WAYS[name]
    in_object, in_metadata = {"millrace": {name: value}}, {"metadata": {f"millrace.{name}": text}}
    for fields in (in_object, in_metadata, in_object | {"metadata": {f"millrace.{name}": "\u0000"}}):
        create = read(**fields)
        assert getattr(create, name) == meant
        assert create.metadata == {}


def test_every_option_is_tried_both_ways() -> None:
    """But the context, which has no other way than the object."""
    names = {field.name for field in msgspec.structs.fields(Options)}
    assert names - set(BOTH_WAYS) == {"context"}


def user(*parts: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": list(parts)}]}


HUGE = 10**400
FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"input": None}, "input", "a string or an array"),
    ({"input": [7]}, "input[0]", "an object"),
    ({"input": []}, "input", "write a question"),
    ({"input": "x", "background": True}, "background", "leave it out"),
    ({"conversation": "c"}, "conversation", "leave it out"),
    ({"prompt": {"id": "p"}}, "prompt", "leave it out"),
    ({"previous_response_id": "resp_1", "input": " "}, "input", "write a question"),
    ({"previous_response_id": ""}, "previous_response_id", "length >= 1"),
    ({"model": 7}, "model", "a string"),
    ({"stream": "yes"}, "stream", "a boolean"),
    ({"temperature": 2.01}, "temperature", "<= 2"),
    ({"temperature": HUGE}, "temperature", "out of range"),
    ({"top_p": -1}, "top_p", ">= 0"),
    ({"max_output_tokens": 1.5}, "max_output_tokens", "a whole number"),
    ({"max_output_tokens": True}, "max_output_tokens", "a whole number"),
    ({"max_output_tokens": HUGE}, "max_output_tokens", "<= 1000000000"),
    ({"max_output_tokens": -HUGE}, "max_output_tokens", ">= 1"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "missing"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "text, json_object, json_schema"),
    ({"text": {"format": {}}}, "text.format.type", "missing"),
    ({"tools": [WEATHER, {"type": "telepathy"}]}, "tools[1].type", "'telepathy' is not supported; write function"),
    ({"tools": [{"type": "function"}]}, "tools[0].name", "missing"),
    ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name", "length >= 1"),
    ({"tool_choice": "required"}, "tool_choice", "no tools"),
    ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice", "auto, none, required"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "f"}},
        "tool_choice.name",
        "not one of the tools",
    ),
    ({"tools": [WEATHER], "tool_choice": {"type": "telepathy"}}, "tool_choice.type", "not supported"),
    ({"millrace": {"strategy": "fastest"}}, "millrace.strategy", "auto, cascade, small, large, race, hedge"),
    ({"metadata": {"millrace.delivery": "x"}}, 'metadata["millrace.delivery"]', "speculate, prefix, commit, final"),
    ({"millrace": {"deadline_ms": 0}}, "millrace.deadline_ms", ">= 1"),
    ({"millrace": {"deadline_ms": 3_600_001}}, "millrace.deadline_ms", "<= 3600000"),
    ({"millrace": {"deadline_ms": "300"}}, "millrace.deadline_ms", "a whole number"),
    ({"metadata": {"millrace.deadline_ms": "soon"}}, 'metadata["millrace.deadline_ms"]', "a whole number"),
    ({"metadata": {"millrace.concise": "perhaps"}}, 'metadata["millrace.concise"]', "a boolean"),
    ({"metadata": {"millrace.context": "[]"}}, 'metadata["millrace.context"]', "in the millrace object"),
    ({"millrace": {"context": [{"body": "b"}]}}, "millrace.context[0].text", "missing"),
    ({"millrace": {"context": "c"}}, "millrace.context", "an array"),
    ({"millrace": {"max_cost_usd": 0}}, "millrace.max_cost_usd", "from 0.000000001 to 1000000"),
    ({"millrace": {"max_cost_usd": True}}, "millrace.max_cost_usd", "a number or a string"),
    ({"millrace": {"idempotency_key": ""}}, "millrace.idempotency_key", "length >= 1"),
    ({"millrace": {"idempotency_key": "k" * 257}}, "millrace.idempotency_key", "length <= 256"),
    ({"millrace": {"checks": ["empty", "luck"]}}, "millrace.checks[1]", "'luck' is not one of empty, refusal, form"),
    ({"metadata": {"millrace.checks": "luck"}}, 'metadata["millrace.checks"][0]', "empty, refusal, form"),
    ({"millrace": {"checks": [{"json_schema": 1}]}}, "millrace.checks[0].json_schema", "an object"),
    ({"millrace": {"checks": [{"json_schema": {}}, {"json_schema": {}}]}}, "millrace.checks[1]", "a second schema"),
    ({"millrace": 7}, "millrace", "an object"),
    ({"metadata": []}, "metadata", "an object"),
    ({"metadata": {"a": None}}, "metadata.a", "a string, got null"),
    ({"input": [{"role": "user", "content": "x"}] * 2001}, "input", "length <= 2000"),
    ({"tools": [WEATHER] * 129}, "tools", "length <= 128"),
    ({"metadata": {"k" * 65: ""}}, "metadata." + "k" * 64, "at most 64"),
    ({"metadata": {"a": "b" * 513}}, "metadata.a", "at most 512"),
    ({"metadata": {str(n): "" for n in range(33)}}, "metadata", "at most 32"),
    *(
        ({"millrace": {"max_cost_usd": money}}, "millrace.max_cost_usd", "expected dollars")
        for money in ("free", "-1", "NaN", "sNaN", "Infinity", "1e400", "1e-400", 1_000_001, "")
    ),
]


@pytest.mark.parametrize(("fields", "param", "words"), FAULTS)
def test_a_fault_names_its_field_and_what_to_write(fields: dict[str, Any], param: str, words: str) -> None:
    """All of them are `invalid_request`."""
    error = fault(**fields)
    assert (error.code, error.param) == ("invalid_request", param)
    assert words in error.message
    assert len(error.message) < 300


BAD_JSON = ["", "x", "{", "NaN", '{"a":NaN}', '{"a":Infinity}', '{"a":1e400}', '{"a":' + "9" * 5000 + "}"]
BAD_JSON += ['{"a":"\\ud800"}', '{"a":"\\udc00\\ud800"}', '{"\\ud800":1}', '{"a":"\ud800"}', "{}{}", '{"a":01}']
BAD_JSON += ['{"a":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", '{"a":' * 200 + "1" + "}" * 200, "[" * 200_000]


@pytest.mark.parametrize("raw", BAD_JSON)
def test_what_is_no_json_is_invalid_json(raw: str) -> None:
    """Also numbers and characters that cannot be, and what is nested too deeply to be written again."""
    with pytest.raises(MillraceError) as raised:
        requests.open_frame(raw)
    assert raised.value.code == "invalid_json"
    with pytest.raises(MillraceError):
        requests.open_frame(raw.encode(errors="surrogatepass"))


def test_json_that_is_deep_enough_and_keys_given_twice() -> None:
    """The bound is on depth, not on size; of two values the last counts."""
    inner = MAX_DEPTH - 1
    assert decode('{"a":' + "[" * inner + "]" * inner + "}")
    assert decode('{"a":[' + "[]," * 500 + "[]]}")
    assert decode('{"a":1,"a":2}') == {"a": 2}


@pytest.mark.parametrize("raw", ["1", "null", "[]", '"x"', "1.5", "true"])
def test_a_frame_is_an_object(raw: str) -> None:
    """Whatever else is JSON is an `invalid_request`."""
    with pytest.raises(MillraceError) as raised:
        requests.open_frame(raw)
    assert raised.value.code == "invalid_request"


MEANT = """
    type input model tools tool_choice millrace metadata text format schema name role content parameters message
    function_call call_id output arguments input_text image_url function json_schema reasoning checks max_cost_usd
    context previous_response_id generate response_id after epoch t stream_id
"""
NAMES = MEANT.split()
WORDS = st.sampled_from([*NAMES, "user", "assistant", "auto", "response.create", ""]) | st.text(max_size=5)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


def answered(fields: dict[str, Any]) -> None:
    """Read a frame in every way; whatever is wrong with it is an error of the table that can be written."""
    for kind, reader in (
        ("response.create", lambda envelope: requests.read_create(envelope.fields, CHECKS)),
        ("response.cancel", requests.read_cancel),
        ("millrace.resume", requests.read_resume),
        ("millrace.ping", requests.read_ping),
    ):
        refused = None
        try:
            envelope = requests.open_frame(json.dumps({**fields, "type": kind}))
            requests.check_ids(envelope)
            reader(envelope)
        except MillraceError as error:
            refused = error
        if refused is not None:
            assert refused.code in RULES
            assert refused.rule.status == 400
            msgspec.json.encode([refused.message, refused.param])


@given(st.dictionaries(WORDS, VALUES, max_size=6))
def test_no_frame_crashes_the_reader(fields: dict[str, Any]) -> None:
    """Any JSON under names that mean something."""
    answered({"input": "x"} | fields)


@pytest.mark.untraced
@given(st.lists(st.fixed_dictionaries({"type": WORDS}, optional=dict.fromkeys(NAMES[1:], VALUES)), max_size=3))
def test_no_item_crashes_the_reader(items: list[Any]) -> None:
    """Nor any item, tool or part."""
    answered({"input": items})
    answered({"input": "x", "tools": items})
    answered({"input": [{"role": "user", "content": items}, {"role": "assistant", "content": items}]})


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_no_bytes_crash_the_reader(raw: bytes | str) -> None:
    """They are refused, or they are a frame."""
    code = None
    try:
        requests.open_frame(raw)
    except MillraceError as error:
        code = error.code
    assert code in (None, "invalid_json", "invalid_request")


TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(st.lists(st.tuples(st.sampled_from(["user", "system"]), st.lists(TEXTS, min_size=1, max_size=3)), min_size=1))
def test_texts_come_through_unchanged(turns: list[tuple[str, list[str]]]) -> None:
    """Whatever is in them."""
    asked = [
        {"role": role, "content": [{"type": "input_text", "text": text} for text in texts]} for role, texts in turns
    ]
    frame = requests.write_create({"input": [*asked, {"role": "user", "content": "?"}]}, stream_id="l")
    envelope = requests.open_frame(frame)
    *messages, _ = requests.read_create(envelope.fields, CHECKS).prompt.messages
    assert [(message.role, list(message.parts)) for message in messages] == turns
    assert envelope.stream_id == "l"


@given(TEXTS, st.integers(-1, 2**53), TEXTS)
def test_a_resume_is_read_as_it_was_written(response_id: str, after: int, epoch: str) -> None:
    """The client's side and the server's are one."""
    resume = Resume(response_id, after, epoch)
    envelope = requests.open_frame(requests.write_resume(resume, stream_id="l"))
    assert (envelope.type, envelope.stream_id) == ("millrace.resume", "l")
    assert requests.read_resume(envelope) == resume


@given(VALUES)
def test_a_ping_is_read_as_it_was_written(t: Any) -> None:
    """Any JSON."""
    written = requests.write_ping(t)
    if len(written) < limits.PING_BYTES:
        assert requests.read_ping(requests.open_frame(written)) == Ping(json.loads(written)["t"])


def test_a_cancel_is_read_as_it_was_written() -> None:
    """A response, a lane, or the default lane."""
    for response_id, stream_id in (("r", None), (None, "l"), ("r", "l"), (None, None)):
        frame = requests.write_cancel(response_id=response_id, stream_id=stream_id)
        assert requests.read_cancel(requests.open_frame(frame)) == Cancel(response_id, stream_id)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "invalid_request", "type"),
        ({"type": None}, "invalid_request", "type"),
        ({"type": "response.create", "event_id": 7}, "invalid_request", "event_id"),
        ({"type": "response.create", "event_id": "e" * 513}, "invalid_request", "event_id"),
        ({"type": "response.create", "stream_id": ""}, "invalid_stream_id", "stream_id"),
        ({"type": "response.create", "stream_id": "s" * 257}, "invalid_stream_id", "stream_id"),
        ({"type": "response.create", "stream_id": "s\n"}, "invalid_stream_id", "stream_id"),
    ],
)
def test_the_ids_of_a_frame(fields: dict[str, Any], code: str, param: str) -> None:
    """What does not fit is refused, and not used to answer with."""
    envelope = requests.open_frame(json.dumps(fields))
    assert (envelope.stream_id, envelope.event_id) == (None, None)
    with pytest.raises(MillraceError) as raised:
        requests.check_ids(envelope)
    assert (raised.value.code, raised.value.param) == (code, param)


def test_ids_that_fit() -> None:
    """Null is none."""
    envelope = requests.open_frame('{"type":"x","stream_id":"a.b_c-1","event_id":"e e"}')
    requests.check_ids(envelope)
    assert (envelope.type, envelope.stream_id, envelope.event_id) == ("x", "a.b_c-1", "e e")
    requests.check_ids(requests.open_frame('{"type":"x","stream_id":null,"event_id":null}'))


@pytest.mark.parametrize(
    ("frame", "param"),
    [
        ({"type": "millrace.resume", "epoch": "e"}, "response_id"),
        ({"type": "millrace.resume", "response_id": "r"}, "epoch"),
        ({"type": "millrace.resume", "response_id": "r", "epoch": "e", "after": -2}, "after"),
        ({"type": "millrace.resume", "response_id": "r", "epoch": "e", "after": "1"}, "after"),
        ({"type": "millrace.ping", "t": "x" * 1023}, "t"),
        ({"type": "response.cancel", "response_id": 7}, "response_id"),
    ],
)
def test_a_bad_frame_beside_create_names_its_field(frame: dict[str, Any], param: str) -> None:
    """As `response.create` does."""
    envelope = requests.open_frame(json.dumps(frame))
    reader: Any = {"millrace.resume": requests.read_resume, "millrace.ping": requests.read_ping}.get(
        envelope.type, requests.read_cancel
    )
    with pytest.raises(MillraceError) as raised:
        reader(envelope)
    assert (raised.value.code, raised.value.param) == ("invalid_request", param)


def test_the_frames_are_a_contract() -> None:
    """Every struct that is read has a schema, and says what it is."""
    _, schemas = msgspec.json.schema_components([requests.ClientFrame, requests.CreateBody])
    assert {"ResponseCreate", "ResponseCancel", "ResponseSteer", "MillraceResume", "MillracePing"} <= set(schemas)
    structs = [schema for schema in schemas.values() if schema.get("type") == "object"]
    assert all(schema.get("description") for schema in structs)
    assert set(requests.TYPES) == {
        schema["properties"]["type"]["enum"][0]
        for name, schema in schemas.items()
        if name.startswith(("Response", "Millrace")) and "type" in schema["properties"]
    }
