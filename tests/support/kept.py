"""A data_dir with something in all tables that replicas share in PostgreSQL."""

from millrace.access.keys import make
from millrace.principal import Role
from millrace.stores.archive import SqliteArchive
from millrace.stores.database import SqliteDatabase
from millrace.stores.evidence import SqliteEvidence
from millrace.stores.keys import StoredKeys
from millrace.stores.ledger import SqliteLedger
from millrace.stores.router import SqliteRouter
from millrace.types import Change, Feedback, Message, Rating, Steering, StoredResponse
from tests.support import many_rows
from tests.support.judged import judged


def response(number: int) -> StoredResponse:
    """Return a small response."""
    said = (Message(role="user", parts=("Hi",)),)
    return StoredResponse(id=f"resp_{number}", tenant="acme", conversation=said, body=b"x" * number)


async def filled(database: SqliteDatabase, now: float, *, rows: int, responses: int) -> None:
    """Fill a data_dir: the ledger, and some of all else. One row is open, of a process that is dead."""
    ledger = SqliteLedger(database, "dead")
    archive = SqliteArchive(database, ttl_s=1e9, disk_bytes=10**9, wall=lambda: now)
    keys, router = StoredKeys(database), SqliteRouter(database, wall=lambda: now)
    evidence = SqliteEvidence(database, keep_days=1000, wall=lambda: now)
    for number, entry in enumerate(many_rows.rows(rows, seed=7, since=now - 3 * 86_400, until=now)):
        (ledger.settled if number else ledger.opened)(entry)
    await database.commit(
        lambda c: c.execute("UPDATE entries SET status = 'open' WHERE rowid = (SELECT min(rowid) FROM entries)"),
        within_s=60,
    )
    for number in range(responses):
        archive.store(response(number))
    for tenant in ("acme", "other"):
        await keys.add(make(tenant=tenant, role=Role.USE, created_at=now)[0])
        first = await router.save(tenant, b"one", 1, None)
        await router.save(tenant, b"two", 2, first, anew=True)
    await router.freeze("other", frozen=True)
    await router.save_promises(b"kept")
    changes = [Change(at=now + at, tenant="acme", scope=bytes([at]), steering=Steering(), reason="r") for at in (1, 2)]
    await evidence.add([judged("a", taken_at=now), judged("b", "same different", taken_at=now)], changes)
    given = Feedback(tenant="acme", response_id="resp_1", key_id="", rating=Rating.UP, has_better=True, at=now)
    await evidence.add_feedback(given)
    await database.ready()
