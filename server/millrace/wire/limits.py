"""Every number of PROTOCOL.md, in the order of the page; a test holds the two against each other.

Modules read them as `limits.NAME` when they need them, so that a test can lower one for the whole process. Defaults of
settings are read once.
"""

from enum import IntEnum

from millrace import memory, ports
from millrace.types import request

REVOKED_S = 2.0  # until a new or a revoked key takes effect everywhere, at most
TICKET_S = 60.0  # how long a ticket is good

MAX_MESSAGE_BYTES = 20 * 2**20  # of a frame, or of the body of a POST; a setting
MAX_VALUES = 250_000  # JSON values of a frame or a body
STREAM_ID_CHARACTERS = 256
MAX_RUNNING = 16  # requests of a connection
MAX_QUEUED = 64  # requests of a connection
QUEUED_BYTES = 4 * 2**20  # of the queued requests of a connection; one alone may have more
MAX_LANES = 32  # named lanes of a connection that are busy
SHORT_BYTES = memory.SHORT  # that a request holds; a longer one leaves as much again of its tenant's share
LEAST_RATE = 64 * 1024  # bytes a second at which a message must come, once it is older than `STUCK_S`
HEARTBEAT_S = 20.0  # from one ping to the next, and until a missing pong means a dead peer
MAX_AGE_S = 55 * 60  # of a connection; a setting

# A response is not read on from its model once both are full.
SOCKET_BYTES = 64 * 1024  # written and not yet taken by the peer
WAITING_BYTES = 64 * 1024  # not yet written, as it is held in memory
MAX_FRAMES = 1000  # in one write
MERGE_TOKENS = request.MERGE_TOKENS  # of a merge window; a model that passes its cap by more is cut
STUCK_S = 30  # without a byte taken, after which a reader is given up; a setting

MAX_REFUSED = 1000  # refused frames within
REFUSED_WITHIN_S = 10.0
SCHEMA_TURN_S = ports.SCHEMA_TURN_S  # that a schema waits for its turn, at most
MAX_TOOLS = 128  # of a request, and of a namespace
MOST_TOOLS = 1024  # of a request, with all that its namespaces have
PING_BYTES = 1024  # of what a `millrace.ping` gets back

KEPT_S = 600.0  # how long a response can be resumed, continued and repeated by key after its end
DETACHED_S = 60.0  # how long a detached response runs while nobody listens
REPLAY_BYTES = 2**20  # of the longest response that can be sent again; `resume.bytes` of the hello
USAGE_EVERY_S = 1.0  # from one `millrace.usage` to the next, at least

SILENT_S = 15.0  # without an event, after which a server-sent stream gets a comment
LINGER_S = 1.0  # how long a connection stays open at least during a drain
SPREAD_S = 4.0  # over which connections close during a drain, at most

BATCH_BYTES = 200 * 10**6  # of a file
BATCH_LINES = 50_000  # of a file
BATCHES_WAITING = 64  # of a tenant, that are not done

RELEASED_S = 0.25  # from a cancel or a disconnect until the upstream's socket is closed; tests check it


class CloseCode(IntEnum):
    """Why a WebSocket is closed (RFC 6455, 7.4; 1012 and 1013 from IANA's registry)."""

    DONE = 1000
    NOT_TEXT = 1003
    NOT_UTF8 = 1007
    POLICY = 1008  # abuse, or a key that is no longer valid
    TOO_BIG = 1009
    FAULT = 1011
    RESTART = 1012
    SLOW_CONSUMER = 1013
