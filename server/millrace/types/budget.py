"""Budgets: whose money a request spends, how much of it is gone, and what is done about it."""

from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct


class AccountKind(StrEnum):
    """Whose limits they are. Accounts of a request are checked in this order."""

    KEY = "key"
    TENANT = "tenant"
    USER = "user"  # an end user of a tenant, as the client names it
    TAG = "tag"  # what a cost is put down to, as the client names it


class AccountName(NamedTuple):
    """The name of an account. `name` is the key's id, the end user or the tag; of a tenant it is empty."""

    kind: AccountKind
    tenant: str
    name: str = ""

    @property
    def whose(self) -> str:
        """Whose it is, in a message to the client, which knows its own names."""
        return _WHOSE[self.kind]

    @property
    def label(self) -> str:
        """Whose it is, in a list for the operator."""
        return self.tenant if self.kind is AccountKind.TENANT else self.name


_WHOSE = {
    AccountKind.KEY: "this key",
    AccountKind.TENANT: "this tenant",
    AccountKind.USER: "this end user",
    AccountKind.TAG: "this tag",
}


class Period(StrEnum):
    """What a budget in dollars is for, of UTC."""

    DAY = "day"
    MONTH = "month"


class Step(StrEnum):
    """What is done as a budget runs out, the mildest first."""

    WARN = "warn"  # the client is told
    SMALL = "small"  # only the small model is asked
    CACHE = "cache"  # no model is asked


RANKS = {step: rank for rank, step in enumerate(Step, 1)}
Steps = tuple[tuple[Decimal, Step], ...]  # from which share of a budget on, ascending


def step_at(steps: Steps, spent: Decimal, limit: Decimal) -> Step | None:
    """Return the step that a budget has reached, if there is one."""
    reached = None
    for share, step in steps:
        if spent >= share * limit:
            reached = step
    return reached


class Budget(Struct, frozen=True, kw_only=True, gc=False):
    """How far a request's scarcest budget is spent, and so what is done with the request."""

    step: Step
    account: AccountName
    period: Period
    spent: Decimal  # dollars
    limit: Decimal  # dollars
    resets_at: float  # Unix seconds
    is_news: bool = False  # the key has not been told of this step of it yet

    @property
    def left(self) -> Decimal:
        """Dollars."""
        return max(Decimal(0), self.limit - self.spent)

    @property
    def said(self) -> str:
        """How far it is spent, in words."""
        share = int(100 * self.spent / self.limit) if self.limit else 100
        return f"{share}% of {self.account.whose}'s ${self.limit:f} a {self.period} is spent"


class Rest(Struct, frozen=True, gc=False):
    """What is left of a budget, if it is less than a request is likely to cost. The request may cost so much."""

    dollars: Decimal
    of: str  # which budget, in words


class Reached(Struct, frozen=True, kw_only=True, gc=False):
    """A step that an account has reached, for the operator. It is told once an account, period and step."""

    account: AccountName
    period: Period
    began_at: float  # of the period, Unix seconds
    resets_at: float
    step: Step
    spent: Decimal
    limit: Decimal


class Remaining(Struct, frozen=True, gc=False):
    """What is left of one limit, of the account that has the least of it."""

    limit: Decimal | int
    left: Decimal | int
    reset_s: float  # seconds until all of it is there again


class Left(Struct, frozen=True, kw_only=True, gc=False):
    """What is left of a request's limits. None: it has no such limit."""

    requests: Remaining | None = None  # of a minute
    tokens: Remaining | None = None  # of a minute
    dollars: Remaining | None = None
    step: Step | None = None


class Used(NamedTuple):
    """How far an account has come with one of its budgets."""

    account: AccountName
    period: Period
    ratio: float  # of it that is spent
    step: Step | None  # that is reached


class Spent(Struct, frozen=True, gc=False):
    """Dollars of the UTC day and month that an account has spent."""

    day: Decimal
    month: Decimal
