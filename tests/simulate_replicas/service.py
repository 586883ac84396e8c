"""Replicas with one Redis and one PostgreSQL, as discrete events in virtual time.

Each shared part serves one after the other: the thread of Redis, its network, who holds the lock under which rows of
the ledger arrive. So does the event loop of each replica. What is asked of them, and when, is what the code of
`stores/redis` and `stores/postgres` asks.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from millrace.caches.segment import STEP
from millrace.stores.postgres.shipper import EVERY_S, PAGE
from millrace.stores.redis.exact import AT_ONCE, LOOKUP_S
from millrace.stores.redis.replicas import BEAT_S
from tests.simulate_replicas.costs import Costs

TAIL_S = 0.25  # between two looks of a replica into the stream of semantic entries
WARM_S = 4.0  # before anything is counted
LATE_SHARE = 0.01  # of the lookups in Redis, from which on it is too slow
LAG_S = 2.0  # after which a row, or an entry, that has not arrived is late
BUSY = 0.95  # of the time, from which on a part does not keep up
MODEL_S = 1.0  # for a model to answer: the mean
CORE, COMMANDS, NETWORK, ROWS, TAILING = (
    "cores of the replicas",
    "commands of Redis",
    "network of Redis",
    "rows of the ledger",
    "stream of entries",
)


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a service."""

    replicas: int
    rate: float  # requests a second, over all replicas
    seconds: float = 4.0  # that are counted
    own_hits: float = 0.15  # the share of requests that the replica's own caches answer
    other_hits: float = 0.10  # that an answer of another replica answers
    entries: float = 0.0  # the share of answers that become a semantic entry, which all replicas read from a stream
    bandwidth: float = 125e6  # of Redis's network, bytes a second
    seed: int = 1


class Line:
    """A part that serves one after the other."""

    __slots__ = ("busy_s", "free_at", "until")

    def __init__(self, until: float) -> None:
        self.free_at = 0.0
        self.busy_s = 0.0  # of the time that counts: after WARM_S, before `until`
        self.until = until

    def served(self, now: float, takes_s: float) -> float:
        """Return when something is done that comes now."""
        begins = max(now, self.free_at)
        self.free_at = begins + takes_s
        self.busy_s += max(0.0, min(self.free_at, self.until) - max(begins, WARM_S))
        return self.free_at


@dataclass(slots=True)
class Replica:
    """What one replica waits for."""

    core: Line
    to_store: int = 0  # answers for Redis
    is_storing: bool = False
    rows: deque[float] = field(default_factory=deque)  # when requests ended whose rows have not arrived
    seen: int = 0  # entries of the stream


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen of a service. `busy` are shares of the time."""

    requests: int
    settled: int
    arrived: int  # rows, in all
    busy: dict[str, float]  # by the part
    late_lookups: float  # the share of lookups that Redis did not answer in time
    row_lag_s: float  # the 99th percentile, from the end of a request until its row has arrived
    entry_lag_s: float  # the same, until an entry is in the index of a replica

    @property
    def limits(self) -> list[str]:
        """Return the parts that do not keep up, the busiest first."""
        found = {name for name in (CORE, COMMANDS, NETWORK) if self.busy[name] >= BUSY}
        if self.late_lookups > LATE_SHARE and CORE not in found:
            found.add(max(COMMANDS, NETWORK, key=lambda name: self.busy[name]))
        if self.row_lag_s > LAG_S and CORE not in found:  # pages grow with what waits, so it is no fault to be busy
            found.add(ROWS)
        if self.entry_lag_s > LAG_S or (CORE in found and self.busy[TAILING] > self.busy[CORE] / 2):
            found = (found - {CORE}) | {TAILING}
        return sorted(found, key=lambda name: -self.busy[name])


class Service:
    """Runs one load."""

    def __init__(self, costs: Costs, load: Load) -> None:
        self._costs, self._load = costs, load
        self._random = Random(load.seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._end = WARM_S + load.seconds
        self._redis, self._network, self._lock = Line(self._end), Line(self._end), Line(self._end)
        self._replicas = [Replica(Line(self._end)) for _ in range(load.replicas)]
        self._tail_s = 0.0  # of the replicas: what entries of others have cost them
        self._entries: list[float] = []  # when they came into the stream
        self._requests = self._settled = self._arrived = self._lookups = self._late = 0
        self._row_lags: list[float] = []
        self._entry_lags: list[float] = []

    def run(self) -> Figures:
        """Run it to its end."""
        load, end = self._load, self._end
        self._at(self._random.expovariate(load.rate), self._ask)
        for replica in self._replicas:
            self._at(self._random.uniform(0, BEAT_S), self._beat)
            self._at(self._random.uniform(0, EVERY_S), self._ship, replica)
            if load.entries:
                self._at(self._random.uniform(0, TAIL_S), self._tail, replica)
        while self._events and self._events[0][0] <= end:
            now, _, work, arguments = heapq.heappop(self._events)
            work(now, *arguments)
        waiting = [end - row for replica in self._replicas for row in replica.rows]
        unread = [
            end - added for replica in self._replicas for added in self._entries[replica.seen :] if added >= WARM_S
        ]
        cores = [replica.core.busy_s for replica in self._replicas]
        busy = {
            CORE: sum(cores) / len(cores),
            COMMANDS: self._redis.busy_s,
            NETWORK: self._network.busy_s,
            ROWS: self._lock.busy_s,
            TAILING: self._tail_s / len(cores),
        }
        return Figures(
            requests=self._requests,
            settled=self._settled,
            arrived=self._arrived,
            busy={name: seconds / load.seconds for name, seconds in busy.items()},
            late_lookups=self._late / max(1, self._lookups),
            row_lag_s=_p99(self._row_lags + waiting),
            entry_lag_s=_p99(self._entry_lags + unread),
        )

    def _at(self, when: float, work: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), work, arguments))

    def _asked_redis(self, now: float, takes_s: float, bytes_: float) -> float:
        """Return when Redis has answered."""
        sent = self._network.served(now, bytes_ / self._load.bandwidth)
        return self._redis.served(sent, takes_s)

    def _ask(self, now: float) -> None:
        """A request comes, and the next one is on its way."""
        self._requests += 1
        replica = self._random.choice(self._replicas)
        done = replica.core.served(now, self._costs.hit_s)
        if self._random.random() < self._load.own_hits:
            self._at(done, self._settle, replica)
        else:
            self._at(done, self._find, replica)
        self._at(now + self._random.expovariate(self._load.rate), self._ask)

    def _find(self, now: float, replica: Replica) -> None:
        """It is looked for in Redis; then a model is asked."""
        costs = self._costs
        found_at = self._asked_redis(now, costs.redis_find_s, costs.find_bytes)
        replica.core.served(now, costs.find_s)
        if now >= WARM_S:
            self._lookups += 1
            self._late += found_at - now > LOOKUP_S
        is_found = self._random.random() * (1 - self._load.own_hits) < self._load.other_hits
        if is_found and found_at - now <= LOOKUP_S:
            self._at(found_at, self._settle, replica)
        else:
            begins = min(found_at, now + LOOKUP_S)
            self._at(begins + self._random.expovariate(1 / MODEL_S), self._answered, replica)

    def _answered(self, now: float, replica: Replica) -> None:
        """A model has answered: it is shown, and stored behind the request."""
        costs = self._costs
        self._at(replica.core.served(now, costs.answer_s - costs.hit_s + costs.store_s), self._shown, replica)

    def _shown(self, now: float, replica: Replica) -> None:
        self._settle(now, replica)
        replica.to_store += 1
        if not replica.is_storing:
            self._store(now, replica)
        if self._random.random() < self._load.entries:
            self._at(self._asked_redis(now, self._costs.redis_add_s, self._costs.entry_bytes), self._add)

    def _store(self, now: float, replica: Replica) -> None:
        """What waits goes to Redis in one pipeline, then what came meanwhile."""
        count = min(AT_ONCE, replica.to_store)
        replica.to_store -= count
        replica.is_storing = count > 0
        if count:
            costs = self._costs
            done = self._asked_redis(now, count * costs.redis_store_s, count * costs.store_bytes)
            self._at(done, self._store, replica)

    def _settle(self, now: float, replica: Replica) -> None:
        self._settled += 1
        replica.rows.append(now)

    def _ship(self, now: float, replica: Replica) -> None:
        """A page of rows arrives in PostgreSQL, one sender after the other."""
        count = min(PAGE, len(replica.rows))
        if not count:
            self._at(now + EVERY_S, self._ship, replica)
            return
        costs = self._costs
        replica.core.served(now, count * costs.ship_s)
        done = self._lock.served(now, costs.page_s + costs.sync_s + count * costs.row_s)
        self._at(done, self._arrive, replica, count)

    def _arrive(self, now: float, replica: Replica, count: int) -> None:
        self._arrived += count
        for _ in range(count):
            ended = replica.rows.popleft()
            if ended >= WARM_S:
                self._row_lags.append(now - ended)
        self._at(now + (0.0 if count == PAGE else EVERY_S), self._ship, replica)

    def _beat(self, now: float) -> None:
        costs = self._costs
        self._redis.served(now, costs.redis_beat_s + costs.redis_beat_each_s * self._load.replicas)
        self._at(now + BEAT_S, self._beat)

    def _add(self, now: float) -> None:
        """An entry is in the stream."""
        self._entries.append(now)

    def _tail(self, now: float, replica: Replica) -> None:
        """A replica looks for what is new in the stream."""
        fresh = self._entries[replica.seen : replica.seen + PAGE]
        replica.seen += len(fresh)
        if fresh:
            costs = self._costs
            read = self._asked_redis(now, len(fresh) * costs.redis_tail_s, len(fresh) * costs.entry_bytes)
            self._at(read, self._insert, replica, fresh)
        else:
            self._at(now + TAIL_S, self._tail, replica)

    def _insert(self, now: float, replica: Replica, fresh: list[float]) -> None:
        """A few entries come into the index; between such steps other work has its turn. Then it looks again."""
        step, rest = fresh[:STEP], fresh[STEP:]
        takes_s = len(step) * self._costs.insert_s
        done = replica.core.served(now, takes_s)
        if now >= WARM_S:
            self._tail_s += max(0.0, min(done, self._end) - max(done - takes_s, WARM_S))
        self._entry_lags += [done - added for added in step if added >= WARM_S]
        if rest:
            self._at(done, self._insert, replica, rest)
        else:
            self._at(done + TAIL_S, self._tail, replica)


def bound(costs: Costs, load: Load) -> float:
    """Return the rate at which some part is busy all the time, by arithmetic alone."""
    model = 1 - load.own_hits - load.other_hits
    looked, entries = 1 - load.own_hits, model * load.entries
    of_core = costs.hit_s + looked * costs.find_s + costs.ship_s
    of_core += model * (costs.answer_s - costs.hit_s + costs.store_s)
    of_redis = looked * costs.redis_find_s + model * costs.redis_store_s
    of_redis += entries * (costs.redis_add_s + load.replicas * costs.redis_tail_s)
    of_network = (
        looked * costs.find_bytes + model * costs.store_bytes + entries * costs.entry_bytes * (1 + load.replicas)
    )
    of_lock = costs.row_s + (costs.page_s + costs.sync_s) / PAGE
    shares = (of_core / load.replicas + entries * costs.insert_s, of_redis, of_network / load.bandwidth, of_lock)
    return 1 / max(shares)


def carried(costs: Costs, load: Load, rates: tuple[float, float], steps: int) -> float:
    """Return the highest rate at which every part keeps up, between two that are known to be too low and too high."""
    low, high = rates
    for _ in range(steps):
        middle = (low + high) / 2
        if Service(costs, replace(load, rate=middle)).run().limits:
            high = middle
        else:
            low = middle
    return low


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))] if values else 0.0
