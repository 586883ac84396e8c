"""The model names that clients may use, and the strategy that each selects."""

from collections.abc import Mapping

from millrace.errors import MillraceError
from millrace.types import Model, Strategy, Tier


class Catalog:
    """The two configured models, their names and their aliases."""

    def __init__(self, small: Model, large: Model, aliases: Mapping[str, str], default: Strategy) -> None:
        self.small = small
        self.large = large
        self._aliases = aliases
        self._strategies = {
            "auto": default,
            Tier.SMALL.value: Strategy.SMALL,
            Tier.LARGE.value: Strategy.LARGE,
            small.id: Strategy.SMALL,
            large.id: Strategy.LARGE,
        }

    @property
    def models(self) -> tuple[Model, Model]:
        """Small, then large."""
        return self.small, self.large

    @property
    def names(self) -> list[str]:
        """All names without the aliases, as `/v1/models` lists them."""
        return list(self._strategies)

    def input_limit(self, strategy: Strategy) -> int:
        """Return the most tokens of a prompt that, with an answer, fits every model that the strategy may call.

        Under `auto` a prompt that is too long for the small model goes to the large one alone.
        """
        if strategy is Strategy.SMALL:
            models = [self.small]
        elif strategy in (Strategy.LARGE, Strategy.AUTO):
            models = [self.large]
        else:
            models = [self.small, self.large]
        return min(max(model.context_window - model.max_output_tokens, 1) for model in models)

    def resolve(self, name: str, requested: Strategy | None) -> tuple[str, Strategy]:
        """Return the name without aliases, and the strategy: the requested one, else that of the name.

        Raises `model_not_found`.
        """
        name = self._aliases.get(name, name)
        if name not in self._strategies:
            names = ", ".join([*self._strategies, *self._aliases])
            raise MillraceError(
                "model_not_found", f"model: {name[:80]!r} is not known; write one of {names}", param="model"
            )
        return name, requested or self._strategies[name]
