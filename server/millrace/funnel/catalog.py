"""The model names that clients may use, and the strategy that each selects."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from msgspec import Struct

from millrace.errors import MillraceError
from millrace.funnel.ratios import Ratios
from millrace.types import Counted, Encoding, Model, Request, Strategy, Tier

ROOM = 1024  # tokens that a prompt leaves for the answer of a model without a cap
ANY = "*"  # the alias of every name that is not known


NO_CHAINS: Mapping[Tier, Sequence[Model]] = MappingProxyType({})


class Ruler(Struct, frozen=True, kw_only=True):
    """An encoding in which a prompt is counted, and how much of it the models take that count so."""

    encoding: str = Encoding().name
    limit: float = math.inf  # tokens of the encoding
    takes: Callable[[], str] = str  # who takes how much, in words


class Catalog:
    """The two configured models, those that stand in for them, their names and their aliases."""

    def __init__(
        self,
        small: Model,
        large: Model,
        aliases: Mapping[str, str],
        default: Strategy,
        *,
        embeddings: str = "",
        chains: Mapping[Tier, Sequence[Model]] = NO_CHAINS,
        ratios: Ratios | None = None,
    ) -> None:
        """`chains` are the models that stand in for one, in the order in which they are asked.

        `ratios` corrects counts of tokens; without it they are corrected from what comes from now on.
        """
        self.ratios = ratios or Ratios()
        self.small = small
        self.large = large
        self._chains = chains
        stand_ins = [model for tier in Tier for model in self.chain(tier) if model.stands_in]
        self.identities = (small, large, *stand_ins)  # all models whose answers a request may get
        self._version = -1  # of the ratios that the next two were reckoned with
        self._counting: list[tuple[str, str, float]] = []  # name, encoding and ratio of each model
        self._rulers: dict[Strategy, list[Ruler]] = {}
        self._embeddings = embeddings  # the name of the model for embeddings, if there is one
        self._aliases = aliases
        self._strategies = {
            "auto": default,
            Tier.SMALL.value: Strategy.SMALL,
            Tier.LARGE.value: Strategy.LARGE,
            small.id: Strategy.SMALL,
            large.id: Strategy.LARGE if large.id != small.id else default,  # one name for both leaves the choice
        }

    @property
    def models(self) -> tuple[Model, Model]:
        """Small, then large."""
        return self.small, self.large

    def chain(self, tier: Tier) -> Sequence[Model]:
        """Return the models that are asked where the one of a tier cannot answer, in order."""
        return self._chains.get(tier, ())

    @property
    def names(self) -> list[str]:
        """All names, as `/v1/models` lists them: the models', then the aliases."""
        embeddings = [self._embeddings] if self._embeddings else []
        return [*self._strategies, *embeddings, *(alias for alias in self._aliases if alias != ANY)]

    def bound_by(self, strategy: Strategy) -> tuple[Model, ...]:
        """Return the models that a prompt must fit: those that the strategy calls in any case, the large one first.

        Under `auto` a prompt that is too long for the small model goes to the large one alone.
        """
        if strategy is Strategy.SMALL:
            return (self.small,)
        return (self.large,) if strategy in (Strategy.LARGE, Strategy.AUTO) else (self.large, self.small)

    def rulers(self, strategy: Strategy) -> Sequence[Ruler]:
        """Return the encodings of all models, with what those take that must take a prompt. The first is theirs."""
        self._refresh()
        if (rulers := self._rulers.get(strategy)) is not None:
            return rulers
        bound, rulers = self.bound_by(strategy), []
        for encoding in dict.fromkeys(model.encoding.name for model in (*bound, *self.identities)):
            models = [model for model in bound if model.encoding.name == encoding]
            limit = min((input_limit_of(model) / self.ratios.of(model) for model in models), default=math.inf)
            rulers.append(Ruler(encoding=encoding, limit=limit, takes=partial(self.takes, bound)))
        self._rulers[strategy] = rulers
        return rulers

    def counts(self, counted: Mapping[str, int]) -> dict[str, Counted]:
        """Return what was counted of a prompt, in the encoding of each model and with its ratio, by their names."""
        self._refresh()
        return {name: Counted(counted[encoding], ratio) for name, encoding, ratio in self._counting}

    def _refresh(self) -> None:
        """Reckon anew with the ratios that are in use now."""
        if self._version != self.ratios.version:
            self._version = self.ratios.version
            self._counting = [(one.name, one.encoding.name, self.ratios.of(one)) for one in self.identities]
            self._rulers.clear()

    def takes(self, models: Sequence[Model]) -> str:
        """Return in words how many tokens of a prompt models take, each as it counts and as they are counted here."""
        return " and ".join(self._takes(model) for model in models)

    def _takes(self, model: Model) -> str:
        ratio, limit = self.ratios.of(model), input_limit_of(model)
        about = f" of its own, which are about {int(limit / ratio)} of these" if ratio != 1 else ""
        return f"{model.id} takes {limit}{about}"

    def fits_small(self, request: Request, share: float = 1.0) -> bool:
        """Whether a trimmed request, with an answer, fits the small model, or a share of what it takes."""
        return request.counted_for(self.small).input_tokens <= share * input_limit_of(self.small)

    def resolve(self, name: str, requested: Strategy | None) -> tuple[str, Strategy]:
        """Return the name without aliases, and the strategy: the requested one, else that of the name.

        A name that is neither a model's nor an alias is what the alias `*` stands for. Without that alias it raises
        `model_not_found`.
        """
        if name not in self._strategies and (not name or name != self._embeddings):
            name = self._aliases.get(name) or self._aliases.get(ANY, name)
        if name and name == self._embeddings:
            message = f"model: {name[:80]!r} makes embeddings; ask for them at /v1/embeddings, or name another model"
            raise MillraceError("model_not_found", message, param="model")
        if name not in self._strategies:
            raise self.not_found(name)
        return name, requested or self._strategies[name]

    def check_known(self, name: str) -> None:
        """Raise `model_not_found` for a name that no model has, as `resolve` returns them."""
        if name not in self._strategies:
            raise self.not_found(name)

    def embeddings_model(self, name: str) -> str:
        """Return the name of the model for embeddings that a request means. Raises `model_not_found`.

        `*` does not count here: vectors of different models cannot be compared.
        """
        if self._embeddings not in (name, self._aliases.get(name)):
            message = f"model: {name[:80]!r} makes no embeddings; write {self._embeddings}"
            raise MillraceError("model_not_found", message, param="model")
        return self._embeddings

    def not_found(self, name: str) -> MillraceError:
        """Return the error for a name that is no model's and no alias."""
        names = ", ".join(self.names)
        message = f"model: {name[:80]!r} is not known; write one of {names}"
        return MillraceError("model_not_found", message, param="model")


def input_limit_of(model: Model) -> int:
    """Return the most tokens of a prompt that leave room for an answer."""
    room = min(ROOM, model.context_window // 2) if model.max_output_tokens is None else model.max_output_tokens
    return max(model.context_window - room, 1)
