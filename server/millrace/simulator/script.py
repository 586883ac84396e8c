"""What is answered to a question, and at what pace."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from millrace.simulator import answers, prose
from millrace.simulator.documents import write_document, write_wrong_document
from millrace.simulator.faults import Fault
from millrace.simulator.hard_questions import REFUSED, UNKNOWN, UNSURE
from millrace.simulator.profiles import Profile
from millrace.simulator.question import Question


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
    """One answer before it is sent."""

    tokens: tuple[str, ...]
    finish_reason: str
    pace: Pace
    fault: Fault | None

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)

    @property
    def spoken(self) -> tuple[str, ...]:
        """The tokens before the fault, if there is one in mid-stream: a short answer breaks off at its end."""
        return self.tokens[: self.fault.after] if self.fault else self.tokens


def compose(profile: Profile, question: Question, seed: int) -> Script:
    """Decide everything about an answer; the same for the same conversation, profile and seed."""
    key = f"{seed}\0{profile.name}\0{question.conversation}"
    tokens = tuple(_tokens(profile, question, _random(key)))
    heard = tokens[: question.limit]
    return Script(
        tokens=heard,
        finish_reason="length" if len(heard) < len(tokens) else "stop",
        pace=_pace(profile, question, key),
        fault=question.directives.fault,
    )


def _tokens(profile: Profile, question: Question, rng: Random) -> Iterator[str]:
    wanted = question.directives.tokens
    return prose.split(_text(profile, question, rng)) if wanted is None else prose.tokens(rng, wanted)


def _text(profile: Profile, question: Question, rng: Random) -> str:
    weak = question.directives.weak and profile.strength == "weak"
    form = question.body.response_format
    if form is None or form.type == "text":
        return rng.choice((UNSURE, UNKNOWN, REFUSED)) if weak else _prose(profile, question, rng)
    return write_wrong_document(form) if weak else write_document(form, _prose(profile, question, rng))


def _prose(profile: Profile, question: Question, rng: Random) -> str:
    known = answers.find(question.prompt, profile.strength)
    return prose.passage(rng) if known is None else known


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
    return Random(seed)  # noqa: S311 -- it has to repeat itself
