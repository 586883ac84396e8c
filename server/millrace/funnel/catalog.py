"""The names a client may ask for, and what each stands for."""

from collections.abc import Mapping

from millrace.errors import MillraceError
from millrace.types import Model, Strategy, Tier


class Catalog:
    """The two configured models, their names and aliases."""

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
        """Every name but the aliases, as `/v1/models` lists them."""
        return list(self._strategies)

    def input_limit(self, strategy: Strategy) -> int:
        """Return the tokens a prompt may have, beside an answer, with every model that the strategy may ask.

        `auto` asks the large one alone where the small one has no room.
        """
        if strategy is Strategy.SMALL:
            asked = [self.small]
        elif strategy in (Strategy.LARGE, Strategy.AUTO):
            asked = [self.large]
        else:
            asked = [self.small, self.large]
        return min(max(model.context_window - model.max_output_tokens, 1) for model in asked)

    def resolve(self, name: str, asked: Strategy | None) -> tuple[str, Strategy]:
        """Return the name behind an alias, and the strategy: the asked one, else the name's, else the default."""
        name = self._aliases.get(name, name)
        if name not in self._strategies:
            known = ", ".join([*self._strategies, *self._aliases])
            raise MillraceError(
                "model_not_found", f"model: {name[:80]!r} is not known; write one of {known}", param="model"
            )
        return name, asked or self._strategies[name]
