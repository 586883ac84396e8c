"""The script of an answer: its tokens, its pace, its fault."""

import re
from collections.abc import Iterator
from itertools import count
from random import Random

from msgspec import Struct

from millrace.simulator import answers, prose
from millrace.simulator.book import Book
from millrace.simulator.documents import write_arguments, write_document, write_wrong_document
from millrace.simulator.faults import Fault
from millrace.simulator.hard_questions import REFUSED, UNKNOWN, UNSURE
from millrace.simulator.profiles import Profile
from millrace.simulator.question import Question
from millrace.simulator.shapes import Delta, call_opening, call_piece

_ABOUT_CODE = re.compile(r"\b(code|function|program|script|snippet|markdown)\b", re.IGNORECASE)


class Pace(Struct, frozen=True):
    """When each token is due. Times count from the start, so that delays do not add up."""

    ttft_s: float
    tokens_per_s: float
    jitter: float
    seed: str

    def offsets(self) -> Iterator[float]:
        """Yield the seconds from the start of the call to each token."""
        yield self.ttft_s
        noise = _random(self.seed)
        for index in count(1):
            yield self.after(index + self.jitter * noise.random())

    def after(self, tokens: float) -> float:
        """Return the seconds from the start until `tokens` tokens have been sent."""
        return self.ttft_s + (tokens / self.tokens_per_s if self.tokens_per_s else 0)


class Script(Struct, frozen=True):
    """One answer before it is sent; one delta for each token."""

    deltas: tuple[Delta, ...]
    finish_reason: str
    pace: Pace
    fault: Fault | None

    @property
    def reasoning(self) -> int:
        """The number of reasoning tokens."""
        return sum("reasoning_content" in delta for delta in self.deltas)

    @property
    def deltas_before_fault(self) -> tuple[Delta, ...]:
        """The deltas to send before a mid-stream fault; all of them if the answer is shorter, or has no such fault."""
        return self.deltas[: self.fault.after] if self.fault else self.deltas


NO_BOOK = Book()


def compose(profile: Profile, question: Question, seed: int, book: Book = NO_BOOK) -> Script:
    """Return the script of an answer; the same for the same conversation, profile, seed and book."""
    key = f"{seed}\0{profile.name}\0{question.conversation}"
    deltas = tuple(_deltas(profile, question, key, book))
    sent = deltas[: question.limit]
    complete = "tool_calls" if question.functions else "stop"
    return Script(
        deltas=sent,
        finish_reason="length" if len(sent) < len(deltas) else complete,
        pace=_pace(profile, question, key),
        fault=question.directives.fault,
    )


def _deltas(profile: Profile, question: Question, key: str, book: Book) -> Iterator[Delta]:
    """Yield reasoning, then text or a refusal, then tool calls. With tool calls, text needs the directive `tokens`."""
    directives = question.directives
    for thought in prose.tokens(_random(f"reason\0{key}"), directives.reason):
        yield {"reasoning_content": thought}
    kind = "refusal" if directives.refuse else "content"
    if not question.functions or directives.tokens is not None:
        for token in _tokens(profile, question, _random(key), book):
            yield {kind: token}
    weak = directives.weak and profile.strength == "weak"
    for index, function in enumerate(question.functions):
        yield call_opening(index, f"call_{_random(f'call{index}{key}').getrandbits(96):024x}", function.name)
        for piece in prose.split(write_arguments(function, weak=weak)):
            yield call_piece(index, piece)


def _tokens(profile: Profile, question: Question, rng: Random, book: Book) -> Iterator[str]:
    count = question.directives.tokens
    return prose.split(_text(profile, question, rng, book)) if count is None else prose.tokens(rng, count)


def _text(profile: Profile, question: Question, rng: Random, book: Book) -> str:
    if question.directives.refuse:
        return REFUSED
    weak = question.directives.weak and profile.strength == "weak"
    response_format = question.format
    if response_format.type == "text":
        return rng.choice((UNSURE, UNKNOWN, REFUSED)) if weak else _prose(profile, question, rng, book)
    if weak:
        return write_wrong_document(response_format)
    document = write_document(response_format, _prose(profile, question, rng, book))
    return f"```json\n{document}\n```" if question.is_fenced else document


def _prose(profile: Profile, question: Question, rng: Random, book: Book) -> str:
    if (page := book.find(question.prompts)) is not None:
        return page.answer(profile.strength, question.instructions, question.conversation)
    if question.results:
        return f"Simulated: the tool said {', and '.join(question.results)}"
    answer = answers.find(question.prompt, profile.strength)
    if answer is None:
        answer = prose.markdown(rng) if _ABOUT_CODE.search(question.prompt) else prose.passage(rng)
    return answer + _media_note(question)


def _media_note(question: Question) -> str:
    """Return a sentence that counts the media of the question."""
    media = [f"{count} {kind}{'s' * (count > 1)}" for kind, count in question.media.items()]
    return f" With it came {', '.join(media)}." if media else ""


def _pace(profile: Profile, question: Question, key: str) -> Pace:
    """Return the pace of the profile with jitter; directives replace it and have no jitter."""
    directives = question.directives
    seed = f"pace\0{key}"
    profile_ttft = profile.ttft_s * (1 + profile.jitter * _random(seed).uniform(-1, 1))
    return Pace(
        ttft_s=profile_ttft if directives.ttft is None else directives.ttft,
        tokens_per_s=profile.tokens_per_s if directives.rate is None else directives.rate,
        jitter=profile.jitter if directives.rate is None else 0,
        seed=seed,
    )


def _random(seed: str) -> Random:
    return Random(seed)
