"""Embeddings: what clients ask for, and how a provider answers. The answer itself is passed on as it came."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from millrace import tokens
from millrace.errors import invalid
from millrace.wire.items import MAX_ID
from millrace.wire.reading import convert

MAX_INPUTS = 2048  # texts of one request

Token = Annotated[int, Meta(ge=0)]
TokenList = Annotated[list[Token], Meta(min_length=1)]


class EmbeddingsBody(Struct, kw_only=True):
    """Asks for embeddings: of a text, of several, or of texts that are given as tokens. Other fields are passed on."""

    model: str
    input: str | Annotated[list[str | Token | TokenList], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: Annotated[str, Meta(max_length=MAX_ID)] | None = None


class Embedding(Struct, kw_only=True):
    """The vector of one text: numbers, or base64 of little-endian 32-bit floats."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(Struct, kw_only=True):
    """Tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Struct, kw_only=True):
    """The vectors in the order of their texts, as the provider sent them."""

    object: str
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


class EmbeddingsAsked(Struct, frozen=True, kw_only=True):
    """A valid request: the model it names, about how many tokens its texts have, and all its fields."""

    model: str
    tokens: int
    fields: dict[str, Any]

    @property
    def user(self) -> str:
        """The end user, as the client names it; empty if it does not."""
        return str(self.fields.get("user") or "")

    def body_for(self, model: str) -> bytes:
        """Return it as a provider gets it, for the model's own name there."""
        return msgspec.json.encode({**self.fields, "model": model})


def read_embeddings(fields: dict[str, Any]) -> EmbeddingsAsked:
    """Read a body. Raises `invalid_request` with the path of the field."""
    body = convert(fields, EmbeddingsBody)
    texts = [body.input] if isinstance(body.input, str) else body.input
    kind = type(texts[0])
    for at, text in enumerate(texts):
        path = "input" if isinstance(body.input, str) else f"input[{at}]"
        if text == "":
            raise invalid(path, f"{path}: it is empty; leave it out")
        if type(text) is not kind:
            raise invalid(path, f"{path}: expected {_NAMES[kind]} as before; send texts, or tokens, or lists of tokens")
    if kind is not int and len(texts) > MAX_INPUTS:
        raise invalid("input", f"input: at most {MAX_INPUTS} texts; send the others in another request")
    return EmbeddingsAsked(
        model=body.model,
        tokens=sum(map(_tokens, texts)),
        fields={name: value for name, value in fields.items() if name != "millrace" and value is not None},
    )


_NAMES: dict[type, str] = {str: "a text", int: "a token", list: "a list of tokens"}


def _tokens(text: str | int | list[int]) -> int:
    if isinstance(text, str):
        return tokens.estimate(len(text.encode("utf-8", "surrogatepass")))
    return 1 if isinstance(text, int) else len(text)
