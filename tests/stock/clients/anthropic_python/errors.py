"""Meet the errors: they are the SDK's own classes, with a message that names the field and says what to do."""

import anthropic

client = anthropic.Anthropic(max_retries=0)
QUESTION = {"model": "auto", "max_tokens": 1024, "messages": [{"role": "user", "content": "Hello"}]}


def refused(**fields):
    try:
        client.messages.create(**QUESTION | fields)
    except anthropic.APIStatusError as error:
        assert error.request_id, error
        assert error.body["type"] == "error", error.body
        return error
    raise AssertionError(f"taken: {fields}")


def asked(words):
    return {"messages": [{"role": "user", "content": words}]}


unknown = refused(model="no-such-model")
assert isinstance(unknown, anthropic.NotFoundError), unknown
assert unknown.body["error"]["type"] == "not_found_error", unknown.body
assert "auto" in unknown.body["error"]["message"], unknown.body

for fields, path in (
    ({"extra_body": {"temperature": 7}}, "temperature"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
    (
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]},
        "messages[0].content[0].tool_use_id",
    ),
    ({"tools": [{"name": "f", "input_schema": {"type": "nothing"}}]}, "tools[0].input_schema"),
):
    error = refused(**fields)
    assert isinstance(error, anthropic.BadRequestError), error
    assert error.body["error"]["type"] == "invalid_request_error", error.body
    assert error.body["error"]["message"].startswith(path), error.body

assert isinstance(refused(**asked("[fault=429]")), anthropic.RateLimitError)
assert isinstance(refused(**asked("[fault=error]")), anthropic.InternalServerError)

try:
    with client.messages.stream(
        **QUESTION | asked("Go on. [tokens=60] [fault=hangup@20]") | {"model": "small"}
    ) as stream:
        words = "".join(stream.text_stream)
except anthropic.APIStatusError as error:
    assert error.body["error"]["type"] == "api_error", error.body
else:
    raise AssertionError(f"an answer: {words}")
