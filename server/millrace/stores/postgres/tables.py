"""The statements that make the tables in PostgreSQL, step by step."""

from typing import NamedTuple

from millrace.levers import BY_CACHE, NO_MODEL
from millrace.types import EVIDENCE_TENANT


class Step(NamedTuple):
    """One step from an earlier form of the tables to a later one."""

    number: int  # in order, from 1
    name: str
    statements: tuple[str, ...]


_LEDGER = (
    # Of each data_dir that sends rows, how far it is: the number of the last row that has arrived, in its SQLite.
    """
    CREATE TABLE spools (
        id TEXT PRIMARY KEY,
        number BIGINT NOT NULL
    )
    """,
    # Rows get their number as they arrive, one sender after the other, so who follows the numbers misses none.
    "CREATE SEQUENCE entry_numbers AS BIGINT",
    """
    CREATE TABLE entries (
        rowid BIGINT NOT NULL,
        day INTEGER NOT NULL,              -- UTC days since 1970, of opened_at
        spool TEXT NOT NULL,               -- whose row it is
        request_id TEXT COLLATE "C" NOT NULL,
        tenant TEXT NOT NULL,
        opened_at DOUBLE PRECISION NOT NULL,
        status TEXT NOT NULL,
        source TEXT,
        cache TEXT NOT NULL,
        strategy TEXT NOT NULL,
        failed_check TEXT,
        code TEXT,
        input_tokens BIGINT NOT NULL,
        cached_input_tokens BIGINT NOT NULL,
        cache_write_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        reasoning_tokens BIGINT NOT NULL,
        estimated SMALLINT NOT NULL,
        cost_nanodollars BIGINT NOT NULL,
        saved_nanodollars BIGINT NOT NULL,
        ttft_ms DOUBLE PRECISION,
        latency_ms DOUBLE PRECISION NOT NULL,
        trimmed_tokens BIGINT NOT NULL,
        key_id TEXT NOT NULL,
        epoch TEXT NOT NULL,
        booked_nanodollars BIGINT NOT NULL,
        session TEXT NOT NULL,
        entry_id TEXT NOT NULL,
        stored_id TEXT NOT NULL,
        end_user TEXT NOT NULL,
        tag TEXT NOT NULL,
        batch TEXT NOT NULL,
        baseline TEXT NOT NULL,
        story TEXT NOT NULL,
        shape TEXT NOT NULL,
        calls TEXT NOT NULL,
        PRIMARY KEY (request_id, day)
    ) PARTITION BY RANGE (day)
    """,
    "CREATE INDEX entries_by_number ON entries (rowid)",
    "CREATE INDEX entries_by_time ON entries (opened_at)",
    "CREATE INDEX entries_of_answers ON entries (entry_id) WHERE entry_id != ''",
    "CREATE INDEX entries_of_batches ON entries (batch, opened_at) WHERE batch != ''",
)

# Whose answer a request got, as `levers.model_of` has it.
_MODEL_OF = f"""
CREATE FUNCTION model_of(calls TEXT, cache TEXT) RETURNS TEXT LANGUAGE SQL IMMUTABLE AS $$
    SELECT coalesce(
        (SELECT call ->> 'model' FROM json_array_elements(calls::json) WITH ORDINALITY AS each (call, number)
            WHERE call ->> 'outcome' = 'answered' ORDER BY number LIMIT 1),
        (SELECT call ->> 'model' FROM json_array_elements(calls::json) WITH ORDINALITY AS each (call, number)
            ORDER BY number DESC LIMIT 1),
        CASE cache WHEN 'miss' THEN '{NO_MODEL}' ELSE '{BY_CACHE}' END
    )
$$
"""  # noqa: S608 - names of our own

_ROLLUPS = (
    """
    CREATE TABLE rollups (
        grouping TEXT NOT NULL,
        span INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        at BIGINT NOT NULL,
        model TEXT NOT NULL,
        tag TEXT NOT NULL,
        requests BIGINT NOT NULL,
        errors BIGINT NOT NULL,
        cost_nanodollars BIGINT NOT NULL,
        baseline_nanodollars BIGINT NOT NULL,
        sums BYTEA NOT NULL,
        PRIMARY KEY (grouping, span, tenant, at, model, tag)
    )
    """,
    "CREATE INDEX rollups_by_age ON rollups (span, at)",
    """
    CREATE TABLE rolled_up (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        version INTEGER NOT NULL,
        number BIGINT NOT NULL
    )
    """,
)

_KEYS = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    digest BYTEA NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    revoked_at DOUBLE PRECISION,
    requests_per_minute BIGINT,
    tokens_per_minute BIGINT,
    in_flight BIGINT,
    dollars_per_day TEXT,
    connections BIGINT,
    evidence SMALLINT NOT NULL,
    rotations INTEGER NOT NULL,
    earlier_digest BYTEA,
    earlier_until DOUBLE PRECISION,
    dollars_per_month TEXT,
    max_output_tokens BIGINT
)
"""

_RESPONSES = (
    # One that was deleted stays for as long as it would have been kept, without its text and of no size, so that no
    # replica that has it still sends or serves it.
    """
    CREATE TABLE responses (
        tenant TEXT NOT NULL,
        id TEXT NOT NULL,
        stored_at DOUBLE PRECISION NOT NULL,
        size BIGINT NOT NULL,
        conversation BYTEA NOT NULL,
        body BYTEA NOT NULL,
        PRIMARY KEY (tenant, id)
    )
    """,
    "CREATE INDEX responses_stored ON responses (stored_at, size)",
    "CREATE INDEX responses_deleted ON responses (stored_at) WHERE size = 0",
)

_EVIDENCE = (
    """
    CREATE TABLE judged (
        rowid BIGINT GENERATED BY DEFAULT AS IDENTITY,
        id TEXT PRIMARY KEY,
        lever TEXT NOT NULL,
        tenant TEXT NOT NULL,
        scope BYTEA NOT NULL,
        request_id TEXT NOT NULL,
        taken_at DOUBLE PRECISION NOT NULL,
        probability DOUBLE PRECISION NOT NULL,
        entry_id TEXT NOT NULL,
        asked_id TEXT NOT NULL,
        log_odds DOUBLE PRECISION NOT NULL,
        features BYTEA NOT NULL,
        detail TEXT NOT NULL,
        opinions TEXT NOT NULL,
        prompt_features BYTEA NOT NULL
    )
    """,
    """
    CREATE TABLE steering_changes (
        id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
        at DOUBLE PRECISION NOT NULL,
        tenant TEXT NOT NULL,
        scope BYTEA NOT NULL,
        strictness DOUBLE PRECISION NOT NULL,
        is_off SMALLINT NOT NULL,
        reason TEXT NOT NULL,
        UNIQUE (tenant, scope, at)
    )
    """,
    """
    CREATE TABLE feedback (
        tenant TEXT NOT NULL,
        response_id TEXT NOT NULL,
        key_id TEXT NOT NULL,
        rating TEXT NOT NULL,
        has_better SMALLINT NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (tenant, response_id, key_id)
    )
    """,
    "CREATE INDEX judged_taken ON judged (taken_at)",
    "CREATE INDEX judged_by_lever ON judged (lever, taken_at)",
    "CREATE INDEX judged_of_tenants ON judged (tenant, lever, taken_at)",
    "CREATE INDEX steering_changes_at ON steering_changes (at)",
    "CREATE INDEX feedback_at ON feedback (at)",
)

_ROUTER = (
    """
    CREATE TABLE router_states (
        tenant TEXT NOT NULL,
        number BIGINT NOT NULL,
        revision BIGINT NOT NULL,
        began_at DOUBLE PRECISION NOT NULL,
        saved_at DOUBLE PRECISION NOT NULL,
        format INTEGER NOT NULL,
        labels BIGINT NOT NULL,
        note TEXT NOT NULL,
        sha256 BYTEA NOT NULL,
        state BYTEA NOT NULL,
        PRIMARY KEY (tenant, number)
    )
    """,
    "CREATE TABLE router_frozen (tenant TEXT PRIMARY KEY, at DOUBLE PRECISION NOT NULL)",
    """
    CREATE TABLE router_promises (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        saved_at DOUBLE PRECISION NOT NULL,
        sha256 BYTEA NOT NULL,
        state BYTEA NOT NULL
    )
    """,
)

# How far `millrace db copy` is with a table of a data_dir, while it is not done.
_COPIES = """
CREATE TABLE copies (
    spool TEXT NOT NULL,
    name TEXT NOT NULL,   -- of the table
    place BYTEA NOT NULL, -- MessagePack: the key of the last row that has arrived
    PRIMARY KEY (spool, name)
)
"""

# What accounts have spent, as SQLite keeps it (`stores/spending.py`), of each data_dir. The triggers come first: while
# they are made no row arrives, so none is counted twice.
_SPENT = (
    """
    CREATE TABLE spent (
        tenant TEXT NOT NULL,
        day INTEGER NOT NULL,
        spool TEXT NOT NULL,
        key_id TEXT NOT NULL,
        end_user TEXT NOT NULL,
        tag TEXT NOT NULL,
        nanodollars BIGINT NOT NULL,
        PRIMARY KEY (tenant, day, spool, key_id, end_user, tag)
    )
    """,
    "CREATE INDEX spent_of_users ON spent (tenant, end_user, day) WHERE end_user != ''",
    "CREATE INDEX spent_of_tags ON spent (tenant, tag, day) WHERE tag != ''",
    """
    CREATE FUNCTION add_spent() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO spent AS known
        SELECT tenant, day, spool, key_id, end_user, tag, sum(cost_nanodollars)
        FROM added GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(cost_nanodollars) != 0
        ON CONFLICT (tenant, day, spool, key_id, end_user, tag)
        DO UPDATE SET nanodollars = known.nanodollars + excluded.nanodollars;
        RETURN NULL;
    END
    $$
    """,
    # Of a row that arrives once more, the difference.
    """
    CREATE FUNCTION change_spent() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO spent AS known
        SELECT tenant, day, spool, key_id, end_user, tag, sum(nanodollars) FROM (
            SELECT tenant, day, spool, key_id, end_user, tag, cost_nanodollars AS nanodollars FROM added
            UNION ALL SELECT tenant, day, spool, key_id, end_user, tag, -cost_nanodollars FROM gone
        ) AS changed GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(nanodollars) != 0
        ON CONFLICT (tenant, day, spool, key_id, end_user, tag)
        DO UPDATE SET nanodollars = known.nanodollars + excluded.nanodollars;
        RETURN NULL;
    END
    $$
    """,
    "CREATE TRIGGER spent_by_added AFTER INSERT ON entries REFERENCING NEW TABLE AS added"
    " FOR EACH STATEMENT EXECUTE FUNCTION add_spent()",
    "CREATE TRIGGER spent_by_changed AFTER UPDATE ON entries REFERENCING OLD TABLE AS gone NEW TABLE AS added"
    " FOR EACH STATEMENT EXECUTE FUNCTION change_spent()",
    "INSERT INTO spent SELECT tenant, day, spool, key_id, end_user, tag, sum(cost_nanodollars)"
    " FROM entries GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(cost_nanodollars) != 0",
)
_OF_EVIDENCE = f"CREATE INDEX entries_of_evidence ON entries (opened_at) WHERE tenant = '{EVIDENCE_TENANT}'"

STEPS = (
    Step(1, "ledger", (*_LEDGER, _MODEL_OF)),
    Step(2, "rollups of the dashboard", _ROLLUPS),
    Step(3, "keys, responses, evidence and the router", (_KEYS, *_RESPONSES, *_EVIDENCE, *_ROUTER, _COPIES)),
    Step(4, "spending of accounts", (*_SPENT, _OF_EVIDENCE)),
)
