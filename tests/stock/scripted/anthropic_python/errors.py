"""Errors by their status, and one in mid-stream, each as the SDK's own class."""

import anthropic

client = anthropic.Anthropic(max_retries=0, _strict_response_validation=True)


def refused(**fields):
    options = {"model": "everything", "max_tokens": 1024, "messages": [{"role": "user", "content": "Hi"}]} | fields
    try:
        client.messages.create(timeout=60, **options)
    except anthropic.APIStatusError as error:
        return error
    raise AssertionError(f"taken: {fields}")


assert isinstance(refused(max_tokens=10**6), anthropic.BadRequestError)
assert "non-empty" in str(refused(messages=[{"role": "user", "content": [{"type": "text", "text": " "}]}]))
limited = refused(model="rate_limit_error")
assert isinstance(limited, anthropic.RateLimitError), limited
assert limited.response.headers["retry-after"] == "7"
overloaded = refused(model="overloaded_error")
assert (overloaded.status_code, overloaded.body["error"]["type"]) == (529, "overloaded_error"), overloaded

try:
    with client.messages.stream(
        model="broken", max_tokens=1024, messages=[{"role": "user", "content": "Hi"}]
    ) as stream:
        words = "".join(stream.text_stream)
except anthropic.APIStatusError as error:
    assert "Overloaded" in str(error), error
else:
    raise AssertionError(f"an answer: {words}")
