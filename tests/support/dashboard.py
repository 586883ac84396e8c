"""What a user of the dashboard does and sees, and what looks whether everybody can use it."""

import asyncio
import time
from typing import Any

import aiohttp
from playwright.async_api import CDPSession, Page, expect

from tests.support.http_client import RESPONSES
from tests.support.paths import REPOSITORY

AXE = REPOSITORY / "tests" / "js" / "node_modules" / "axe-core" / "axe.min.js"
QUESTIONS = ("What is a millrace?", "Why is the sky blue?", "What is a millrace?", "Why is the sky dark at night?")
WHAT_IS_WRONG = """async () => (await axe.run()).violations.map(
    ({id, help, nodes}) => `${id}: ${help}: ${nodes.map((node) => node.target.join(' ')).slice(0, 4).join(', ')}`)"""


async def figures_of(page: Page) -> None:
    """Wait until there are figures."""
    await expect(page.locator("#main")).to_have_attribute("aria-busy", "false")


async def asked(url: str, *questions: str, **fields: Any) -> list[str]:
    """Ask over HTTP; return the ids of the answers."""
    ids = []
    async with aiohttp.ClientSession(url) as http:
        for question in questions or QUESTIONS:
            async with http.post(RESPONSES, json={"input": question, "model": "auto", **fields}) as answer:
                ids.append((await answer.json())["id"])
    return ids


async def violations(page: Page) -> list[str]:
    """Return what axe-core finds. It is given to the page as a debugger would, which no CSP hinders."""
    await page.evaluate(AXE.read_text("utf-8") + ";0")
    found: list[str] = await page.evaluate(WHAT_IS_WRONG)
    return found


async def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than the window."""
    wider: int = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wider


async def busy(page: Page, seconds: float) -> tuple[float, float]:
    """Return which share of some seconds the page's main thread has a task: of the clock, and of CPU time."""
    sessions = []
    for domain in ("timeTicks", "threadTicks"):  # what is counted begins when a session is enabled
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable", {"timeDomain": domain})
        sessions.append(session)
    before, begun = [await _worked_s(each) for each in sessions], time.perf_counter()
    await asyncio.sleep(seconds)
    after, passed = [await _worked_s(each) for each in sessions], time.perf_counter() - begun
    by_clock, by_cpu = [round((end - start) / passed, 4) for start, end in zip(before, after, strict=True)]
    return by_clock, by_cpu


async def _worked_s(session: CDPSession) -> float:
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    found: float = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
    return found
