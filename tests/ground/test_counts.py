"""Counts equal those of tiktoken itself, offline: on texts of all kinds, and on what OpenAI has published."""

import base64
import hashlib
import importlib
import json
import random
from collections.abc import Callable, Iterator, Mapping

import pytest
import tiktoken

from millrace import tokens
from millrace.tokens import counting
from millrace.tokens.borders import border
from millrace.types import Api, Encoding, Format, Message, Prompt, Sealed, Tool

WORDS = [
    "What",
    "is",
    "a",
    "millrace",
    "the",
    "channel",
    "leads",
    "water",
    "to",
    "mill's",
    "wheel",
    "don't",
    "I'LL",
    "foo_bar",
    "naïve",
    "Straße",
    "дом",
    "12345",
    "½²",
]
CODE = "def walk(tree, depth=0):\n    if tree is None:\n        return []\n    yield f'{depth:>4}\\t{tree.name!r}'\n\n"
EMOJI = ("🙂", "👩‍👩‍👧", "🇩🇪", "❤️", "👍🏽", "a", " ", "!")
SIZES = (3, 40, 200, 600, 1500)  # characters, about
LONG = (11_000, 24_000)  # which are counted in pieces
TEXTS = 2000
LONG_TEXTS = 60  # of them


def prose(chance: random.Random, size: int) -> str:
    gaps = (" ", " ", " ", "  ", "\n", ", ", ". ", " - ", "\t\n", "\r\n")
    return "".join(chance.choice(WORDS) + chance.choice(gaps) for _ in range(size // 6 + 1))


def _code(chance: random.Random, size: int) -> str:
    lines = CODE.splitlines(keepends=True)
    return "".join(" " * chance.randrange(0, 20, 2) + chance.choice(lines) for _ in range(size // 30 + 1))


def cjk_text(chance: random.Random, size: int) -> str:
    signs = "。，、\n「」！"
    letters = [chr(chance.randrange(0x4E00, 0x9FA5)) for _ in range(size)]
    return "".join(letter if chance.random() < 0.9 else chance.choice(signs + "のはカ한국") for letter in letters)


def _emoji(chance: random.Random, size: int) -> str:
    return "".join(chance.choice(EMOJI) for _ in range(size // 2 + 1))


def _json(chance: random.Random, size: int) -> str:
    rows = [
        {"id": chance.randrange(10**9), "name": chance.choice(WORDS), "share": chance.random()}
        for _ in range(size // 60 + 1)
    ]
    return json.dumps(rows, indent=chance.choice([None, 2]), ensure_ascii=chance.random() < 0.5)


def base64_text(chance: random.Random, size: int) -> str:
    return base64.b64encode(chance.randbytes(size * 3 // 4 + 1)).decode()


KINDS: tuple[Callable[[random.Random, int], str], ...] = (prose, _code, cjk_text, _emoji, _json, base64_text)


def texts() -> Iterator[str]:
    chance = random.Random(16)
    for number in range(TEXTS):
        size = chance.choice(LONG if number < LONG_TEXTS else SIZES)
        yield KINDS[number % len(KINDS)](chance, size)


@pytest.fixture(scope="module", params=tokens.NAMES)
def reference(request: pytest.FixtureRequest) -> Iterator[tiktoken.Encoding]:
    """Tiktoken's own encoding: its expression and special tokens, and ranks that have the hash which it expects."""
    patch, published = pytest.MonkeyPatch(), importlib.import_module("tiktoken_ext.openai_public")

    def loaded(_: str, expected_hash: str) -> Mapping[bytes, int]:
        known = tokens.encoding(request.param)
        count = len(known.token_byte_values())
        ranks = {known.decode_single_token_bytes(rank): rank for rank in range(count)}
        lines = (base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
        assert hashlib.sha256(b"".join(lines)).hexdigest() == expected_hash
        return ranks

    patch.setattr(published, "load_tiktoken_bpe", loaded)
    yield tiktoken.Encoding(**getattr(published, request.param)())
    patch.undo()


@pytest.mark.untraced
def test_counts_equal_tiktokens_on_two_thousand_texts(reference: tiktoken.Encoding) -> None:
    """Code, CJK, emoji, JSON, base64 and prose, also such that are counted in pieces."""
    wrong = {
        text[:80]: (tokens.count(text, by=reference.name), exact)
        for text in texts()
        if tokens.count(text, by=reference.name) != (exact := len(reference.encode_ordinary(text)))
    }
    assert wrong == {}


def test_a_long_word_may_count_a_token_more_at_each_cut(reference: tiktoken.Encoding) -> None:
    """Nowhere in it does a token end in any case."""
    text = "x" * (5 * tokens.PIECE)
    exact = len(reference.encode_ordinary(text))
    assert exact <= tokens.count(text, by=reference.name) <= exact + 5


def test_a_text_that_comes_again_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each encoding for itself; of many texts the latest. What was not counted to its end is not kept."""
    encoded: list[str] = []

    class Encoder:
        def __init__(self, by: str) -> None:
            self._by = by

        def encode_ordinary(self, text: str) -> list[int]:
            encoded.append(text)
            return [0] * (len(text) + (self._by == tokens.O200K))

    monkeypatch.setattr(counting, "_known", counting._Known(2))
    monkeypatch.setattr(counting, "encoding", Encoder)
    with tokens.known_to("acme"):
        assert [tokens.count("hello", by=by) for by in (tokens.O200K, "cl100k_base") * 2] == [6, 5, 6, 5]
        assert encoded == ["hello"] * 2
        tokens.count("other")
        assert tokens.count("hello", by="cl100k_base") == 5
        assert encoded == ["hello", "hello", "other"]
        assert tokens.count("hello") == 6  # pushed out by the other
        assert encoded[3:] == ["hello"]
        long = "word " * counting.PIECE
        assert tokens.count(long, 10) < len(long)
        assert tokens.count(long) == tokens.count(long, 10) >= len(long)
    encoded.clear()
    with tokens.known_to("other"):
        tokens.count("hello")
    tokens.count("hello")  # for nobody: nothing is kept
    tokens.count("hello")
    assert encoded == ["hello"] * 3  # no time tells one tenant what another one has sent


def test_a_count_stops_soon_after_the_most_that_matters() -> None:
    """So that a text of megabytes takes no seconds to be refused."""
    text = "hello world " * 100_000
    assert 1000 < tokens.count(text, 1000) <= 1000 + tokens.PIECE


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("abc def ghi", 7),
        ("abc,def,ghi", 7),
        ("日本語。日本語", 3),
        ("abc  def", 3),
        ("x" * 20, 8),
        (" " * 20, 8),
        ("ab½1 cdefg", 4),
    ],
)
def test_a_text_is_cut_where_a_token_ends_anyhow(text: str, at: int) -> None:
    """Before a space or a sign, never behind a numeral that is no digit; else at the end."""
    assert border(text, 0, 8) == at


# The messages, the tool and the counts of OpenAI's cookbook ("How to count tokens with tiktoken"), which its API agrees
# with: gpt-4o counts in o200k_base, gpt-4 in cl100k_base.
JARGON = (
    ("", "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."),
    ("example_user", "New synergies will help drive top-line growth."),
    ("example_assistant", "Things working well together will increase revenue."),
    (
        "example_user",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    ),
    ("example_assistant", "Let's talk later when we're less busy about how to do better."),
)
ASKED = Message(
    role="user",
    parts=("This late pivot means we don't have time to boil the ocean for the client deliverable.",),
)
WEATHER = Tool(
    name="get_current_weather",
    description="Get the current weather in a given location",
    parameters={
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "unit": {
                "type": "string",
                "description": "The unit of temperature to return",
                "enum": ["celsius", "fahrenheit"],
            },
        },
        "required": ["location"],
    },
)
ABOUT_WEATHER = (
    Message(role="system", parts=("You are a helpful assistant that can answer to questions about the weather.",)),
    Message(role="user", parts=("What's the weather like in San Francisco?",)),
)


@pytest.mark.parametrize(("by", "messages", "with_tools"), [(tokens.O200K, 124, 101), (tokens.CL100K, 129, 105)])
def test_prompts_count_as_openai_has_published(by: str, messages: int, with_tools: int) -> None:
    said = tuple(Message(role="system", name=name, parts=(text,)) for name, text in JARGON)
    assert tokens.count_prompt(Prompt(messages=(*said, ASKED)), by=by) == messages
    assert tokens.count_prompt(Prompt(messages=ABOUT_WEATHER, tools=(WEATHER,)), by=by) == with_tools


def test_tools_of_all_kinds_and_formats_count() -> None:
    """Schemas within schemas, definitions, a provider's own tools, the schema of an answer; and hostile ones end."""
    nested = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "both": {"type": ["string", "null"], "default": "x"},
            "one": {"const": 7},
            "place": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
            "node": {"$ref": "#/$defs/Node"},
            "odd": True,
        },
        "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
    }
    alone = tokens.count_tools([Tool(name="f", parameters=nested)])
    assert alone < tokens.count_tools([Tool(name="f", description="Does it.", parameters=nested)])
    hosted = Tool(name="web_search", hosted=Sealed(api=Api.RESPONSES, fields={"type": "web_search", "filters": ["a"]}))
    custom = Tool(name="run", is_custom=True, grammar={"type": "grammar", "definition": "start: WORD"})
    assert alone < tokens.count_tools([Tool(name="f", parameters=nested), hosted, custom])
    form = Format(kind="json_schema", name="answer", schema=nested)
    assert tokens.count_format(form) > 50
    assert tokens.count_format(Format(kind="json_object")) == 0
    deep: dict[str, object] = {}
    for _ in range(300):
        deep = {"type": ["object", "array", "string"], "properties": {"a": deep}, "items": deep, "anyOf": [deep, deep]}
    odd = {"type": "object", "properties": {"a": deep, "b": {"enum": 3, "type": 7}}, "required": 1, "$defs": []}
    assert 0 < tokens.count_tools([Tool(name="f", parameters=odd)]) < 10_000


@pytest.mark.parametrize(
    ("name", "setting", "encoding"),
    [
        ("gpt-4o-mini", None, Encoding(name=tokens.O200K, is_own=True)),
        ("openai/gpt-5.1", None, Encoding(name=tokens.O200K, is_own=True)),
        ("o3", None, Encoding(name=tokens.O200K, is_own=True)),
        ("gpt-oss-120b", None, Encoding(name=tokens.O200K, is_own=True)),
        ("gpt-4.1-nano", None, Encoding(name=tokens.O200K, is_own=True)),
        ("gpt-4-turbo", None, Encoding(name=tokens.CL100K, is_own=True)),
        ("azure/gpt-35-turbo-16k", None, Encoding(name=tokens.CL100K, is_own=True)),
        ("ft:gpt-3.5-turbo:acme", None, Encoding(name=tokens.CL100K, is_own=True)),
        ("text-davinci-003", None, Encoding()),  # of an API that Millrace does not speak
        ("claude-sonnet-4-5", None, Encoding(factor=1.25)),
        ("anthropic/claude-opus-4", None, Encoding(factor=1.25)),
        ("gemini-2.5-flash", None, Encoding(factor=1.05)),
        ("my-deployment", None, Encoding()),
        ("my-deployment", "cl100k_base", Encoding(name=tokens.CL100K, is_own=True)),
        ("gpt-4o", "estimate", Encoding()),
    ],
)
def test_the_encoding_of_a_model(name: str, setting: str | None, encoding: Encoding) -> None:
    """By its name, whatever gateway it is asked at; a setting goes before that; the rest are estimates."""
    assert tokens.encoding_of(name, setting) == encoding


def test_a_long_output_is_estimated_from_its_beginning_and_end() -> None:
    """By the tokens that its deltas have, which is one at most providers: then it is nearly exact."""
    encoding = tokens.encoding()
    ids = encoding.encode_ordinary("The miller went down to the water and looked at the old wheel. " * 1500)
    deltas = [encoding.decode([one]) for one in ids]
    assert abs(tokens.count_output(deltas, []) - len(ids)) <= len(ids) // 500
    halves = ["".join(deltas[at : at + 2]) for at in range(0, len(deltas), 2)]
    assert abs(tokens.count_output(halves, []) - len(ids)) <= len(ids) // 100
    assert abs(tokens.count_output(["".join(deltas)], []) - len(ids)) <= len(ids) // 50
    assert tokens.count_output(deltas[:900], []) == 900
