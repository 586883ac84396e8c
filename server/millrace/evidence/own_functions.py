"""Functions that users write: a distribution names them in a group of entry points.

One that cannot be loaded is left out with a warning. One that raises, or takes too long, says nothing, which is logged
once. None of it is logged with a text, and no error of theirs, which may quote one.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable, Collection, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from millrace import log

Function = Callable[..., Any]  # of texts


class OwnFunction:
    """One of them. `kind` is what it is, in the log: a judge or a check."""

    def __init__(self, kind: str, name: str, function: Function, *, within_s: float, at_once: int) -> None:
        self._kind = kind
        self._name = name
        self._function = function
        self._within_s = within_s
        self._at_once = at_once  # calls in threads, also of those that hang; more are not begun
        self._threads = 0
        self._has_failed = False

    async def verdict(self, *texts: str) -> bool | None:
        """Return what the function returns: true, false or None; None if it fails. If not async it runs in a thread."""
        try:
            async with asyncio.timeout(self._within_s):
                if _is_async(self._function):
                    said = await self._function(*texts)
                else:
                    said = await self._in_thread(*texts)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failed(type(error).__name__)  # its own doing: nobody has cancelled the request
            return None
        except Exception as error:
            self._failed(type(error).__name__)
            return None
        if said is not None and not isinstance(said, bool):
            self._failed(f"it returned {type(said).__name__}, not true, false or None")
            return None
        return said

    async def _in_thread(self, *texts: str) -> object:
        """Run the function in a daemon thread of its own: one that hangs keeps no pool busy and no process alive."""
        if self._threads >= self._at_once:
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

        threading.Thread(target=run, name=f"millrace-{self._kind}-{self._name}", daemon=True).start()
        return await done

    def _failed(self, why: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            message = f"a {self._kind} of yours failed, and says nothing then"
            log.get().warning(message, **{self._kind: self._name}, error=why)


def own_functions(
    kind: str, group: str, taken: Collection[str], found: Iterable[EntryPoint] | None = None
) -> dict[str, Function]:
    """Return the functions that are installed, by name. What cannot be loaded is left out with a warning.

    `taken` are names that none may have. `found` are the entry points, those of the group if they are not given.
    """
    functions: dict[str, Function] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=group) if found is None else found, key=lambda point: point.name):
        try:
            function = point.load()
        except Exception as error:
            broken[f"{point.name} = {point.value}"] = type(error).__name__
            continue
        if not callable(function):
            broken[f"{point.name} = {point.value}"] = "no function"
        elif point.name in taken or point.name in functions:
            broken[f"{point.name} = {point.value}"] = "the name is taken"
        elif not point.name.isidentifier():
            broken[f"{point.name} = {point.value}"] = "the name is no identifier"
        else:
            functions[point.name] = function
    if broken:
        remedy = f"correct or uninstall the distributions that have them in their entry points {group!r}"
        log.get().warning(f"{kind}s of yours are left out", **{f"{kind}s": broken}, remedy=remedy)
    return functions


def _is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
