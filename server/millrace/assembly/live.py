"""The settings of a process, which it reads anew while it runs (PROTOCOL.md, Live settings)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import msgspec

from millrace import log
from millrace.access.gate import Gate
from millrace.access.origins import Origins
from millrace.accounts.dashboard.dashboard import Dashboard
from millrace.assembly import evidence as judging, models, router as routing
from millrace.assembly.background import running
from millrace.assembly.budgets import limits_of, rules_of, steps_of
from millrace.assembly.funnel import LiveFunnels
from millrace.caches.embedders.chosen import Embedders
from millrace.evidence.evidence import Evidence
from millrace.evidence.report import Reports
from millrace.funnel.routing.report import RouterReports
from millrace.ports import Clock
from millrace.runs.asking import Asking
from millrace.runs.embeddings import Embeddings
from millrace.settings import BudgetsSettings, CacheSettings, Fault, Settings, SettingsError
from millrace.settings.changes import Source, merged
from millrace.stores.limits import MemoryLimiter
from millrace.stores.reloads import SqliteReloads
from millrace.upstreams.connections import Connections
from millrace.wire.documents import Configuration
from millrace.wire.reload import Reloaded, ReloadFault


class LiveSettings:
    """Reads the settings anew and has all parts of the process work by them. What runs keeps those it began with."""

    def __init__(  # noqa: PLR0913, PLR0917 - what settings change
        self,
        settings: Settings,
        source: Source | None,
        funnels: LiveFunnels,
        connections: Connections,
        gate: Gate,
        limiter: MemoryLimiter,
        renew_webhook: Callable[[BudgetsSettings], None],
        embeddings: Embeddings,
        asking: Asking,
        evidence: Evidence | None,
        embedders: Embedders,
        renew_caches: Callable[[CacheSettings], None],
        reports: Reports,
        router_reports: RouterReports,
        wall: Clock,
    ) -> None:
        """`source` None: there is no file that could be read."""
        self.dashboard: Dashboard | None = None
        self.tell: Callable[[], None] = lambda: None  # has the other workers of the server reload
        self._started = self._now = settings
        self._source = source
        self._funnels = funnels
        self._connections = connections
        self._gate = gate
        self._limiter = limiter
        self._renew_webhook = renew_webhook
        self._embeddings = embeddings
        self._asking = asking
        self._evidence = evidence
        self._embedders = embedders
        self._renew_caches = renew_caches
        self._reports = reports
        self._router_reports = router_reports
        self._wall = wall
        self._turn = asyncio.Lock()
        self.state = Configuration(read_at=wall(), refused_at=None, needs_restart=[])

    @property
    def current(self) -> Settings:
        """The settings that hold now."""
        return self._now

    async def reload(self, *, tells: bool = True) -> Reloaded:
        """Read the configuration and change what can change. A bad one changes nothing. It is told in the log too.

        `tells`: other workers do the same, unless it has faults.
        """
        source = self._source or _NO_FILE
        async with self._turn:
            reloaded = await self._reloaded(source)
            if reloaded.faults:
                self.state.refused_at = self._wall()
            else:
                self.state = Configuration(self._wall(), None, reloaded.needs_restart)
                if tells:
                    self.tell()
        return reloaded

    async def _reloaded(self, source: Source) -> Reloaded:
        try:
            changed, restart = await self._changed(source)
        except SettingsError as error:
            log.get().error("configuration refused", file=source.name, faults=[*map(str, error.faults)])
            faults = [ReloadFault(path=fault.path, message=fault.message) for fault in error.faults]
            return Reloaded(read=source.name, faults=faults)
        except Exception as error:
            log.get().error("configuration not read", file=source.name, exc_info=error)
            message = "the server failed while it read it, and goes on as before; look at its log"
            return Reloaded(read=source.name, faults=[ReloadFault(path="configuration", message=message)])
        log.get().info("configuration read", file=source.name, changed=changed, needs_restart=restart)
        return Reloaded(read=source.name, changed=changed, needs_restart=restart)

    async def _changed(self, source: Source) -> tuple[list[str], list[str]]:
        found = merged(self._started, self._now, await asyncio.to_thread(source.read))
        if found.changed:
            begin = await asyncio.to_thread(self._prepared, found.settings)
            begin()
            self._now = found.settings
        return found.changed, found.restart

    def _prepared(self, settings: Settings) -> Callable[[], None]:
        """Build what new settings need, which changes nothing, and return what has the process work by them."""
        configured = self._funnels.built(settings)
        served = models.served_embeddings(settings, self._connections, self._wall)
        panel = judging.panel_of(settings.evidence, self._embedders, self._asking)
        shares, steered = judging.shares_of(settings.evidence), judging.steered_by(settings.cache, self._embedders)
        promises = judging.promises_of(settings.evidence, settings.cache)
        limits, rules, steps = limits_of(settings.limits), rules_of(settings.limits), steps_of(settings.budgets)
        is_limited_anew = (settings.limits, settings.budgets) != (self._now.limits, self._now.budgets)

        def begin() -> None:
            self._funnels.begin(configured)
            self._embeddings.served = served
            self._asking.limit(settings.evidence.dollars_per_day)
            if self._evidence is not None:
                self._evidence.renew(panel, shares, *steered)
            self._renew_caches(settings.cache)
            self._reports.promises = promises
            self._router_reports.promises = lambda: routing.promises_of(settings.router, self._wall)
            self._router_reports.learns = settings.router.learns
            self._gate.keyring.set_defaults(limits)
            if is_limited_anew:  # also if only the keys' own defaults differ: a budget may be new to an account
                self._limiter.configure(rules, steps)
            self._renew_webhook(settings.budgets)
            self._gate.origins = Origins(settings.server.origins)
            if self.dashboard is not None:
                self.dashboard.operators = settings.dashboard.operators

        return begin


@asynccontextmanager
async def heeding(live: LiveSettings, reloads: SqliteReloads) -> AsyncIterator[Callable[[], None]]:
    """Reload where other processes ask for it. Yield what ends that early."""

    async def reload() -> bytes:
        return msgspec.json.encode(await live.reload())

    async with running(reloads.follow(reload)) as end:
        yield end


async def asked(reloads: SqliteReloads) -> Reloaded:
    """Have the server reload, from another process. Raises `TimeoutError` if it does not answer."""
    return msgspec.json.decode(await reloads.ask(), type=Reloaded)


def _without_file() -> NoReturn:
    raise SettingsError([Fault("configuration", "this server was started without a file that it could read anew")])


_NO_FILE = Source("no file", _without_file)
