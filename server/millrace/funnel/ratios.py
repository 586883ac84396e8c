"""How many tokens providers report for each that is counted here: the correction of counts that are estimates.

Most providers do not publish how they count. What they report of whole prompts says it in time. Only prompts teach that
were read anew and in which nothing is that cannot be counted here: no media, no sealed blocks, no tools of a provider.
"""

import math
from collections.abc import Iterable

from msgspec import Struct

from millrace.types import Call, Media, Model, Prompt, Usage

AS_SEEN = 4_000  # tokens that what is assumed of a model counts like
LEAST = 64  # tokens of a prompt that teaches; in a shorter one what is added to each request is too large a part
MOST = 20_000  # that one prompt counts like
MEMORY = 1_000_000  # from which on half is forgotten: providers change how they count
LOWEST, HIGHEST = 0.5, 3.0  # a report beyond these is a mistake
STEP = 0.005  # by which a ratio differs before it is used: what depends on it is not reckoned anew each time
MODELS = 1_000  # that are remembered
MESSAGES = 50  # of a prompt that teaches; a longer one is hardly ever read anew, and takes time to look through

ModelKey = tuple[str, str]  # its address and its name there


class Seen(Struct):
    """What was counted of a model's prompts, and what its provider has reported of the same."""

    counted: float = 0.0
    reported: float = 0.0


class Ratio(Struct, frozen=True, kw_only=True):
    """How a model's tokens are counted, and how that compares with what its provider has reported."""

    model: Model
    in_use: float  # tokens for one that is counted
    reported: float | None  # the same, as reported so far; None: nothing was


class Ratios:
    """The correction of each model. Reading one takes less than a microsecond."""

    def __init__(self) -> None:
        self.is_changed = False  # since it was last kept
        self.version = 0  # of what is in use
        self._seen: dict[ModelKey, Seen] = {}
        self._in_use: dict[ModelKey, float] = {}

    def of(self, model: Model) -> float:
        """Return how many tokens of the model there are for one that is counted; exactly 1 in its own encoding."""
        encoding = model.encoding
        if encoding.is_own:
            return 1.0
        key = (model.address, model.id)
        if (ratio := self._in_use.get(key)) is None:
            ratio = self._in_use[key] = self._known(key, encoding.factor)
        return ratio

    def _known(self, key: ModelKey, factor: float) -> float:
        seen = self._seen.get(key)
        if seen is None:
            return factor
        return min(max((seen.reported + AS_SEEN * factor) / (seen.counted + AS_SEEN), LOWEST), HIGHEST)

    def shown(self, model: Model) -> Ratio:
        """Return what is known of a model."""
        seen = self._seen.get((model.address, model.id))
        reported = seen.reported / seen.counted if seen is not None and seen.counted else None
        return Ratio(model=model, in_use=self.of(model), reported=reported)

    def learn(self, call: Call, usage: Usage | None) -> None:
        """Learn from what a provider has reported of a call at its end, if it has."""
        counted = call.counted.tokens
        if usage is None or counted < LEAST:
            return
        reported = usage.input_tokens
        if usage.estimated or usage.cached_input_tokens or usage.cache_write_tokens:
            return
        if not LOWEST * counted <= reported <= HIGHEST * counted or not _is_countable(call.prompt):
            return
        key = (call.model.address, call.model.id)
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= MODELS:
                return
            seen = self._seen[key] = Seen()
        weight = min(counted, MOST)
        seen.counted += weight
        seen.reported += reported / counted * weight
        if seen.counted > MEMORY:
            seen.counted, seen.reported = seen.counted / 2, seen.reported / 2
        self.is_changed = True
        ratio = self._known(key, call.model.encoding.factor)
        if not call.model.encoding.is_own and abs(ratio - self._in_use.get(key, 0)) > STEP:
            self._in_use[key] = ratio
            self.version += 1

    def rows(self) -> list[tuple[str, str, float, float]]:
        """Return all that is known, to be kept."""
        self.is_changed = False
        return [(*key, seen.counted, seen.reported) for key, seen in self._seen.items()]

    def begin(self, rows: Iterable[tuple[str, str, float, float]]) -> None:
        """Go on with what was kept. A row that cannot be right is left out."""
        for address, name, counted, reported in rows:
            is_right = 0 < counted <= MEMORY and LOWEST * counted <= reported <= HIGHEST * counted
            if is_right and math.isfinite(reported) and len(self._seen) < MODELS:
                self._seen[address, name] = Seen(counted, reported)
        self._in_use.clear()
        self.version += 1


def _is_countable(prompt: Prompt) -> bool:
    """Whether all of a prompt is counted that a provider counts."""
    if len(prompt.messages) > MESSAGES or any(tool.hosted is not None for tool in prompt.tools):
        return False
    for message in prompt.messages:
        if message.sealed or message.reasoning or any(isinstance(part, Media) for part in message.parts):
            return False
    return True
