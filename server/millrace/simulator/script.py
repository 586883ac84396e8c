"""What is answered to a question, and at what pace."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from millrace.simulator import answers, prose
from millrace.simulator.documents import write_arguments, write_document, write_wrong_document
from millrace.simulator.faults import Fault
from millrace.simulator.hard_questions import REFUSED, UNKNOWN, UNSURE
from millrace.simulator.profiles import Profile
from millrace.simulator.question import Question
from millrace.simulator.shapes import Delta, call_opening, call_piece


@dataclass(frozen=True, slots=True)
class Pace:
    """When each token is due, counted from the start so that delays never add up."""

    ttft_s: float
    tokens_per_s: float
    jitter: float
    seed: str

    def offsets(self) -> Iterator[float]:
        """Seconds from the start of the call to each token."""
        yield self.ttft_s
        noise = _random(self.seed)
        for index in count(1):
            yield self.after(index + self.jitter * noise.random())

    def after(self, tokens: float) -> float:
        """Seconds from the start to the moment when so many tokens have been sent."""
        return self.ttft_s + (tokens / self.tokens_per_s if self.tokens_per_s else 0)


@dataclass(frozen=True, slots=True)
class Script:
    """One answer before it is sent, a delta for each token."""

    deltas: tuple[Delta, ...]
    finish_reason: str
    pace: Pace
    fault: Fault | None

    @property
    def reasoning(self) -> int:
        """How many of its tokens are reasoning."""
        return sum("reasoning_content" in delta for delta in self.deltas)

    @property
    def spoken(self) -> tuple[Delta, ...]:
        """The deltas before the fault, if there is one in mid-stream: a short answer breaks off at its end."""
        return self.deltas[: self.fault.after] if self.fault else self.deltas


def compose(profile: Profile, question: Question, seed: int) -> Script:
    """Decide everything about an answer; the same for the same conversation, profile and seed."""
    key = f"{seed}\0{profile.name}\0{question.conversation}"
    deltas = tuple(_deltas(profile, question, key))
    heard = deltas[: question.limit]
    whole = "tool_calls" if question.functions else "stop"
    return Script(
        deltas=heard,
        finish_reason="length" if len(heard) < len(deltas) else whole,
        pace=_pace(profile, question, key),
        fault=question.directives.fault,
    )


def _deltas(profile: Profile, question: Question, key: str) -> Iterator[Delta]:
    """Reasoning, then text or a refusal, then tool calls; before these there is text only where it is asked for."""
    asked = question.directives
    for thought in prose.tokens(_random(f"reason\0{key}"), asked.reason):
        yield {"reasoning_content": thought}
    kind = "refusal" if asked.refuse else "content"
    if not question.functions or asked.tokens is not None:
        for token in _tokens(profile, question, _random(key)):
            yield {kind: token}
    weak = asked.weak and profile.strength == "weak"
    for index, function in enumerate(question.functions):
        yield call_opening(index, f"call_{_random(f'call{index}{key}').getrandbits(96):024x}", function.name)
        for piece in prose.split(write_arguments(function, weak=weak)):
            yield call_piece(index, piece)


def _tokens(profile: Profile, question: Question, rng: Random) -> Iterator[str]:
    wanted = question.directives.tokens
    return prose.split(_text(profile, question, rng)) if wanted is None else prose.tokens(rng, wanted)


def _text(profile: Profile, question: Question, rng: Random) -> str:
    if question.directives.refuse:
        return REFUSED
    weak = question.directives.weak and profile.strength == "weak"
    form = question.body.response_format
    if form is None or form.type == "text":
        return rng.choice((UNSURE, UNKNOWN, REFUSED)) if weak else _prose(profile, question, rng)
    return write_wrong_document(form) if weak else write_document(form, _prose(profile, question, rng))


def _prose(profile: Profile, question: Question, rng: Random) -> str:
    if question.results:
        return f"Simulated: the tool said {', and '.join(question.results)}"
    known = answers.find(question.prompt, profile.strength)
    return (prose.passage(rng) if known is None else known) + _acknowledged(question)


def _acknowledged(question: Question) -> str:
    """Say what came with the question; nobody has looked at it."""
    media = [f"{count} {kind}{'s' * (count > 1)}" for kind, count in question.media.items()]
    return f" With it came {', '.join(media)}." if media else ""


def _pace(profile: Profile, question: Question, key: str) -> Pace:
    """The profile's pace with jitter; what the caller asks for is exact."""
    asked = question.directives
    seed = f"pace\0{key}"
    natural_ttft = profile.ttft_s * (1 + profile.jitter * _random(seed).uniform(-1, 1))
    return Pace(
        ttft_s=natural_ttft if asked.ttft is None else asked.ttft,
        tokens_per_s=profile.tokens_per_s if asked.rate is None else asked.rate,
        jitter=profile.jitter if asked.rate is None else 0,
        seed=seed,
    )


def _random(seed: str) -> Random:
    return Random(seed)
