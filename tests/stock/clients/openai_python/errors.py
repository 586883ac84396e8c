"""Meet the errors: they are the SDK's own classes, with a code and a message that says what to do."""

from openai import BadRequestError, NotFoundError, OpenAI

client = OpenAI()
assert {"auto", "small", "large"} <= {model.id for model in client.models.list()}

asks = (
    lambda: client.responses.create(model="no-such-model", input="Hello"),
    lambda: client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "Hello"}]),
    lambda: next(iter(client.responses.create(model="no-such-model", input="Hello", stream=True))),
)
for ask in asks:
    try:
        ask()
    except NotFoundError as error:
        assert error.code == "model_not_found", error
        assert "auto" in error.body["message"], error
    else:
        raise AssertionError("a model that does not exist has answered")

try:
    client.responses.create(model="auto", input="Hello", temperature=7)
except BadRequestError as error:
    assert (error.code, error.param) == ("invalid_request", "temperature"), error
else:
    raise AssertionError("a temperature of 7 was taken")
