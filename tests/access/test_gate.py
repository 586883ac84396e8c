"""The gate and its tickets, without a socket: who is let in, in which order it refuses, what a ticket is good for."""

from typing import Any

import pytest

from millrace.access import keys, tickets
from millrace.access.gate import TICKET, Gate, RequestHead
from millrace.access.keys import ANONYMOUS, Keyring
from millrace.access.origins import Origins
from millrace.access.tickets import Tickets
from millrace.errors import MillraceError
from millrace.principal import Key, Limits, Role
from millrace.wire import limits
from tests.support.origins import LOOKALIKES

APP = "https://app.example"
KEY, TEXT = keys.make(tenant="acme", role=Role.USE, limits=Limits(connections=2), created_at=1.0)
OWNER = KEY.principal
BEARER = f"Bearer {TEXT}"


class ManualClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def gate_of(*stored: Key, origins: tuple[str, ...] = (APP,), clock: ManualClock | None = None, most: int = 100) -> Gate:
    keyring = Keyring(may_be_open=True)
    keyring.replace(stored)
    return Gate(keyring, Tickets(clock or ManualClock(), keyring.principal), Origins(origins), max_connections=most)


def head(**fields: Any) -> RequestHead:
    asked: dict[str, Any] = {"upgrade": True, "hosts": ("127.0.0.1:8000",)}
    return RequestHead(**asked | fields)


def refusal_of(gate: Gate, asked: RequestHead) -> str:
    with pytest.raises(MillraceError) as refused:
        gate.admit(asked)
    assert TEXT not in refused.value.message
    return refused.value.code


@pytest.mark.parametrize("upgrade", [True, False])
@pytest.mark.parametrize("origin", LOOKALIKES)
def test_no_page_off_the_list_comes_in(origin: str, *, upgrade: bool) -> None:
    """With a good key, with a good ticket, and while auth is off."""
    gate = gate_of(KEY)
    ticket = TICKET + gate.ticket(OWNER, APP)
    asked = head(origins=(origin,), upgrade=upgrade)
    assert refusal_of(gate, head(origins=(origin,), upgrade=upgrade, authorizations=(BEARER,))) == "forbidden"
    assert refusal_of(gate, head(origins=(origin,), upgrade=upgrade, subprotocols=(ticket,))) == "forbidden"
    assert refusal_of(gate_of(), asked) == "forbidden"


@pytest.mark.parametrize("origin", [APP, "https://APP.example", "https://app.example:443"])
def test_a_page_on_the_list_needs_a_credential_too(origin: str) -> None:
    """The Origin is no credential: anyone but a browser can write it."""
    gate = gate_of(KEY)
    assert refusal_of(gate, head(origins=(origin,))) == "unauthorized"
    assert gate.admit(head(origins=(origin,), authorizations=(BEARER,))) == OWNER
    ticket = TICKET + gate.ticket(OWNER, APP)
    assert gate.admit(head(origins=(origin,), subprotocols=("millrace.v1", ticket))) == OWNER


def test_pages_of_this_machine_are_let_in_only_while_auth_is_off() -> None:
    """With keys they are pages like any other: listed, or not."""
    page = ("http://localhost:3000",)
    assert gate_of().admit(head(origins=page)) == ANONYMOUS
    assert refusal_of(gate_of(KEY), head(origins=page, authorizations=(BEARER,))) == "forbidden"
    assert gate_of(KEY, origins=page).admit(head(origins=page, authorizations=(BEARER,))) == OWNER


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", "a@localhost"]
)
def test_a_foreign_name_for_this_machine_is_refused_while_auth_is_off(host: str) -> None:
    """Also from a page on the list, and where the header is missing or there twice."""
    for hosts in ((host,), (), ("127.0.0.1", host)):
        assert refusal_of(gate_of(), head(hosts=hosts)) == "forbidden"
        assert refusal_of(gate_of(), head(hosts=hosts, origins=(APP,))) == "forbidden"
    assert gate_of(KEY).admit(head(hosts=(host,), authorizations=(BEARER,))) == OWNER


@pytest.mark.parametrize(
    "authorizations",
    [(), ("",), ("Bearer",), ("Basic " + TEXT,), (TEXT,), (BEARER, BEARER), (BEARER + "0",), ("Bearer mr_x_y",)],
)
def test_without_one_good_key_nobody_comes_in(authorizations: tuple[str, ...]) -> None:
    """Two headers are one too many: whoever stands between may have read the other."""
    assert refusal_of(gate_of(KEY), head(authorizations=authorizations)) == "unauthorized"


def test_while_auth_is_off_any_authorization_is_ignored() -> None:
    """SDKs insist on sending one."""
    assert gate_of().admit(head(authorizations=("Bearer any",))) == ANONYMOUS


def test_the_order_of_refusals() -> None:
    """Draining, full, Origin, credential; and only connections are refused by a process that stops or is full."""
    gate = gate_of(KEY, most=1)
    foreign = head(origins=("https://evil.example",))
    ticket = TICKET + gate.ticket(OWNER, APP)
    gate.connect(OWNER)
    gate.draining = True
    assert refusal_of(gate, foreign) == "server_draining"
    gate.draining = False
    assert refusal_of(gate, foreign) == "overloaded"
    assert refusal_of(gate, head(origins=(APP,), subprotocols=(ticket,))) == "overloaded"
    assert gate.admit(head(upgrade=False, authorizations=(BEARER,))) == OWNER
    gate.disconnect(OWNER)
    assert refusal_of(gate, foreign) == "forbidden"
    assert gate.admit(head(origins=(APP,), subprotocols=(ticket,))) == OWNER  # a full server did not use it up


def test_connections_are_counted_by_key() -> None:
    """One more than it may have is refused; one that ends makes room."""
    gate = gate_of(KEY)
    gate.connect(OWNER)
    gate.connect(OWNER)
    with pytest.raises(MillraceError) as refused:
        gate.connect(OWNER)
    assert (refused.value.code, refused.value.retry_after_ms) == ("rate_limit_exceeded", 1000)
    assert gate.connections == 2
    gate.disconnect(OWNER)
    gate.connect(OWNER)
    assert gate.connections == 2
    gate.disconnect(OWNER)
    gate.disconnect(OWNER)
    assert gate.connections == 0


def test_a_ticket_is_good_once() -> None:
    """1,000 of 1,000 second uses are refused."""
    gate = gate_of(KEY)
    for _ in range(1000):
        asked = head(origins=(APP,), subprotocols=("millrace.v1", TICKET + gate.ticket(OWNER, APP)))
        assert gate.admit(asked) == OWNER
        assert refusal_of(gate, asked) == "unauthorized"
    assert len(gate.tickets) == 0


def test_a_ticket_is_good_for_a_minute() -> None:
    """At its last moment it is, a moment later it is not: 1,000 of 1,000."""
    clock = ManualClock()
    gate = gate_of(KEY, clock=clock)
    early = [gate.ticket(OWNER, APP) for _ in range(1000)]
    clock.now += limits.TICKET_S - 0.001
    assert gate.tickets.redeem(early.pop(), APP) == OWNER
    clock.now += 0.001
    early.append(gate.ticket(OWNER, APP))
    clock.now += limits.TICKET_S
    assert {refusal_of(gate, head(origins=(APP,), subprotocols=(TICKET + late,))) for late in early} == {"unauthorized"}


def test_a_ticket_is_good_for_one_origin_and_used_up_by_another() -> None:
    """From another page of the list, from none, over HTTP: refused, 1,000 of 1,000, and then for its own page too."""
    other = "https://other.example"
    gate = gate_of(KEY, origins=(APP, other))
    for number in range(1000):
        ticket = TICKET + gate.ticket(OWNER, APP)
        elsewhere = (other,) if number % 2 else ()
        assert refusal_of(gate, head(origins=elsewhere, subprotocols=(ticket,))) == "unauthorized"
        assert refusal_of(gate, head(origins=(APP,), subprotocols=(ticket,))) == "unauthorized"
    ticket = TICKET + gate.ticket(OWNER, APP)
    assert refusal_of(gate, head(origins=(APP,), subprotocols=(ticket,), upgrade=False)) == "unauthorized"


def test_a_ticket_ends_with_its_key() -> None:
    """Revoked, or made while auth was off."""
    gate = gate_of()
    anonymous = TICKET + gate.ticket(ANONYMOUS, APP)
    gate.keyring.replace([KEY])
    owned = TICKET + gate.ticket(OWNER, APP)
    gate.keyring.replace([])
    for ticket in (anonymous, owned):
        assert refusal_of(gate, head(origins=(APP,), subprotocols=(ticket,))) == "unauthorized"


def test_two_tickets_or_an_invented_one_are_refused() -> None:
    """Also while auth is off: whoever sends a ticket means it."""
    for gate in (gate_of(KEY), gate_of()):
        made = [TICKET + gate.ticket(OWNER, APP) for _ in range(2)]
        for subprotocols in (made, [TICKET], [TICKET + "x"]):
            assert refusal_of(gate, head(origins=(APP,), subprotocols=tuple(subprotocols))) == "unauthorized"


def test_tickets_are_bounded_and_kept_as_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By key and in all; those that are too old make room."""
    monkeypatch.setattr(tickets, "PER_KEY", 3)
    monkeypatch.setattr(tickets, "CAPACITY", 5)
    clock = ManualClock()
    out = Tickets(clock, lambda _: OWNER)
    made = [out.issue(OWNER, APP) for _ in range(3)]
    assert not any(ticket in repr(vars(out)) for ticket in made)
    with pytest.raises(MillraceError, match="this key has too many unused tickets"):
        out.issue(OWNER, APP)
    for _ in range(2):
        out.issue(ANONYMOUS, APP)
    with pytest.raises(MillraceError, match="too many unused tickets; try"):
        out.issue(ANONYMOUS, APP)
    clock.now += limits.TICKET_S
    assert out.redeem(out.issue(OWNER, APP), APP) == OWNER
    assert len(out) == 0


def test_no_ticket_for_a_page_that_could_not_use_it() -> None:
    """Refused when it is asked for, not when it is used."""
    for origin in LOOKALIKES:
        with pytest.raises(MillraceError) as refused:
            gate_of(KEY).ticket(OWNER, origin)
        assert refused.value.code == "forbidden"


def test_a_key_may_come_under_the_name_that_anthropics_clients_give_it() -> None:
    """Only where there is no `Authorization`, and once."""
    gate = gate_of(KEY)
    assert gate.admit(head(api_keys=(TEXT,))) == OWNER
    assert gate.admit(head(api_keys=("mr_no",), authorizations=(BEARER,))) == OWNER
    for asked in (
        {"api_keys": ("mr_no",)},
        {"api_keys": (TEXT, TEXT)},
        {"api_keys": (TEXT,), "authorizations": ("x",)},
    ):
        assert refusal_of(gate, head(**asked)) == "unauthorized"
