"""A URL that is told of each step of a budget: a POST of JSON, off the way of all requests, again until it is taken."""

import asyncio
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from millrace import log
from millrace.types.budget import Reached

if TYPE_CHECKING:
    import aiohttp

MOST = 1000  # notices that wait; of more, the oldest is dropped
TIMEOUT_S = 10.0
PAUSES_S = (1.0, 5.0, 30.0, 120.0, 600.0)  # between two attempts; after the last one the notice is given up
LAST_S = 2.0  # for what waits at the end of the process


class Webhook:
    """Sends notices in order, one at a time. `run` does it; `tell` never waits."""

    def __init__(self, url: str | None, key: str, pauses_s: tuple[float, ...]) -> None:
        self.renew(url, key)
        self._pauses_s = pauses_s
        self._waiting: deque[Reached] = deque(maxlen=MOST)
        self._wakes = asyncio.Event()
        self._http: aiohttp.ClientSession | None = None  # opened for the first notice

    def renew(self, url: str | None, key: str) -> None:
        """Send to another URL from now on, what waits too; None: nobody is told."""
        self._url = url
        self._headers = {"Content-Type": "application/json", "User-Agent": "millrace"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def tell(self, reached: Reached) -> None:
        """Have a step told. Never waits."""
        if self._url is not None:
            self._waiting.append(reached)
            self._wakes.set()

    async def run(self) -> None:
        """Send what is told, until it is cancelled; then what waits has two seconds more."""
        try:
            await self._send_all()
        finally:
            if self._http is not None:
                await self._http.close()

    async def _send_all(self) -> None:
        try:
            while True:
                self._wakes.clear()
                while self._waiting:
                    await self._send(self._waiting[0], self._pauses_s)
                    self._waiting.popleft()
                await self._wakes.wait()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    while self._waiting:
                        await self._send(self._waiting.popleft(), ())

    async def _send(self, reached: Reached, pauses_s: tuple[float, ...]) -> None:
        notice = notice_of(reached)
        for pause_s in (*pauses_s, None):
            why = await self._post(notice)
            if why is None:
                return
            if pause_s is None or why.startswith("4"):
                log.get().warning("the webhook was not told of a budget", notice=notice["id"], reason=why)
                return
            await asyncio.sleep(pause_s)

    async def _post(self, notice: dict[str, Any]) -> str | None:
        """Send one; return None if it was taken, else why not: the status, or what is wrong with the connection."""
        aiohttp = await asyncio.to_thread(import_module, "aiohttp")  # a slow import, and few budgets run out
        if self._url is None:
            return None
        self._http = self._http or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S))
        body = msgspec.json.encode(notice)
        try:
            async with self._http.post(self._url, data=body, headers=self._headers, allow_redirects=False) as answer:
                is_taken = answer.status < 300  # noqa: PLR2004 - all that mean success
                return None if is_taken else "later" if answer.status in (408, 425, 429) else str(answer.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return type(error).__name__  # its text may repeat the URL


def notice_of(reached: Reached) -> dict[str, Any]:
    """Return the JSON of a notice. `id` is the same however often it is sent."""
    account, began = reached.account, datetime.fromtimestamp(reached.began_at, UTC)
    where = [account.kind.value, account.tenant, *([account.name] if account.name else [])]
    return {
        "type": "millrace.budget",
        "id": "/".join([*where, f"{reached.period}:{began:%Y-%m-%d}", reached.step.value]),
        "step": reached.step.value,
        "account": {"kind": account.kind.value, "tenant": account.tenant, "name": account.name},
        "period": reached.period.value,
        "spent_usd": float(reached.spent),
        "limit_usd": float(reached.limit),
        "left_usd": max(0.0, float(reached.limit - reached.spent)),
        "resets_at": int(reached.resets_at),
    }
