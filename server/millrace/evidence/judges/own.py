"""Judges that users write: functions that a distribution names in the entry point group `millrace.judges`.

One that cannot be loaded is left out with a warning. One that raises, or returns anything but true, false or None, says
nothing, which is logged once. None of it is logged with a text, and no error of theirs, which may quote one.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from millrace import log
from millrace.types import Says

GROUP = "millrace.judges"
WITHIN_S = 20.0  # that one may take
AT_ONCE = 2  # calls of one judge in threads, also of those that hang; more are not begun

TAKEN = frozenset({"equal", "facts", "likeness", "model", "feedback"})  # names
Function = Callable[[str, str, str], Any]  # of the question, the earlier and the fresh answer

_SAYS: dict[bool | None, Says] = {True: Says.SAME, False: Says.DIFFERENT, None: Says.UNSURE}


class OwnJudge:
    """A judge of the user's: true says that two answers are the same, false that they differ, None nothing."""

    def __init__(self, name: str, function: Function, within_s: float = WITHIN_S) -> None:
        self.name = name
        self._function = function
        self._within_s = within_s
        self._threads = 0
        self._has_failed = False

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Return what the function says. It may take long; a function that is not async runs in a thread."""
        try:
            async with asyncio.timeout(self._within_s):
                if _is_async(self._function):
                    said = await self._function(question, earlier, fresh)
                else:
                    said = await self._in_thread(question, earlier, fresh)
        except Exception as error:
            return self._failed(type(error).__name__)
        if said is not None and not isinstance(said, bool):
            return self._failed(f"it returned {type(said).__name__}, not true, false or None")
        return _SAYS[said]

    async def _in_thread(self, *texts: str) -> object:
        """Run the function in a daemon thread of its own: one that hangs keeps no pool busy and no process alive."""
        if self._threads >= AT_ONCE:
            raise TimeoutError
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()
        self._threads += 1

        def finish(said: object, error: Exception | None) -> None:
            self._threads -= 1
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(said)

        def run() -> None:
            said: object = None
            failed: Exception | None = None
            try:
                said = self._function(*texts)
            except StopIteration:
                failed = RuntimeError("StopIteration")  # a future takes none
            except Exception as error:
                failed = error
            except BaseException as error:  # such as SystemExit, which must not end the thread unseen
                failed = RuntimeError(type(error).__name__)
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, said, failed)

        threading.Thread(target=run, name=f"millrace-judge-{self.name}", daemon=True).start()
        return await done

    def _failed(self, why: str) -> Says:
        if not self._has_failed:
            self._has_failed = True
            log.get().warning("a judge of yours failed, and says nothing then", judge=self.name, error=why)
        return Says.UNSURE


def own_judges(found: Iterable[EntryPoint] | None = None) -> list[OwnJudge]:
    """Return the judges that are installed, by name. One that cannot be loaded is left out with a warning."""
    judges: dict[str, OwnJudge] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP) if found is None else found, key=lambda point: point.name):
        try:
            function = point.load()
        except Exception as error:
            broken[f"{point.name} = {point.value}"] = type(error).__name__
            continue
        if not callable(function):
            broken[f"{point.name} = {point.value}"] = "no function"
        elif point.name in TAKEN or point.name in judges:
            broken[f"{point.name} = {point.value}"] = "the name is taken"
        else:
            judges[point.name] = OwnJudge(point.name, function)
    if broken:
        remedy = f"correct or uninstall the distributions that have them in their entry points {GROUP!r}"
        log.get().warning("judges of yours are left out", judges=broken, remedy=remedy)
    return list(judges.values())


def _is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
