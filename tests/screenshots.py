"""Take the screenshots of the docs, of a real server in a real Chromium, with traffic that might have been.

    python -m tests.screenshots [--into docs/images] [NAME ...]

Look at them before you commit them.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import uvloop
from playwright.async_api import Browser, Page, expect
from rich.console import Console
from rich.progress import track

from millrace import log
from tests.support.browser import ask, launched_browser
from tests.support.dashboard import asked, figures_of
from tests.support.past_traffic import fill, over_days
from tests.support.paths import REPOSITORY
from tests.support.server import started

INTO = REPOSITORY / "docs" / "images"
REQUESTS, DAYS = 12_000, 2.0
LIMITS = {"tenant": {"dollars_per_day": "60"}, "user": {"dollars_per_day": "20"}, "tag": {"dollars_per_month": "900"}}
DESK, PHONE = (1440, 1100), (390, 844)


@asynccontextmanager
async def dashboard(browser: Browser, url: str, size: tuple[int, int], scheme: Any) -> AsyncIterator[Page]:
    """Open the dashboard, with its figures and some seconds of what is live."""
    page = await browser.new_page(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, device_scale_factor=1
    )
    await page.goto(f"{url}/dashboard/")
    await figures_of(page)
    await expect(page.locator("#behind")).to_be_hidden(timeout=60_000)
    await expect(page.locator("#link")).to_have_text("Live")
    await expect(page.locator("#card-promises tbody tr").first).to_be_visible()
    yield page
    await page.close()


async def light(browser: Browser, url: str, file: Path) -> None:
    async with dashboard(browser, url, DESK, "light") as page:
        await page.screenshot(path=file, animations="disabled")


async def dark(browser: Browser, url: str, file: Path) -> None:
    async with dashboard(browser, url, DESK, "dark") as page:
        await page.evaluate("document.getElementById('over-time').scrollIntoView()")
        await page.screenshot(path=file, animations="disabled")


async def phone(browser: Browser, url: str, file: Path) -> None:
    async with dashboard(browser, url, PHONE, "light") as page:
        await page.screenshot(path=file, animations="disabled")


async def story(browser: Browser, url: str, file: Path) -> None:
    async with dashboard(browser, url, DESK, "light") as page:
        await page.select_option("#filter-source", "large")
        revised = page.locator("#requests-table tr", has_text="It was unsure").filter(has_text="shop")
        await revised.first.locator(".open").click()
        await expect(page.locator("#story-body section").first).to_be_visible()
        await page.screenshot(path=file, animations="disabled")


async def playground(browser: Browser, url: str, file: Path) -> None:
    """A small model's words are taken back, and a large model's follow."""
    page = await browser.new_page(viewport={"width": DESK[0], "height": DESK[1]}, color_scheme="light")
    await page.goto(url)
    await expect(page.locator("#link")).to_have_text("Connected")
    await ask(page, "Prove that the square root of 2 is irrational.")  # that is in no cache yet
    await expect(page.locator("#stage")).to_have_attribute("data-stage", "large")
    await page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    await page.screenshot(path=file, animations="disabled")


async def side_by_side(browser: Browser, url: str, file: Path) -> None:
    page = await browser.new_page(viewport={"width": DESK[0], "height": DESK[1]}, color_scheme="dark")
    await page.goto(url)
    await expect(page.locator("#link")).to_have_text("Connected")
    await page.check("#mode-race")
    await ask(page, "Tell me a story. [ttft.small=0.3] [ttft.large=0.9] [rate.small=120] [rate.large=50] [tokens=90]")
    await expect(page.locator("#ask")).to_be_enabled(timeout=30_000)
    await page.screenshot(path=file, animations="disabled")


SHOTS: dict[str, Callable[[Browser, str, Path], Awaitable[None]]] = {
    "dashboard": light,
    "dashboard-dark": dark,
    "dashboard-phone": phone,
    "dashboard-story": story,
    "playground": playground,
    "playground-race": side_by_side,
}


async def take(names: list[str], into: Path, console: Console) -> None:
    """Take the pictures with these names."""
    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(fill, folder, over_days(time.time(), DAYS, REQUESTS, tenant="anonymous"))

        def change(configuration: dict[str, Any]) -> None:
            configuration["server"]["data_dir"] = folder
            configuration["limits"] = LIMITS
            configuration["cache"] = {"max_wrong_hit_rate": 0.02}

        async with started(change) as running, launched_browser() as browser:
            await asked(running.url)
            for name in track(names, "Taking pictures", console=console):
                await SHOTS[name](browser, running.url, into / f"{name}.png")


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(sorted(SHOTS)))
@click.option("--into", default=INTO, show_default="docs/images", type=click.Path(path_type=Path, file_okay=False))
def main(names: tuple[str, ...], into: Path) -> None:
    """See above."""
    uvloop.install()
    log.configure(level="warning")
    into.mkdir(parents=True, exist_ok=True)
    asyncio.run(take([*(names or SHOTS)], into, Console(stderr=True)))
    for file in sorted(into.glob("*.png")):
        click.echo(file)


if __name__ == "__main__":
    main()
